"""Finds the key whose value made a template fail: a second render in which every value carries its keys. Pure.

The first render works on plain values and pays nothing. When it fails without naming a key, ``tracing`` turns a fresh
environment into one whose functions, filters and tests unwrap their arguments, compute on the plain values and wrap
the result again, with the keys of the arguments. A type of its own, not a subclass of ``str``: the runtime of Go
templates tells values apart by their exact types.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, wraps
from itertools import islice
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import jinja2
from jinja2.filters import FILTERS
from jinja2.runtime import str_join

from confpy.keys.view import Pair
from confpy.templates.functions import InvalidArgument
from confpy.templates.go import Go

if TYPE_CHECKING:
    from confpy.templates.context import ItemFacts, RenderContext

Keys: TypeAlias = tuple[str, ...]

MOST_KEYS = 3
"""A value that was made from more keys than this names none: they would not say where to look."""
_SCALARS = (str, int, float, complex, bool, type(None))


class Traced:
    """A value and the keys that it was made from. It does what templates do to values without calling a function."""

    __slots__ = ("_trace", "items", "keys", "parts", "plain")

    def __init__(self, plain: Any, keys: Keys, trace: Trace, items: Sequence[tuple[object, str]] = ()) -> None:
        self.plain = plain
        self.keys = keys
        self.items = items
        """Of a list that was read from the store: the items as they were, each with its key."""
        self.parts: Sequence[Any] = ()
        """Of a text, where it is known: what each part of it comes from (``lines.Part``)."""
        self._trace = trace

    def __bool__(self) -> bool:
        self._trace.touch(self._trace.keys_of(self))
        return bool(self.plain)

    def __str__(self) -> str:
        return str(self.plain)

    def __format__(self, form: str) -> str:
        return format(self.plain, form)

    def __hash__(self) -> int:
        return hash(self.plain)

    def __index__(self) -> int:
        return operator.index(self.plain)

    def __len__(self) -> int:
        return int(self._trace.apply(len, self, wraps_result=False))

    def __contains__(self, item: object) -> bool:
        return bool(self._trace.apply(operator.contains, self, item, wraps_result=False))

    def __iter__(self) -> Iterator[Any]:
        items = self._trace.apply(iter, self, wraps_result=False)
        return (self._trace.part(self, item, position) for position, item in enumerate(items))

    def __getitem__(self, position: object) -> Any:
        # A slice of it: all else goes through the environment.
        return self._trace.apply(operator.getitem, self, position)


def _operate(function: Callable[..., Any], *, wraps_result: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def straight(value: Traced, *other: object) -> Any:
        return value._trace.apply(function, value, *other, wraps_result=wraps_result)  # noqa: SLF001 - its own

    def reflected(value: Traced, other: object) -> Any:
        return value._trace.apply(function, other, value, wraps_result=wraps_result)  # noqa: SLF001

    return straight, reflected


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _straight, _reflected = _operate(getattr(operator, _name), wraps_result=True)
    setattr(Traced, f"__{_name}__", _straight)
    setattr(Traced, f"__r{_name}__", _reflected)
for _name in ("neg", "pos", "abs"):
    setattr(Traced, f"__{_name}__", _operate(getattr(operator, _name), wraps_result=True)[0])
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Traced, f"__{_name}__", _operate(getattr(operator, _name), wraps_result=False)[0])


class Trace:
    """What is known of the values of one render."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        """``most``: of how many keys a value may be made to name them."""
        self.most = most
        self._origins: dict[int, tuple[object, Keys]] = {}
        """``id`` → the value, which so stays alive, and its keys: how items are found again in another list."""

    # --- wrapping ----------------------------------------------------------------------------------------------------

    def note(self, value: object, keys: Keys) -> None:
        """Remember the keys of a plain value, unless Python shares it between those who have the same."""
        if not keys or type(value) in {bool, int, type(None)} or (isinstance(value, str) and len(value) < 2):
            return
        _, known = self._origins.get(id(value), (value, ()))
        self._origins[id(value)] = (value, merged((known, keys), self.most))

    def touch(self, keys: Iterable[str]) -> None:
        """Note that something was decided by the values of these keys."""

    def missing(self, value: Any, key: str) -> Any:  # noqa: ARG002 - for those who want to know
        """Return what stands in the place of a key, or of a list, that the store does not have."""
        return value

    def wrap(self, value: Any, keys: Keys) -> Any:
        """Return a plain value with its keys; what it is made of is wrapped when it is taken out."""
        if isinstance(value, Traced):
            return value if value.keys or not keys else Traced(value.plain, keys, self, value.items)
        if isinstance(value, jinja2.Undefined):
            if keys and not isinstance(value._undefined_exception, partial):  # noqa: SLF001 - no other way to mark it
                # It becomes an error where it is used.
                value._undefined_exception = partial(_undefined, keys)  # type: ignore[assignment]  # noqa: SLF001
            return value
        if isinstance(value, GeneratorType):
            value = list(value)
        pair = _pair(value)
        return Traced(value, (pair.key,) if pair else keys, self)

    def part(self, whole: Traced, part: Any, position: object = None) -> Any:
        """Return what was taken out of a value."""
        if isinstance(position, int) and position < len(whole.items) and whole.items[position][0] is part:
            return self.wrap(part, (whole.items[position][1],))
        return self.wrap(part, self.narrowed(part, whole.keys))

    def narrowed(self, value: object, keys: Keys) -> Keys:
        """Return the keys of what was made from others: its own where it is one of them."""
        known = self.known(value)
        return known if known and (not keys or set(known) <= set(keys)) else keys

    def known(self, value: object) -> Keys:
        """Return the keys of a plain value that was seen before."""
        if pair := _pair(value):
            return (pair.key,)
        found, keys = self._origins.get(id(value), (None, ()))
        return keys if found is value and len(keys) <= self.most else ()

    def keys_of(self, value: object) -> Keys:
        """Return the keys that an argument was made from: its own, else those of its items."""
        if isinstance(value, Traced):
            return value.keys or merged(((key,) for _, key in value.items), self.most) or self.keys_of(value.plain)
        if isinstance(value, list | tuple):
            every = (
                self.known(item) or (item.keys if isinstance(item, Traced) else ())
                for item in islice(value, self.most + 1)
            )
            return merged(every, self.most)
        if isinstance(value, dict):
            return self.keys_of(list(islice(value.values(), self.most + 1)))
        return ()

    def unwrap(self, value: Any) -> Any:
        """Return an argument as the functions take it."""
        if isinstance(value, Traced):
            self.note(value.plain, value.keys)
            return value.plain
        if type(value) in {list, tuple}:
            return type(value)(map(self.unwrap, value))
        if type(value) is dict:
            return {self.unwrap(name): self.unwrap(item) for name, item in value.items()}
        if type(value) is slice:
            return slice(*map(self.unwrap, (value.start, value.stop, value.step)))
        return value

    # --- calling -----------------------------------------------------------------------------------------------------

    def apply(self, function: Callable[..., Any], *given: Any, wraps_result: bool = True, **named: Any) -> Any:
        """Call a function with plain values; its error carries the keys of what it was given."""
        values = [*given, *named.values()]
        try:
            arguments = [self.unwrap(value) for value in given]
            result = function(*arguments, **{name: self.unwrap(value) for name, value in named.items()})
            if isinstance(result, GeneratorType):
                result = list(result)
        except Exception as error:
            self._blame(error, values)
            raise
        if not wraps_result:
            return result
        for value in values:
            if isinstance(value, Traced) and value.plain is result:
                return value
        return self.wrap(result, self.narrowed(result, merged(map(self.keys_of, values), self.most)))

    def _blame(self, error: Exception, values: list[Any]) -> None:
        if hasattr(error, "keys_at_fault"):
            return
        keys: Keys = ()
        if isinstance(error, InvalidArgument) and error.value is not None:
            same = [value.keys for value in values if isinstance(value, Traced) and value.plain is error.value]
            keys = same[0] if same else self.known(error.value)
        error.keys_at_fault = keys or merged(map(self.keys_of, values), self.most)  # type: ignore[attr-defined]

    def traced(self, function: Callable[..., Any], *owner: Traced, wraps_result: bool = True) -> Callable[..., Any]:
        """Return a function that takes and gives traced values; of a method ``owner`` is what it belongs to."""

        def called(*given: Any, **named: Any) -> Any:
            return self.apply(method if owner else function, *owner, *given, wraps_result=wraps_result, **named)

        def method(_owner: object, *given: Any, **named: Any) -> Any:
            return function(*given, **named)

        return wraps(function)(called)

    # --- attributes --------------------------------------------------------------------------------------------------

    def found(self, owner: Any, value: Any, name: object) -> Any:
        """Return what an attribute or an item of a value is; ``owner`` may be a plain value."""
        if isinstance(value, jinja2.Undefined):
            return self.wrap(value, self.keys_of(owner))
        if callable(value):
            return self.traced(value, *([owner] if isinstance(owner, Traced) else []))
        return self.part(owner, value, name) if isinstance(owner, Traced) else value


def _pair(value: object) -> Pair | None:
    """Return the pair that a value is, or that a value of ``go.NAME`` holds."""
    held = value if isinstance(value, jinja2.Undefined) else getattr(value, "_Value__held", value)
    return held if isinstance(held, Pair) else None


def _undefined(keys: Keys, message: str | None = None) -> jinja2.UndefinedError:
    error = jinja2.UndefinedError(message)
    error.keys_at_fault = keys  # type: ignore[attr-defined]
    return error


def merged(several: Iterable[Keys], most: int) -> Keys:
    """Return all keys once; as soon as they are too many to be named, what is known of them stays too many."""
    every: dict[str, None] = {}
    for keys in several:
        every.update(dict.fromkeys(keys))
        if len(every) > most:
            break
    return tuple(every)


def at_fault(error: Exception) -> str:
    """Return the keys of an error of a traced render as a log line names them, nothing where they are not known."""
    keys: Keys = getattr(error, "keys_at_fault", ())
    return ", ".join(keys) if len(keys) <= MOST_KEYS else ""


# --- the environment -------------------------------------------------------------------------------------------------


class _Environment(jinja2.Environment):
    """What is put in front of the class of an environment."""

    trace: Trace
    reads: Mapping[str, Callable[..., Any]]

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Go) and attribute in self.reads:
            return self.reads[attribute](getattr(obj, attribute))
        return self._take(super().getattr, obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._take(super().getitem, obj, self.trace.unwrap(argument))

    def _take(self, take: Callable[[Any, Any], Any], obj: Any, name: Any) -> Any:
        if isinstance(obj, Traced):
            # The first is what makes it take a plain value: ``take`` is a method.
            value = self.trace.apply(take, obj, name, wraps_result=False)
            return self.trace.found(obj, value, name)
        value = take(obj, name)
        # Lists and dictionaries of the template's own hold traced values, as do loops and namespaces.
        return self.trace.found(obj, value, name) if isinstance(obj, (*_SCALARS, Go)) else value


class _Template(jinja2.Template):
    @classmethod
    def _from_namespace(
        cls,
        environment: jinja2.Environment,
        namespace: Any,
        globals: Any,  # noqa: A002 - it overrides
    ) -> jinja2.Template:
        assert isinstance(environment, _Environment)
        # What ~ is compiled to.
        namespace["str_join"] = lambda items: environment.trace.apply(_concatenated, *items)
        return super()._from_namespace(environment, namespace, globals)


def _concatenated(*items: object) -> str:
    return str_join(items)


_UNTOUCHED = frozenset({"_at", "_done", "_keep", "include", "namespace", "dict", "range", "cycler", "joiner", "go"})
"""They hand traced values on as they are."""


def tracing(environment: jinja2.Environment, context: RenderContext, trace: Trace | None = None) -> None:
    """Turn an environment that was just made for the questions into one that traces."""
    trace = trace or Trace()
    reads = _reads(trace, context)
    environment.__class__ = type("Tracing", (_Environment, type(environment)), {})
    environment.trace = trace  # type: ignore[attr-defined]
    environment.reads = reads  # type: ignore[attr-defined]
    environment.template_class = _Template

    def replaced(table: Mapping[str, Any]) -> dict[str, Any]:
        made = {}
        for name, value in table.items():
            if value is FILTERS["map"]:
                made[name] = _mapped(trace, value)
            elif name in _UNTOUCHED or not callable(value):
                made[name] = value
            else:
                made[name] = reads.get(name, trace.traced)(value)
        return made

    environment.filters = replaced(environment.filters)
    environment.globals.update(replaced(environment.globals))
    tests: dict[str, Any] = dict(environment.tests)
    environment.tests = {name: trace.traced(test, wraps_result=False) for name, test in tests.items()}
    assert environment.finalize is not None
    finalize: Callable[..., Any] = environment.finalize
    environment.finalize = trace.traced(finalize, wraps_result=False)


def _mapped(trace: Trace, original: Callable[..., Any]) -> Callable[..., Any]:
    """Apply Jinja's ``map`` to each item alone, so that each result has the keys of its item."""

    def called(context: object, items: Iterable[Any], *given: Any, **named: Any) -> list[Any]:
        def one(item: object, *given: Any, **named: Any) -> Any:
            return next(iter(original(context, [item], *given, **named)))

        return [trace.apply(one, item, *given, **named) for item in items]

    return wraps(original)(called)


class _TracedItem:
    """The facts of an item (``for_each``), which come from its key."""

    def __init__(self, facts: ItemFacts, trace: Trace) -> None:
        self.__facts = facts
        self.__trace = trace

    def __call__(self, fact: object) -> Traced:
        text = str(self.__trace.unwrap(fact))
        return Traced(self.__facts(text), (self.__facts.key,), self.__trace)

    @property
    def name(self) -> Traced:
        return self("name")

    @property
    def key(self) -> Traced:
        return self("key")

    @property
    def value(self) -> Traced:
        return self("value")


def _reads(trace: Trace, context: RenderContext) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """Return by name what a function becomes whose results have keys that its arguments do not tell."""

    def value(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            result = trace.apply(function, *given)
            key = str(given[0])
            if not context.view.exists(key):
                return trace.missing(result, key)
            return Traced(trace.unwrap(result), (key,), trace)

        return called

    def values(keys: Callable[[str, Sequence[Any]], Iterable[str]]) -> Callable[..., Any]:
        def made(function: Callable[..., Any]) -> Callable[..., Any]:
            def called(asked: Any) -> Any:
                plain = trace.apply(function, asked, wraps_result=False)
                items = list(zip(plain, keys(str(asked), plain), strict=False))
                for item, key in items:
                    trace.note(item, (key,))
                listed = Traced(plain, (), trace, items)
                return listed if items else trace.missing(listed, str(asked))

            return called

        return made

    def of_pairs(pattern: str, _values: Sequence[Any]) -> Iterable[str]:
        return [pair.key for pair in sorted(context.view.gets(pattern), key=lambda pair: pair.value)]

    def of_names(path: str, names: Sequence[Any]) -> Iterable[str]:
        return [f"{path.rstrip('/')}/{name}" for name in names]

    def pairs(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(asked: Any) -> Any:
            plain = trace.apply(function, asked, wraps_result=False)
            listed = Traced(plain, (), trace)
            return listed if plain else trace.missing(listed, str(asked))

        return called

    def exists(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(key: Any) -> Any:
            result = trace.apply(function, key, wraps_result=False)
            if result:
                trace.touch((str(key),))
            else:
                trace.missing(result, str(key))
            return result

        return called

    def enumerated(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(items: Any) -> Any:
            return list(enumerate(items)) if _is_list(items) else trace.apply(function, items)

        return called

    def index(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(whole: Any, *positions: Any) -> Any:
            if not positions or not _is_list(whole):
                return trace.apply(function, whole, *positions)
            position, *others = positions
            plain = trace.apply(function, whole, position, wraps_result=False)
            item = trace.part(whole, plain, trace.unwrap(position))
            return trace.apply(function, item, *others) if others else item

        return called

    def each(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda items: items if _is_list(items) else trace.apply(function, items)

    names = values(of_names)
    return {
        "item": lambda facts: _TracedItem(cast("ItemFacts", facts), trace),
        "get": value, "getv": value, "exists": exists, "gets": pairs, "getvs": values(of_pairs),
        "ls": names, "lsdir": names,
        "_each": each, "_enumerate": enumerated, "_indexed": enumerated,
        "index": index,
    }  # fmt: skip


def _is_list(value: object) -> bool:
    return isinstance(value, Traced) and isinstance(value.plain, list)
