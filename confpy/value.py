"""Frozen values: what frozen dataclasses with slots are, for a sixth of what those cost a start.

Python compiles six methods for each such dataclass, most of them for nothing: of a hundred classes a one-shot uses
some thirty. Here a method is compiled when it is first called; ``docs/decisions/0008-values.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform


class _Compiled:
    """A method that is written for a class when it is first asked for, and then takes its place there."""

    def __init__(self, name: str, write: Callable[[type[Value]], str]) -> None:
        self._name = name
        self._write = write

    def __get__(self, value: Value | None, kind: type[Value]) -> Any:
        names: dict[str, Any] = {"_set": object.__setattr__, "_defaults": kind.__defaults__}
        exec(self._write(kind), names)  # noqa: S102  # the fields' names, which stand in our own source
        method = names[self._name]
        setattr(kind, self._name, method)
        return method.__get__(value, kind)


def _init(kind: type[Value]) -> str:
    given = [f"{name}=_defaults[{name!r}]" if name in kind.__defaults__ else name for name in kind.__slots__]
    body = [f"_set(self, {name!r}, {name})" for name in kind.__slots__]
    return f"def __init__({', '.join(['self', *given])}):\n " + "\n ".join(body or ["pass"])


def _eq(kind: type[Value]) -> str:
    same = f"{_held(kind, 'self')} == {_held(kind, 'other')}"
    return f"def __eq__(self, other):\n return {same} if other.__class__ is self.__class__ else NotImplemented"


def _hash(kind: type[Value]) -> str:
    return f"def __hash__(self):\n return hash({_held(kind, 'self')})"


def _held(kind: type[Value], value: str) -> str:
    return f"({''.join(f'{value}.{name}, ' for name in kind.__slots__)})"


_WRITTEN = {"__init__": _init, "__eq__": _eq, "__hash__": _hash}
_METHODS = {name: _Compiled(name, write) for name, write in _WRITTEN.items()}


@dataclass_transform(frozen_default=True)
class _Kind(type):
    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _Kind:
        if bases and bases != (Value,):
            raise TypeError(f"{name}: a class of values has Value as its only base")
        written: dict[str, str] = body.get("__annotations__", {})
        fields = tuple(field for field, kind in written.items() if not kind.startswith("ClassVar"))
        defaults = {field: body.pop(field) for field in fields if field in body}
        shape = {"__slots__": fields, "__match_args__": fields, "__defaults__": defaults}
        return super().__new__(cls, name, bases, {**_METHODS, **body, **shape})


class Value(metaclass=_Kind):
    """What is annotated in a class below it are its fields. Equal are those of one class that hold the same.

    Defaults are shared: they have to be immutable. Annotations have to be text: ``from __future__ import annotations``.
    """

    __slots__: ClassVar[tuple[str, ...]]
    __defaults__: ClassVar[dict[str, object]]

    def __repr__(self) -> str:
        held = ", ".join(f"{name}={value!r}" for name, value in fields(self).items())
        return f"{type(self).__qualname__}({held})"

    if not TYPE_CHECKING:  # a type checker that sees it takes any name for one that can be set

        def __setattr__(self, name: str, _: object = None) -> None:
            raise AttributeError(f"{type(self).__qualname__} is frozen: {name} stays as it is")

        __delattr__ = __setattr__

    def __reduce__(self) -> tuple[type[Value], tuple[object, ...]]:
        return type(self), tuple(fields(self).values())


def fields(value: Value) -> dict[str, Any]:
    """Return what a value holds, by field."""
    return {name: getattr(value, name) for name in value.__slots__}


if TYPE_CHECKING:
    from dataclasses import replace as replace  # noqa: PLC0414  # with it mypy holds the changes against the fields
else:

    def replace(value: Value, /, **changes: object) -> Value:
        """Return a value that holds the same but for the changes; raises ``TypeError`` for what is no field."""
        return type(value)(**{**fields(value), **changes})
