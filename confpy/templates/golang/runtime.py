"""What a translated Go template calls: Go's built-in functions, and confd's where they differ from Jinja's. Pure.

Errors are worded as Go's, but for values, which may be secret. What takes and gives the same in Go and here is not
repeated: ``engine`` takes it from ``templates.functions`` and ``templates.formats``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn
from urllib.parse import quote_plus

from confpy.keys.view import Pair
from confpy.templates import functions
from confpy.templates.functions import InvalidArgument
from confpy.templates.golang import printf
from confpy.templates.golang.times import Time
from confpy.templates.golang.values import (
    ANY,
    ANYS,
    FIELDS,
    INT,
    INTS,
    MAP,
    MISSING,
    PAIR_LIST,
    PAIRS,
    SERVICES,
    STRING,
    STRINGS,
    Anys,
    GoList,
    Ints,
    PairList,
    Pairs,
    Services,
    Strings,
    Uint8,
    Uint16,
    convert,
    decoded,
    encoded,
    type_name,
)
from confpy.templates.results import Service

# Patterns are compiled by their first use: most templates use none of them.

# --- what the translator adds ----------------------------------------------------------------------------------------

_EMPTY: dict[str, Callable[[], object]] = {
    ANYS: Anys, INTS: Ints, MAP: dict, PAIRS: Pairs, PAIR_LIST: PairList, SERVICES: Services, STRINGS: Strings,
}  # fmt: skip
"""Types whose values can be nil."""


def refuse(reason: str, hint: str = "") -> NoReturn:
    """Fail with what was known when the template was translated."""
    raise InvalidArgument(reason, hint=hint)


def settle(value: object) -> object:
    """Return what a pipeline ends in: a nil of an interface is no value any more."""
    return MISSING if value is None else value


def expect_string(value: object) -> str:
    return value if type(value) is str else expect(value, STRING)


def expect(value: object, wanted: str) -> Any:
    """Return the value as an argument of a type; raises ``InvalidArgument`` where Go does not pass it."""
    if value is MISSING:
        if wanted in _EMPTY:
            return _EMPTY[wanted]()
        raise InvalidArgument(f"invalid value; expected {wanted}")
    name = type_name(value)
    if name != wanted and (name, wanted) not in {(PAIRS, PAIR_LIST), (PAIR_LIST, PAIRS)}:
        raise InvalidArgument(f"wrong type for value; expected {wanted}; got {name}", value, hint=convert(name, wanted))
    return value


def field(value: Any, name: str, *arguments: object) -> Any:
    """Return a field or a map's value, or call a method (Go's ``evalField``)."""
    if type(value) is dict:
        if arguments:
            raise InvalidArgument(f"{name} is not a method but has arguments")
        return value.get(name, MISSING)
    if value is MISSING:
        return value
    if value is None:
        raise InvalidArgument(
            f"nil pointer evaluating interface {{}}.{name}", hint="it is null; test for it with if or with"
        )
    kind = type_name(value)
    if name in FIELDS.get(kind, ()):
        if arguments:
            raise InvalidArgument(f"{name} has arguments but cannot be invoked as function")
        return getattr(value, name.lower())
    method = _METHODS.get((kind, name))
    if method is None:
        raise InvalidArgument(f"can't evaluate field {name} in type {kind}", value, hint=_advise(kind, name))
    parameters, call = method
    if len(parameters) != len(arguments):
        raise InvalidArgument(f"wrong number of args for {name}: want {len(parameters)} got {len(arguments)}")
    return call(value, *(expect(argument, wanted) for argument, wanted in zip(arguments, parameters, strict=True)))


def _advise(kind: str, name: str) -> str:
    if name.title() in FIELDS.get(kind, ()):
        return f"write .{name.title()}"
    return "range over it, or take one item with index" if kind.startswith(("[]", PAIRS)) else ""


_INT2 = ("int", "int")
_METHODS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[..., object]]] = {
    (PAIRS, "Len"): ((), len),
    (PAIRS, "Less"): (_INT2, lambda pairs, i, j: pairs[i].key < pairs[j].key),
    ("time.Month", "String"): ((), lambda month: month.go_string()),
    ("time.Weekday", "String"): ((), lambda day: day.go_string()),
    **{
        (Time.go_type, name): (parameters, call)
        for name, parameters, call in (
            ("Add", ("int",), Time.add),
            ("AddDate", ("int", "int", "int"), Time.add_date),
            ("Day", (), lambda time: time.moment.day),
            ("Format", (STRING,), Time.format),
            ("Hour", (), lambda time: time.moment.hour),
            ("IsZero", (), lambda _time: False),
            ("Local", (), Time.local),
            ("Minute", (), lambda time: time.moment.minute),
            ("Month", (), Time.month),
            ("Nanosecond", (), lambda time: time.moment.microsecond * 1000),
            ("Second", (), lambda time: time.moment.second),
            ("String", (), Time.go_string),
            ("UTC", (), Time.utc),
            ("Unix", (), lambda time: time.nanoseconds() // 10**9),
            ("UnixMicro", (), lambda time: time.nanoseconds() // 1000),
            ("UnixMilli", (), lambda time: time.nanoseconds() // 10**6),
            ("UnixNano", (), Time.nanoseconds),
            ("Weekday", (), Time.weekday),
            ("Year", (), lambda time: time.moment.year),
            ("YearDay", (), Time.year_day),
        )
    },
}


def takes_arguments(value: object, name: str) -> bool:
    """Say whether a value has a method of that name that is called with arguments."""
    return bool(_METHODS.get((type_name(value), name), ((), None))[0])


def each(value: Any) -> Iterable[Any]:
    """Return what ``range`` finds in a value: a map's values by key."""
    if isinstance(value, GoList):
        return value
    if type(value) is dict:
        return [value[name] for name in sorted(value)]
    if value is None or value is MISSING:
        return ()
    hint = "range over seq 0 n, or over a list" if type(value) is int else ""
    raise InvalidArgument(f"range can't iterate over a value of type {type_name(value)}", value, hint=hint)


def indexed(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the items of ``range`` with their index or key."""
    return sorted(value.items()) if type(value) is dict else enumerate(each(value))


class Slot:
    """A place in a list that is changed in place while it is ranged over: what it holds when it is asked."""

    __slots__ = ("_list", "_position")

    def __init__(self, items: GoList, position: int) -> None:
        self._list = items
        self._position = position

    @property
    def value(self) -> object:
        return self._list[self._position]


def slots(value: Any) -> Iterator[Slot]:
    items = value if isinstance(value, GoList) else Anys(each(value))
    return (Slot(items, position) for position in range(len(items)))


def keep(value: object, space: Any, name: str) -> object:
    """Set a variable in the middle of an expression."""
    space[name] = value
    return value


# --- Go's own --------------------------------------------------------------------------------------------------------


def length(value: Any) -> int:
    if type(value) is str:
        return len(value) if value.isascii() else len(encoded(value))
    if isinstance(value, GoList | dict):
        return len(value)
    if value is None or value is MISSING:
        raise InvalidArgument("error calling len: len of nil pointer")
    raise InvalidArgument(f"error calling len: len of type {type_name(value)}", value)


def index(value: Any, *positions: Any) -> Any:
    if value is None or value is MISSING:
        raise InvalidArgument("error calling index: index of untyped nil")
    for position in positions:
        if value is None:
            raise InvalidArgument("error calling index: index of nil pointer")
        if isinstance(value, dict):
            if position is None or position is MISSING:
                raise InvalidArgument("error calling index: value is nil; should be of type string")
            if type(position) is not str:
                raise InvalidArgument(f"error calling index: value has type {type_name(position)}; should be string")
            value = value.get(position)
        elif isinstance(value, GoList | str):
            items = encoded(value) if isinstance(value, str) else value
            place = _position("index", position, len(items))
            if place == len(items):
                raise InvalidArgument(f"error calling index: index out of range: {place}", hint="test its len first")
            value = items[place] if isinstance(items, GoList) else Uint8(items[place])
        else:
            raise InvalidArgument(f"error calling index: can't index item of type {type_name(value)}", value)
    return value


def _position(function: str, position: Any, limit: int) -> int:
    if position is None or position is MISSING:
        raise InvalidArgument(f"error calling {function}: cannot index slice/array with nil")
    if not isinstance(position, int) or isinstance(position, bool):
        name = type_name(position)
        hint = convert(name, INT)
        raise InvalidArgument(f"error calling {function}: cannot index slice/array with type {name}", hint=hint)
    if not 0 <= position <= limit:
        raise InvalidArgument(f"error calling {function}: index out of range: {position}", hint="test its len first")
    return position


def cut(value: Any, *positions: Any) -> Any:
    """Return a part of a list or, by bytes, of a text (Go's ``slice``)."""
    if value is None or value is MISSING:
        raise InvalidArgument("error calling slice: slice of untyped nil")
    if len(positions) > 3:
        raise InvalidArgument(f"error calling slice: too many slice indexes: {len(positions)}")
    if not isinstance(value, GoList | str):
        raise InvalidArgument(f"error calling slice: can't slice item of type {type_name(value)}", value)
    if isinstance(value, str) and len(positions) == 3:
        raise InvalidArgument("error calling slice: cannot 3-index slice a string")
    items = encoded(value) if isinstance(value, str) else value
    places = [_position("slice", position, len(items)) for position in positions]
    first, end, *rest = [*places, *(0, len(items))[len(places) :]]
    for low, high in zip([first, end], [end, *rest], strict=False):
        if low > high:
            raise InvalidArgument(f"error calling slice: invalid slice index: {low} > {high}")
    part = items[first:end]
    return decoded(part) if isinstance(part, bytes) else type(value)(part)


def call(value: Any, *_arguments: object) -> NoReturn:
    """Refuse, as no value of a template of confd is a function."""
    if value is None or value is MISSING:
        raise InvalidArgument("error calling call: call of nil")
    raise InvalidArgument(f"error calling call: non-function of type {type_name(value)}", value)


def _kind(value: object) -> str:
    """Return the kind by which values are compared, nothing for those that have none."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Uint8 | Uint16):
        return "uint"
    kinds: dict[type, str] = {int: "int", float: "float", complex: "complex", str: "string"}
    return next((kind for one, kind in kinds.items() if isinstance(value, one)), "")


def equal(value: Any, *others: Any) -> bool:
    """Say whether a value equals one of the others; those behind the first that it equals are not looked at."""
    if not others:
        raise InvalidArgument("error calling eq: missing argument for comparison")
    kind = _kind(value)
    return any(_same(value, kind, other) for other in others)


def _same(value: Any, kind: str, other: Any) -> bool:
    nothing = value is None or value is MISSING, other is None or other is MISSING
    if kind == _kind(other) and kind:
        return bool(value == other)
    if {kind, _kind(other)} == {"int", "uint"}:
        return int(value) == int(other)
    if any(nothing):
        return all(nothing)
    if kind != _kind(other) or type_name(value) != type_name(other):
        raise InvalidArgument(_incompatible("eq", value, other), value, hint=_convert(value, other))
    if isinstance(value, dict | GoList):
        raise InvalidArgument(f"error calling eq: non-comparable type {type_name(value)}", value)
    return bool(value == other)


def _incompatible(function: str, value: object, other: object) -> str:
    types = f"{type_name(value)} and {type_name(other)}"
    return f"error calling {function}: incompatible types for comparison: {types}"


def _convert(value: object, other: object) -> str:
    kinds = {_kind(value), _kind(other)}
    return "atoi makes a number of a text; a number in quotes is a text" if kinds == {"int", "string"} else ""


def unequal(value: Any, other: Any) -> bool:
    return not equal(value, other)


def _less(function: str, value: Any, other: Any) -> bool:
    kind, kinds = _kind(value), {_kind(value), _kind(other)}
    if "" in kinds:
        raise InvalidArgument(f"error calling {function}: invalid type for comparison", value)
    if kinds - {"int", "uint"} and len(kinds) > 1:
        raise InvalidArgument(_incompatible(function, value, other), value, hint=_convert(value, other))
    if kind in {"bool", "complex"}:
        raise InvalidArgument(f"error calling {function}: invalid type for comparison", value)
    return bool(encoded(value) < encoded(other) if kind == "string" else value < other)


def less(value: Any, other: Any) -> bool:
    return _less("lt", value, other)


def less_or_equal(value: Any, other: Any) -> bool:
    return _less("le", value, other) or equal(value, other)


def greater(value: Any, other: Any) -> bool:
    return not (_less("gt", value, other) or equal(value, other))


def greater_or_equal(value: Any, other: Any) -> bool:
    return not _less("ge", value, other)


def _joined(values: tuple[object, ...]) -> str:
    """Return what the escaping functions escape: their arguments as ``print`` prints them."""
    if len(values) == 1 and type(values[0]) is str:
        return values[0]
    return printf.sprint(*("<no value>" if value is None or value is MISSING else value for value in values))


_HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {"\\": r"\\", "'": r"\'", '"': r"\"", "<": r"\u003C", ">": r"\u003E", "&": r"\u0026", "=": r"\u003D"}
_JS_SPECIAL = r"[^ !#-%(-;?-\[\]-\x7f]"


def html(*values: object) -> str:
    return _joined(values).translate(_HTML)


def js(*values: object) -> str:
    def escaped(found: re.Match[str]) -> str:
        character = found[0]
        if character in _JS:
            return _JS[character]
        if character >= "\x80" and (character.isprintable() or "\udc80" <= character <= "\udcff"):
            return character
        return f"\\u{ord(character):04X}"

    return re.sub(_JS_SPECIAL, escaped, _joined(values))


def urlquery(*values: object) -> str:
    return quote_plus(encoded(_joined(values)))


# --- confd's, where types or places in memory matter -----------------------------------------------------------------


def _wrapped(value: int) -> int:
    return value if -(2**63) <= value < 2**63 else (value + 2**63) % 2**64 - 2**63


def add(a: int, b: int) -> int:
    return _wrapped(a + b)


def sub(a: int, b: int) -> int:
    return _wrapped(a - b)


def mul(a: int, b: int) -> int:
    return _wrapped(a * b)


def div(a: int, b: int) -> int:
    return _wrapped(functions.div(a, b))


def mod(a: int, b: int) -> int:
    return functions.mod(a, b)


def seq(first: int, last: int) -> Ints:
    return Ints(functions.seq(first, last))


def split(text: str, separator: str) -> Strings:
    return Strings(text.split(separator) if separator else text)


def join(items: Strings, separator: str) -> str:
    return separator.join(items)


def mapping(*items: Any) -> dict[str, Any]:
    if len(items) % 2:
        raise InvalidArgument("error calling map: invalid map call", hint="it takes key, value, key, value, …")
    if not all(type(name) is str for name in items[::2]):
        raise InvalidArgument("error calling map: map keys must be strings")
    values = (None if value is MISSING else value for value in items[1::2])
    return dict(zip(items[::2], values, strict=True))


def reverse(value: Any) -> Any:
    """Reverse texts or pairs in place; all else, the result of ``gets`` among it, stays as it is."""
    if isinstance(value, Strings | PairList):
        value.reverse()
    return None if value is MISSING else value


def sort_by_length(texts: Strings) -> Strings:
    """Sort in place by the number of bytes; equal ones stay in order, which Go does for short lists only."""
    texts.sort(key=lambda text: len(encoded(text)))
    return texts


def sort_kv_by_length(pairs: GoList) -> PairList:
    pairs.sort(key=lambda pair: len(encoded(pair.key)))
    return pairs if isinstance(pairs, PairList) else PairList(pairs)


def json_object(text: str) -> dict[str, Any]:
    value = from_json(text, "json")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("error calling json: this JSON is not an object", text, hint="jsonArray reads an array")
    return value


def json_array(text: str) -> Anys:
    value = from_json(text, "jsonArray")
    if value is None:
        return Anys()
    if not isinstance(value, Anys):
        raise InvalidArgument("error calling jsonArray: this JSON is not an array", text, hint="json reads an object")
    return value


_NOT_UTF8 = "[\udc80-\udcff]"
_LONE = "[\ud800-\udfff]"


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's idea of JSON


_DECODER = json.JSONDecoder(parse_int=_finite, parse_float=_finite, parse_constant=_not_json)


def from_json(text: str, function: str = "fromJson") -> Any:
    """Read JSON as Go does: every number is a float, what is no UTF-8 becomes U+FFFD."""
    is_ascii = text.isascii()
    source = text if is_ascii else re.sub(_NOT_UTF8, "\ufffd", text)
    try:
        value = _DECODER.decode(source)
        return value if is_ascii and "[" not in text and "\\u" not in text else _typed(value)
    except json.JSONDecodeError as error:
        problem = f"{error.msg.partition(':')[0]}, line {error.lineno} column {error.colno}"
    except ValueError:
        problem = "a number that is none, or is too large"
    except RecursionError:
        problem = "nested too deeply"
    raise InvalidArgument(f"error calling {function}: this is not JSON: {problem}", text)


def _typed(value: Any) -> Any:
    if type(value) is str:
        return value if value.isascii() else re.sub(_LONE, "\ufffd", value)
    if type(value) is list:
        return Anys(map(_typed, value))
    if type(value) is dict:
        return {_typed(name): _typed(item) for name, item in value.items()}
    return value


# --- the living fork's -----------------------------------------------------------------------------------------------


def is_empty(value: Any) -> bool:
    return not value


def default(otherwise: Any, value: Any) -> Any:
    return value or otherwise


def ternary(yes: Any, no: Any, condition: bool) -> Any:
    return yes if condition else no


def coalesce(*values: Any) -> Any:
    return next((value for value in values if value), None)


def as_list(*items: Any) -> Anys:
    return Anys(None if item is MISSING else item for item in items)


def fixed_slots(items: Any, number: int) -> Anys:
    return Anys(functions.slots(items, number))


def append(items: Any, item: Any) -> Anys:
    return Anys([*each(items), None if item is MISSING else item])


def has_key(entries: dict[str, Any], name: str) -> bool:
    return name in entries


def keys(entries: dict[str, Any]) -> Strings:
    return Strings(sorted(entries))


def values(entries: dict[str, Any]) -> Anys:
    return Anys(each(entries))


def pluck(name: str, *maps: dict[str, Any]) -> Anys:
    return Anys(entries[name] for entries in maps if name in entries)


def indent(width: int, text: str) -> str:
    pad = " " * width
    return pad + text.replace("\n", "\n" + pad)


def nindent(width: int, text: str) -> str:
    return "\n" + indent(width, text)


def quote(text: str) -> str:
    return printf.quote(text, '"')


def squote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def repeat(count: int, text: str) -> str:
    if not 0 <= count * len(text) <= _LONGEST:
        raise InvalidArgument("error calling repeat: the count is negative or too large")
    return text * count


_LONGEST = 16 * 1024 * 1024


def nospace(text: str) -> str:
    return "".join(text.split())


_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[^\W_A-Za-z0-9]+|[0-9]+"


def snakecase(text: str) -> str:
    return "_".join(re.findall(_WORDS, text)).lower()


def kebabcase(text: str) -> str:
    return "-".join(re.findall(_WORDS, text)).lower()


def camelcase(text: str) -> str:
    return "".join(word[:1].upper() + word[1:].lower() for word in re.findall(_WORDS, text))


def regex_match(pattern: str, text: str) -> bool:
    """Say whether the pattern is found anywhere in the text."""
    return functions.pattern_of(pattern).search(text) is not None


def regex_find(pattern: str, text: str) -> str:
    found = functions.pattern_of(pattern).search(text)
    return found[0] if found else ""


_GROUP = r"\$(?:\$|\{(\w+)\}|(\w+))"


def regex_replace_all(pattern: str, text: str, replacement: str) -> str:
    """Replace all matches; ``${1}`` or ``$name`` stands for a group, one that the pattern does not have for nothing."""
    compiled = functions.pattern_of(pattern)

    def expanded(match: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            name = reference[1] or reference[2]
            if name is None:
                return "$"
            known = int(name) <= compiled.groups if name.isdecimal() else name in compiled.groupindex
            return (match[int(name) if name.isdecimal() else name] or "") if known else ""

        return re.sub(_GROUP, group, replacement)

    return compiled.sub(expanded, text)


def hostname() -> str:
    return os.uname().nodename


_ESCAPED_IN_JSON = str.maketrans(
    {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "\u2028": r"\u2028", "\u2029": r"\u2029"}
)


def to_json(value: Any, width: int | None = None) -> str:
    """Write JSON as Go does: keys sorted, ``<``, ``>`` and ``&`` escaped."""
    separators = (",", ": " if width else ":")
    text = json.dumps(_plain(value), ensure_ascii=False, indent=width, separators=separators, sort_keys=True)
    return text.translate(_ESCAPED_IN_JSON)


def to_pretty_json(value: Any) -> str:
    return to_json(value, 2)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, Pair | Service):
        return {name: _plain(getattr(value, name.lower())) for name in FIELDS[type_name(value)]}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, GoList):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return re.sub(_NOT_UTF8, "\ufffd", value)
    if isinstance(value, Time):
        return value.format("2006-01-02T15:04:05.999999999Z07:00")
    if value is None or isinstance(value, bool | int):
        return value
    if value is MISSING:
        return None
    raise InvalidArgument(
        f"error calling toJson: unsupported type {type_name(value) if value is not None else ANY}", value
    )
