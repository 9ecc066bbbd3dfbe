"""What reload actions and verifiers share: the options they are read from, and JSON that names their kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from confpy.frozen import NOTHING, fields, frozen

T = TypeVar("T")
Written: TypeAlias = str | tuple[str, ...]
"""A TOML string, or the strings of a TOML list."""


@frozen
class Option:
    """An option of a resource that an action or a verifier is read from."""

    expects: str
    """What an error says was expected."""
    accept: Callable[[Written], object]
    """Read the value; raises ``ValueError``."""
    help: str
    """What it is for, in the manual's Markdown."""
    schema: Mapping[str, Any] = NOTHING
    """What JSON Schema says of its values, besides that they are strings."""
    type: str = "string"
    """What the manual calls its type."""
    secret: bool = False
    """No value is ever shown: it may hold a login."""


class UnknownKindError(ValueError):
    """A ledger speaks of an action or a verifier that this confpy does not know."""


def single(written: Written) -> str:
    """Return the string; raises ``ValueError`` for a list."""
    if not isinstance(written, str):
        raise ValueError
    return written


def signal_name(written: Written) -> str:
    """Return the name of a signal without the SIG that it may begin with; raises ``ValueError``."""
    from signal import Signals

    name = single(written).upper().removeprefix("SIG")
    if f"SIG{name}" not in Signals.__members__:
        raise ValueError
    return name


def to_json(value: Any) -> dict[str, Any]:
    """Return an action or a verifier as JSON can hold it, with its kind; what is empty is left out."""
    return {"kind": value.kind, **{name: it for name, it in fields(value).items() if it}}


def from_json(written: object, kinds: Mapping[str, type[T]]) -> T:
    """Return what ``to_json`` has written; raises ``UnknownKindError`` for another kind, or one with other fields."""
    if not isinstance(written, dict):
        raise UnknownKindError("it has no kind")
    values = {name: tuple(it) if isinstance(it, list) else it for name, it in written.items()}
    cls = kinds.get(str(values.pop("kind", "")))
    if cls is None:
        raise UnknownKindError(f"the kind {written.get('kind')!r} is not known")
    try:
        # A field that this confpy does not know may say what must not be left out.
        return cls(**values)
    except TypeError:
        raise UnknownKindError(f"the kind {written['kind']!r} has other fields than are known") from None
