"""The flags of all commands, made from the table of settings and from confd's words."""

from __future__ import annotations

from collections.abc import Iterable

from confpy.config import confd
from confpy.config.kinds import BOOLEAN
from confpy.config.settings import OPTIONS

SEE = "confpy help lists the flags"
FLAGS = {option.flag: option for option in OPTIONS}
TRUTHS = {option.flag for option in OPTIONS if option.kind is BOOLEAN}
TRUTHS |= {word.flag for word in confd.WORDS if word.truth}
KNOWN = FLAGS.keys() | {word.flag for word in confd.WORDS}
STORE = "store"
"""What stands for a store that is named before any command; it is no flag."""
NAMES = {STORE: STORE, **{flag: option.name for flag, option in FLAGS.items()}, **{w.flag: w.name for w in confd.WORDS}}
"""Flag → the setting or the word that it is."""
LISTS = {option.name for option in OPTIONS if isinstance(option.default, tuple)}


def parse(flags: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return flags with their values as text by setting: those of a list joined, of all others the last."""
    given: dict[str, str] = {}
    for flag, text in flags:
        name = NAMES[flag]
        given[name] = f"{given[name]},{text}" if name in LISTS and name in given else text
    return given
