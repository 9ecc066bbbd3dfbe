"""``go.NAME`` in Jinja: the functions of Go templates, where only Go's types give the same bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jinja2 import Undefined

from confpy.keys.view import Pair
from confpy.templates.functions import InvalidArgument
from confpy.templates.golang import printf, runtime
from confpy.templates.golang.environment import environment
from confpy.templates.golang.signatures import FUNCTIONS
from confpy.templates.golang.times import Time
from confpy.templates.golang.values import ANY, ANYS, MAP, TIME, VALUE, Ints, Pairs, Services, Strings
from confpy.templates.results import Service

if TYPE_CHECKING:
    from confpy.templates.context import RenderContext


class Value:
    """What JSON or a map holds: printed, compared and ranged over as in Go; what it has not is no value.

    It has no attribute of its own, so that ``value.items`` and ``value.keys`` are fields of the JSON.
    """

    __slots__ = ("__held",)

    def __init__(self, held: Any) -> None:
        self.__held = held

    def __str__(self) -> str:
        return printf.printed(self.__held)

    def __bool__(self) -> bool:
        return bool(self.__held)

    def __len__(self) -> int:
        return runtime.length(self.__held)

    def __iter__(self) -> Iterator[Any]:
        return map(dressed, runtime.each(self.__held))

    def __getitem__(self, name: Any) -> Any:
        held = self.__held
        if type(name) is not str:
            return dressed(runtime.index(held, bare(name)))
        if isinstance(held, Pair | Service):
            name = name.title()
        if isinstance(held, Time) and runtime.takes_arguments(held, name):
            return lambda *given: dressed(runtime.field(held, name, *map(bare, given)))
        return dressed(runtime.field(held, name))

    def __eq__(self, other: object) -> bool:
        return runtime.equal(self.__held, bare(other))

    def __lt__(self, other: object) -> bool:
        return runtime.less(self.__held, bare(other))

    def __le__(self, other: object) -> bool:
        return runtime.less_or_equal(self.__held, bare(other))

    def __gt__(self, other: object) -> bool:
        return runtime.greater(self.__held, bare(other))

    def __ge__(self, other: object) -> bool:
        return runtime.greater_or_equal(self.__held, bare(other))

    __hash__ = None  # type: ignore[assignment]  # what compares as Go does is no key of a dictionary


def bare(value: Any) -> Any:
    """Return a value of Jinja as the functions of Go take it."""
    if isinstance(value, Value):
        return value._Value__held  # type: ignore[attr-defined]  # noqa: SLF001 - it hides what it holds from templates
    if isinstance(value, Undefined):
        str(value)  # raises, naming what is undefined
    if type(value) is list:
        kinds = {str: Strings, Pair: Pairs, Service: Services, int: Ints}
        return kinds.get(type(value[0]), Strings)(value) if value else Strings()
    return value


def dressed(value: Any) -> Any:
    """Return a value of Go as a template of Jinja has it."""
    return value if type(value) is str else Value(value)


def functions(context: RenderContext) -> dict[str, Callable[..., Any]]:
    """Return the functions by their names in Go, and what ``range`` does to an item (``items``, ``slots``)."""
    table = environment(context, sandbox=False).filters
    names = FUNCTIONS.keys() & table.keys()
    made: dict[str, Callable[..., Any]] = {name: _typed(name, table[name]) for name in names}
    made["value"] = lambda value: dressed(bare(value))
    made["items"] = lambda value: [(key, dressed(item)) for key, item in runtime.indexed(bare(value))]
    made["slots"] = lambda value: runtime.slots(bare(value))
    made["keep"] = runtime.keep
    return made


def _typed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that refuses what Go refuses before it calls."""
    signature = FUNCTIONS[name]
    fixed = len(signature.parameters)

    def called(*given: Any) -> Any:
        if len(given) < fixed or (len(given) > fixed and signature.rest is None):
            raise InvalidArgument(f"wrong number of args for {name}: want {fixed} got {len(given)}")
        wanted = [*signature.parameters, *[signature.rest or ANY] * (len(given) - fixed)]
        arguments = [
            one if kind in {ANY, VALUE} else runtime.expect(one, kind)
            for one, kind in zip(map(bare, given), wanted, strict=True)
        ]
        result = function(*arguments)
        if isinstance(result, str | int) or signature.result not in {ANY, ANYS, MAP, TIME}:
            return result
        return Value(result)

    return called
