"""``@frozen`` and ``@define``, attrs' words: what dataclasses with slots are, for a sixth of what those cost a start.

``dataclasses`` compiles six methods for each such class, most of them for nothing: of a hundred classes a one-shot uses
some thirty, and most of those once. Here a method is compiled when it has been called some times;
``docs/decisions/0008-frozen-classes.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, dataclass_transform, get_origin

T = TypeVar("T")

UNCOMPILED = 16
"""Calls of a method before it is compiled for its class: that takes as long as some forty calls that are not."""

NOTHING: Mapping[Any, Any] = MappingProxyType({})
"""An empty mapping, as a default."""


class _Factory:
    """A default that is made anew for each instance."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], T]) -> T:
    """Return the default of a field of ``@define`` that is made anew for each instance."""
    return cast("T", _Factory(default_factory))


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Return the class with its annotated names as slots, which are set once, by position or by name.

    Equal are two of one class that hold the same. Defaults are shared: they have to be immutable. Annotations may be
    text or not; a ``ClassVar`` is no field. Raises ``TypeError`` where the class has a base class.
    """
    return _slotted(cls, _FROZEN)


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def define(cls: type[T]) -> type[T]:
    """Return the class with its annotated names as slots that can be set: a record that changes.

    Each is equal to itself only. A mutable default is a ``field(default_factory=…)``. As with ``frozen``, the class has
    neither base class nor subclasses.
    """
    return _slotted(cls, _MUTABLE)


def _slotted(cls: type[T], methods: Mapping[str, Any]) -> type[T]:
    if cls.__bases__ != (object,):
        raise TypeError(f"{cls.__name__}: a class with such fields has no base class")
    body = dict(vars(cls))
    names = tuple(name for name, kind in body.get("__annotations__", {}).items() if not _is_class_variable(kind))
    defaults = {name: body.pop(name) for name in names if name in body}
    for unslotted in ("__dict__", "__weakref__"):
        del body[unslotted]
    shape = {"__slots__": names, "__match_args__": names, "__defaults__": defaults}
    return type(cls.__name__, (), {**methods, **body, **shape})


def _is_class_variable(kind: object) -> bool:
    if isinstance(kind, str):
        return kind.removeprefix("typing.").startswith("ClassVar")
    return kind is ClassVar or get_origin(kind) is ClassVar


class _Compiled:
    """A method that is written for a class when it was asked for some times, and then takes its place there."""

    def __init__(self, name: str, write: Callable[[type[Any]], str], plain: Callable[..., Any]) -> None:
        """``plain`` does the same for any class, slowly."""
        self._name = name
        self._write = write
        self._plain = plain
        self._calls: dict[type[Any], int] = {}

    def __get__(self, value: object | None, cls: type[Any]) -> Any:
        calls = self._calls[cls] = self._calls.get(cls, 0) + 1
        if value is not None and calls <= UNCOMPILED:
            return MethodType(self._plain, value)
        return self.compile(cls).__get__(value, cls)

    def compile(self, cls: type[Any]) -> Any:
        # A slot that sets itself takes half of the time of object.__setattr__, which looks for it by its name.
        names: dict[str, Any] = {f"_set_{name}": cls.__dict__[name].__set__ for name in cls.__slots__}
        names["_defaults"] = cls.__defaults__
        exec(self._write(cls), names)  # noqa: S102  # the fields' names, which stand in our own source
        method = names[self._name]
        setattr(cls, self._name, method)
        return method


def _init(cls: type[Any]) -> str:
    given = [f"{name}=_defaults[{name!r}]" if name in cls.__defaults__ else name for name in cls.__slots__]
    body = [f"_set_{name}(self, {name})" for name in cls.__slots__]
    return f"def __init__({', '.join(['self', *given])}):\n " + "\n ".join(body or ["pass"])


def _init_mutable(cls: type[Any]) -> str:
    defaults = cls.__defaults__
    given = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in cls.__slots__]
    made = {name for name, default in defaults.items() if isinstance(default, _Factory)}
    body = [
        f"self.{name} = {name}.make() if {name} is _defaults[{name!r}] else {name}"
        if name in made
        else f"self.{name} = {name}"
        for name in cls.__slots__
    ]
    return f"def __init__({', '.join(['self', *given])}):\n " + "\n ".join(body or ["pass"])


def _init_plain(self: Any, /, *args: Any, **named: Any) -> None:
    cls, names = type(self), type(self).__slots__
    given = {**cls.__defaults__, **dict(zip(names, args, strict=False)), **named}
    twice = bool(named) and not named.keys().isdisjoint(names[: len(args)])
    if twice or len(args) > len(names) or given.keys() != set(names):
        # The compiled method says what is missing or too much.
        method = vars(cls)["__init__"]
        (method.compile(cls) if isinstance(method, _Compiled) else method)(self, *args, **named)
        return
    for name, value in given.items():
        object.__setattr__(self, name, value.make() if type(value) is _Factory else value)


def _eq_plain(self: Any, other: object) -> Any:
    return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash_plain(self: Any) -> int:
    return hash(values(self))


_GETTERS: dict[type[Any], Callable[[Any], tuple[object, ...]]] = {}
"""Of a class what returns all its fields: one call for all is a tenth of one for each."""


def values(value: Any) -> tuple[object, ...]:
    """Return what a value with such fields holds, in their order."""
    cls = type(value)
    getter = _GETTERS.get(cls)
    if getter is None:
        names = cls.__slots__
        # With fewer than two names, attrgetter returns no tuple.
        plain = attrgetter(*names) if len(names) > 1 else lambda it: tuple([getattr(it, name) for name in names])
        getter = _GETTERS[cls] = cast("Callable[[Any], tuple[object, ...]]", plain)
    return getter(value)


def _eq(cls: type[Any]) -> str:
    same = f"{_held(cls, 'self')} == {_held(cls, 'other')}"
    return f"def __eq__(self, other):\n return {same} if other.__class__ is self.__class__ else NotImplemented"


def _hash(cls: type[Any]) -> str:
    return f"def __hash__(self):\n return hash({_held(cls, 'self')})"


def _held(cls: type[Any], value: str) -> str:
    return f"({''.join(f'{value}.{name}, ' for name in cls.__slots__)})"


def _repr(self: Any) -> str:
    held = ", ".join(f"{name}={value!r}" for name, value in fields(self).items())
    return f"{type(self).__qualname__}({held})"


def _refuse(self: object, name: str, _: object = None) -> None:
    raise AttributeError(f"{type(self).__qualname__} is frozen: {name} cannot be changed")


def _refuse_subclass(cls: type[Any]) -> None:
    raise TypeError(f"{cls.__name__}: a class with such fields has no subclasses")


def _reduce(self: Any) -> tuple[type[Any], tuple[object, ...]]:
    return type(self), values(self)


_MUTABLE: Mapping[str, Any] = {
    "__init__": _Compiled("__init__", _init_mutable, _init_plain),
    "__repr__": _repr,
    "__init_subclass__": classmethod(_refuse_subclass),
}
_FROZEN: Mapping[str, Any] = {
    **_MUTABLE,
    "__init__": _Compiled("__init__", _init, _init_plain),
    "__eq__": _Compiled("__eq__", _eq, _eq_plain),
    "__hash__": _Compiled("__hash__", _hash, _hash_plain),
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__reduce__": _reduce,
}


def is_frozen(value: object) -> bool:
    """Say whether a value is of a class that ``frozen`` made."""
    return type(value).__setattr__ is _refuse


def fields(value: Any) -> dict[str, Any]:
    """Return what a frozen value holds, by field."""
    return dict(zip(value.__slots__, values(value), strict=True))


if TYPE_CHECKING:
    from dataclasses import replace as replace  # noqa: PLC0414  # with it mypy holds the changes against the fields
else:

    def replace(value, /, **changes):  # noqa: ANN001, ANN003, ANN201  # typed above
        """Return a value that holds the same but for the changes; raises ``TypeError`` for what is no field."""
        return type(value)(**{**fields(value), **changes})
