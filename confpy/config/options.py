"""What a row of the table of settings is, and what the table of stores says of a store."""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast, dataclass_transform

from confpy.config.kinds import Kind

T = TypeVar("T")


class Word(NamedTuple):
    """A flag, which is as well a key of the settings file and may be a variable of the fork's."""

    name: str
    """Its name in a file."""
    means: tuple[str, ...] = ()
    """The settings that get its value; none where it has no meaning here."""
    hint: str = ""
    """Why it has none, or what it was taken for, and what to do; there is no warning without one."""
    truth: bool = False
    """It is true or false, and as a flag takes a value only behind ``=``."""

    @property
    def flag(self) -> str:
        """Its name as a flag, without dashes."""
        return self.name.replace("_", "-")


class Option(NamedTuple):
    """A row: one setting, with all its names."""

    name: str
    kind: Kind
    default: object
    group: str
    help: str
    unset: str
    """What the default means where it is no plain value."""
    flag: str
    """Without dashes."""
    keys: tuple[str, ...]
    """In the file, the documented one first; none where a file cannot set it."""
    variables: tuple[str, ...]
    words: tuple[Word, ...]
    """What confd and its fork call it."""

    @property
    def shown_default(self) -> str:
        """The default as ``--help`` and the manual show it; empty where there is nothing to show."""
        if self.unset:
            return self.unset
        if isinstance(self.default, float):
            return f"{self.default:g}s"
        return "" if isinstance(self.default, bool) else str(self.default or "")


class Row(NamedTuple):
    """A row as it is written: what ``Option`` has of it."""

    group: str
    default: object
    kind: Kind
    help: str
    unset: str
    flag: str
    keys: tuple[str, ...] | None


def setting(
    group: str,
    default: T,
    kind: Kind,
    help: str,  # noqa: A002  # what it is
    *,
    unset: str = "",
    flag: str = "",
    keys: tuple[str, ...] | None = None,
) -> T:
    """Make a row of the table, below the heading ``group``; names that are not given are made of the field's."""
    return cast("T", Row(group, default, kind, help, unset, flag, keys))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def rows(cls: type[T]) -> type[T]:
    """Mark a class whose rows are settings; ``Settings`` has them, too."""
    return cls


class Variable(NamedTuple):
    """A variable that a store's own tools read, and the setting that it is for."""

    name: str
    setting: str
    kind: Kind | None = None
    """How its value is written, if not as that of the setting."""


class StoreOptions(NamedTuple):
    """What is to be known of a store before it is opened."""

    name: str
    """What ``backend`` calls it."""
    code: str
    """``module:class``, loaded when the store is opened."""
    nodes: tuple[str, ...] = ()
    """The addresses to try if none is given, in this order."""
    port: int = 0
    """The port of an address that has none."""
    variables: tuple[tuple[Variable, ...], ...] = ()
    """Variables that count if neither flags nor ``CONFPY_*`` nor the file set theirs. Those of a group are taken
    together or not at all; the first that is set counts for its setting."""
    in_fork: tuple[str, ...] = ()
    """What else confd's fork calls it on the command line, as in ``confpy etcd -watch``."""
    extra: str = ""
    """What to install for it beside confpy itself, as in ``pip install 'confpy[redis]'``; empty: nothing."""
    registrar: str = ""
    """``module:class`` of what registers keys in it; empty: nothing can."""
    service_registrar: str = ""
    """The same, for services."""
