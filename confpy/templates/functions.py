"""confd's functions on text, numbers and lists, and some that its users asked for. Pure.

Results are those of Go (https://pkg.go.dev/strings, https://pkg.go.dev/path, https://pkg.go.dev/strconv) where it and
Python differ; nothing is changed in place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from posixpath import normpath
from typing import NoReturn, TypeVar

from jinja2 import Undefined

Item = TypeVar("Item")

_INTEGER = r"[+-]?[0-9]+"
_DIGITS = r"([0-9]+)"
_NOT_UTF8 = "[\ud800-\udfff]"
_LONGEST_SEQUENCE = 1_000_000
_PROBES = 32


class InvalidArgument(Exception):  # becomes a TemplateError, which knows where
    """A function does not take this value. The value serves to find its key, and is never shown."""

    def __init__(self, reason: str, value: object = None, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value
        self.hint = hint


def printed(value: object) -> object:
    """Return what ``{{ … }}`` prints for a value: booleans as every configuration format spells them, null never.

    Nor what has no text but its place in memory, which would change the target, and reload its program, at every pass.
    """
    kind = type(value)
    if kind is str or kind is int or isinstance(value, (str, Undefined)):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        raise InvalidArgument("null (None) cannot be printed", hint='give another value with default("…", true)')
    if isinstance(value, Iterator):
        raise InvalidArgument("a list that is not made yet cannot be printed", hint="put | join or | list behind it")
    if callable(value):
        raise InvalidArgument("a function cannot be printed", hint="call it: put () behind its name")
    return value


def as_text(value: object) -> str:
    """Return a text or a number as text; raises ``InvalidArgument`` for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises, naming what is undefined
    if isinstance(value, (bool, int, float)):
        return str(printed(value))
    raise InvalidArgument(f"text is needed here, not {type(value).__name__}", value)


def as_integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Undefined):
        str(value)
    raise InvalidArgument(
        f"an integer is needed here, not {type(value).__name__}", value, hint="atoi turns text into one"
    )


# --- paths -----------------------------------------------------------------------------------------------------------


def base(path: object) -> str:
    """Return the last element: ``/a/b/`` → ``b``; nothing → ``.``; slashes alone → ``/``."""
    text = as_text(path)
    return text.rstrip("/").rpartition("/")[2] or ("/" if text else ".")


def directory(path: object) -> str:
    """Return all but the last element, cleaned: ``/a/b`` → ``/a``; ``/a/b/`` → ``/a/b``; ``a`` → ``.``."""
    head, slash, _ = as_text(path).rpartition("/")
    return re.sub("^/+", "/", normpath(head + slash))


# --- text ------------------------------------------------------------------------------------------------------------


def split(text: object, separator: str) -> list[str]:
    return as_text(text).split(separator) if separator else list(as_text(text))


def join(items: Iterable[object], separator: str) -> str:
    """Join texts; raises ``InvalidArgument`` where an item is something else."""
    if isinstance(items, str):
        raise InvalidArgument("join needs a list of texts, not one text", items)
    texts = []
    for item in items:
        if not isinstance(item, str):
            raise InvalidArgument(f"join needs a list of texts; one item is {type(item).__name__}", item)
        texts.append(item)
    return separator.join(texts)


def _simple(text: str, convert: Callable[[str], str], otherwise: Callable[[str], str]) -> str:
    """Map each character to one character, as Go does: ``ß`` has no single capital, so it stays."""
    if text.isascii():
        return convert(text)
    mapped = []
    for character in re.sub(_NOT_UTF8, "\ufffd", text):
        one = convert(character)
        if len(one) > 1:
            one = otherwise(character)
        mapped.append(one if len(one) == 1 else character)
    return "".join(mapped)


def to_upper(text: object) -> str:
    # For Greek letters with an iota below, the one-letter capital is what Python calls the title case.
    return _simple(as_text(text), str.upper, str.title)


def to_lower(text: object) -> str:
    # The only letter whose lower case has two is İ: an i and a dot.
    return _simple(as_text(text), str.lower, lambda character: character.lower()[0])


def contains(text: object, part: object) -> bool:
    """Say whether the text holds the part; a list or a dictionary, whether it holds the item."""
    if isinstance(text, list | tuple | dict):
        return part in text
    return as_text(part) in as_text(text)


def replace(text: object, old: str, new: str, count: int) -> str:
    """Replace the first ``count``, all where it is negative; an empty ``old`` stands between all characters."""
    return as_text(text).replace(old, new, as_integer(count))


def trim_suffix(text: object, suffix: str) -> str:
    return as_text(text).removesuffix(suffix)


def trim_prefix(text: object, prefix: str) -> str:
    return as_text(text).removeprefix(prefix)


def nindent(text: object, width: int = 4) -> str:
    """Return a line end, then every line that is not empty indented by ``width`` spaces."""
    return "\n" + "\n".join(" " * width + line if line else line for line in as_text(text).split("\n"))


def regex_match(text: object, pattern: str) -> bool:
    """Say whether the pattern matches from the start of the text (Python's ``re.match``)."""
    return pattern_of(pattern).match(as_text(text)) is not None


def regex_search(text: object, pattern: str, default: object = None) -> object:
    """Return the first match: its first group where the pattern has one, else all of it; else the default."""
    found = pattern_of(pattern).search(as_text(text))
    if found is None:
        return default
    return found[1] if found.re.groups else found[0]


def regex_findall(text: object, pattern: str) -> list[str]:
    """Return all matches: of each its first group where the pattern has one, else all of it."""
    compiled = pattern_of(pattern)
    return [found[1] or "" if compiled.groups else found[0] for found in compiled.finditer(as_text(text))]


def regex_replace(text: object, pattern: str, replacement: str) -> str:
    r"""Replace every match; ``\1`` in the replacement is the first group."""
    compiled = pattern_of(pattern)
    try:
        return compiled.sub(replacement, as_text(text))
    except (re.error, IndexError):
        raise InvalidArgument(
            "the replacement names a group that the pattern does not have, or ends in a backslash"
        ) from None


def pattern_of(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        problem = error.msg if isinstance(error, re.error) else "too large"
        raise InvalidArgument(f"the regular expression is malformed: {problem}") from None


# --- numbers ---------------------------------------------------------------------------------------------------------


def atoi(text: object) -> int:
    """Read a decimal integer of 64 bits with an optional sign, and nothing else."""
    digits = as_text(text)
    # Twenty characters hold every such integer; leading zeros may make it longer.
    if re.fullmatch(_INTEGER, digits) and len(digits.lstrip("+-0")) < 20:
        number = int(digits)
        if -(2**63) <= number < 2**63:
            return number
    raise InvalidArgument("this is not an integer", text)


def parse_bool(text: object) -> bool:
    word = as_text(text)
    if word in {"1", "t", "T", "TRUE", "true", "True"}:
        return True
    if word in {"0", "f", "F", "FALSE", "false", "False"}:
        return False
    raise InvalidArgument("this is not a boolean: true, t, 1, false, f or 0", text)


def add(a: int, b: int) -> int:
    return as_integer(a) + as_integer(b)


def sub(a: int, b: int) -> int:
    return as_integer(a) - as_integer(b)


def mul(a: int, b: int) -> int:
    return as_integer(a) * as_integer(b)


def div(a: int, b: int) -> int:
    """Divide toward zero: -7 by 2 is -3 (Python's ``//`` says -4)."""
    if as_integer(b) == 0:
        raise InvalidArgument("division by zero")
    quotient = abs(as_integer(a)) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def mod(a: int, b: int) -> int:
    """Return what ``div`` leaves; it has the sign of ``a``."""
    return a - b * div(a, b)


def seq(first: int, last: int) -> list[int]:
    """Return the integers from first to last, both included; nothing where last is smaller."""
    if as_integer(last) - as_integer(first) >= _LONGEST_SEQUENCE:
        raise InvalidArgument(f"the sequence has more than {_LONGEST_SEQUENCE} items")
    return list(range(first, last + 1))


# --- lists -----------------------------------------------------------------------------------------------------------


def mapping(*items: object) -> dict[str, object]:
    """Make a dictionary of keys and values in turn."""
    if len(items) % 2:
        raise InvalidArgument("map needs an even number of arguments: key, value, key, value, …")
    names = items[::2]
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument(f"the keys of a map are texts, not {type(name).__name__}")
    return {str(name): value for name, value in zip(names, items[1::2], strict=True)}


def reverse(items: Sequence[Item]) -> list[Item]:
    """Return the items in the opposite order, as a new list."""
    return list(items)[::-1]


def _name(item: object) -> str:
    """Return what an item is sorted by: the key of a pair, else its text."""
    key = getattr(item, "key", None)
    return key if isinstance(key, str) else as_text(item)


def sort_by_length(items: Iterable[str]) -> list[str]:
    """Sort texts by their number of bytes; equal ones stay in order."""
    return sorted(items, key=_length)


def sort_kv_by_length(pairs: Iterable[Item]) -> list[Item]:
    """Sort pairs by the number of bytes of their keys."""
    return sorted(pairs, key=lambda pair: _length(_name(pair)))


def _length(text: str) -> int:
    return len(as_text(text).encode("utf-8", "surrogatepass"))


def natural_sort(items: Iterable[Item]) -> list[Item]:
    """Sort by text with the numbers in it by their size, ``web2`` before ``web10``; pairs by key."""

    def parts(item: Item) -> tuple[list[str | tuple[int, str]], str]:
        # Texts and digits alternate, so that like is compared with like; digits by size without reading them as int.
        split = re.split(_DIGITS, _name(item))
        return [(len(p.lstrip("0")), p.lstrip("0")) if i % 2 else p for i, p in enumerate(split)], _name(item)

    return sorted(items, key=parts)


def shuffle(items: Iterable[Item], seed: object) -> list[Item]:
    """Return an order that is the same for one seed and another for the next.

    Each item has its place by a hash of its own, so that one that comes or goes leaves the order of the others.
    """
    salt = as_text(seed)
    return sorted(items, key=lambda item: (sha256(f"{salt}\0{_name(item)}"), _name(item)))


def slots(items: Iterable[Item], number: int) -> list[Item | None]:
    """Return a list of so many places with each item, or pair, in its own, and None in the others.

    An item that goes moves only those that had wanted its place. If there are more items than places, their number is
    doubled. Raises ``InvalidArgument`` for a number that is none.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= _LONGEST_SEQUENCE:
        raise InvalidArgument(f"a number of slots from 1 to {_LONGEST_SEQUENCE} is needed here", number)
    wanted = sorted((sha256(_name(item)), _name(item), at, item) for at, item in enumerate(items))
    while number < len(wanted):
        number *= 2
    places: list[Item | None] = [None] * number
    free = set(range(number))
    for digest, name, _, item in wanted:
        place, tries = int(digest[:16], 16) % number, 0
        while place not in free:
            tries += 1
            # Where many are taken, those that are looked for by hash may all be.
            following = (place + 1) % number
            place = following if tries > _PROBES else int(sha256(f"{name}\0{tries}")[:16], 16) % number
        free.remove(place)
        places[place] = item
    return places


def sha256(text: object) -> str:
    return hashlib.sha256(as_text(text).encode("utf-8", "surrogateescape")).hexdigest()


# --- demands ---------------------------------------------------------------------------------------------------------


def required(value: Item, message: str = "a value is required here") -> Item:
    """Return the value, unless it is undefined, null or empty: then fail with the message."""
    if isinstance(value, Undefined) or value is None or value == "":
        raise InvalidArgument(message, value)
    return value


def fail(message: str) -> NoReturn:
    raise InvalidArgument(as_text(message))


def ternary(condition: object, yes: object, no: object) -> object:
    return yes if condition else no
