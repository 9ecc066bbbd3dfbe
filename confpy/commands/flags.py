"""The flags of all commands, made from the table of settings and from confd's words."""

from __future__ import annotations

from typing import Any

import click

from confpy.config import confd
from confpy.config.kinds import BOOLEAN
from confpy.config.settings import OPTIONS
from confpy.errors import UsageError

SEE = "confpy help lists the flags"
FLAGS = {option.flag: option for option in OPTIONS}
TRUTHS = {option.flag for option in OPTIONS if option.kind is BOOLEAN}
TRUTHS |= {word.flag for word in confd.WORDS if word.truth}
KNOWN = FLAGS.keys() | {word.flag for word in confd.WORDS}


def parse(flags: tuple[str, ...]) -> dict[str, Any]:
    """Return flags, written as ``--name=value``, as text by setting; raises ``UsageError``."""
    try:
        given = (
            click.Command("confpy", params=parameters(), add_help_option=False)
            .make_context("confpy", list(flags))
            .params
        )
    except click.ClickException as error:
        raise UsageError(error.format_message(), hint=SEE) from error
    texts = {name: ",".join(text) if isinstance(text, tuple) else text for name, text in given.items() if text != ()}
    return {name: text for name, text in texts.items() if text is not None}


def parameters() -> list[click.Parameter]:
    """Return the flags as click has them."""
    options: list[click.Parameter] = [
        click.Option([f"--{option.flag}", option.name], multiple=isinstance(option.default, tuple))
        for option in OPTIONS
    ]
    options += [click.Option([f"--{word.flag}", word.name]) for word in confd.WORDS]
    options.append(click.Option(["--store"]))
    return options
