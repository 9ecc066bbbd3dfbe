"""Which keys and which place of a template each line of a result comes from: what a traced render notes. Pure.

``trace`` knows the keys of values. What is added here are the keys that a condition or a loop depends on, and texts of
several lines whose lines have keys of their own. ``marking`` makes the render call this. A run never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context

from confpy.frozen import frozen
from confpy.keys.view import View
from confpy.templates.trace import Keys, Trace, Traced, merged

MOST_KEYS = 50
"""A line that depends on more keys than this names so many of them."""


class Absent(str):
    """A key or a pattern that the store has nothing for: a default, or an empty list, stands in its place."""

    __slots__ = ()


@frozen
class Line:
    """One line of a result."""

    text: str
    keys: tuple[str, ...]
    """Whose values, or names, stand in it; ``Absent`` where the store has none."""
    because: tuple[str, ...]
    """The others that decided whether it is there, or what stands in it."""
    template: str
    """The template that it is written in; empty: no part of it has a place."""
    line: int
    column: int
    """Where in the template, from 1; a column of 0 is not known."""


class Part(NamedTuple):
    """A part of the output, within one line of the template."""

    length: int
    keys: Keys
    because: Keys
    spot: int
    line: int
    """Of the template: text goes over several."""


class Spot(NamedTuple):
    """A part of the output as it stands in a template."""

    template: str
    line: int
    column: int
    guards: tuple[int, ...]
    """The conditions and loops that it stands in."""
    data: str | None
    """The text that it is, None where it is an expression."""


class Piece(str):
    """A part of the output as it was rendered."""

    __slots__ = ("parts",)
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        # What templates are compiled to asks for the text of each part: that of str itself would be another object.
        return self


class LineTrace(Trace):
    """What is known of the values and of the output of one render."""

    def __init__(self, view: View) -> None:
        super().__init__(MOST_KEYS)
        self._view = view
        self.spots: list[Spot] = []
        self.guards: dict[int, Keys] = {}
        """Condition or loop → the keys that its last turn depended on."""
        self._open: list[int] = []
        """The expressions that are being computed, by their spots."""
        self._looked_at: list[dict[str, None]] = []
        """Of each of them, the keys that were looked at."""
        self.printed: dict[str, Callable[..., Any]] = {}
        """By language, how a value is printed."""

    # --- values ------------------------------------------------------------------------------------------------------

    def touch(self, keys: Iterable[str]) -> None:
        if self._looked_at:
            self._looked_at[-1].update(dict.fromkeys(keys))

    def missing(self, value: Any, key: str) -> Any:
        absent = (Absent(key),)
        self.touch(absent)
        if isinstance(value, Traced) and (value.keys or value.items):
            return value
        return Traced(self.unwrap(value), absent, self)

    def apply(self, function: Callable[..., Any], *given: Any, wraps_result: bool = True, **named: Any) -> Any:
        values = [*given, *named.values()]
        result = super().apply(function, *given, wraps_result=wraps_result, **named)
        for value in values:
            self.touch(self.keys_of(value))
        if wraps_result and isinstance(result, Traced) and isinstance(result.plain, str) and not result.parts:
            result.parts = tuple(self._parts(function, result, given))
        return result

    def narrowed(self, value: object, keys: Keys) -> Keys:
        known = self.known(value)
        return known if known and (len(keys) > self.most or set(known) <= set(keys)) else keys

    def _parts(self, function: Callable[..., Any], result: Traced, given: Sequence[Any]) -> Iterable[Part]:
        """Return the parts of a text that a function made of others, none where all of it has the same keys."""
        text = result.plain
        name = getattr(function, "__name__", "")
        joined = _JOINS.get(name)
        if joined is not None and (pieces := joined(given)) is not None:
            parts = [part for piece in pieces for part in self.parts_of(piece)]
            if sum(part.length for part in parts) == len(text):
                return parts
        sources = [one for one in given if isinstance(one, Traced) and isinstance(one.plain, str) and one.parts]
        if len(sources) == 1 and text:
            (source,) = sources
            at = source.plain.find(text)
            if at >= 0:
                return _cut(source.parts, at, at + len(text))
            lines = text.split("\n")
            by_line = [*_by_line(source.parts, source.plain)]
            if len(lines) == len(by_line):
                return _realigned(lines, by_line)
        if "\n" not in text:
            return ()
        return self._found_in(text, result.keys)

    def parts_of(self, value: Any) -> Sequence[Part]:
        """Return the parts of a value as it is printed."""
        if isinstance(value, Traced) and value.parts:
            return value.parts
        text = str(value.plain if isinstance(value, Traced) else value)
        return (Part(len(text), self.keys_of(value), (), -1, 0),) if text else ()

    def _found_in(self, text: str, keys: Keys) -> Iterable[Part]:
        """Give each line of a text the keys whose values occur in it; all of them where none does."""
        values = {key: self._view.getv(key, "") for key in keys}
        if len(keys) < 2 or not all(len(value) > 1 for value in values.values()):
            return
        for line in text.splitlines(keepends=True):
            found = tuple(key for key, value in values.items() if value in line)
            yield Part(len(line), found, () if found else keys, -1, 0)

    # --- what the filters of a marked template call ------------------------------------------------------------------

    def begin(self, number: int) -> int:
        self._looked_at.append({})
        self._open.append(number)
        return number

    def at_work(self) -> Spot | None:
        """Return where the expression stands that is being computed."""
        return self.spots[self._open[-1]] if self._open else None

    def _ended(self) -> Keys:
        """Return what was looked at for an expression that is computed now."""
        self._open.pop()
        return tuple(self._looked_at.pop())

    def assigned(self, number: int, value: Any) -> Any:
        """Give what is assigned the keys that decided on it, where it has none of its own."""
        return self._with_keys(value, merged((self._ended(), *self._guarding(self.spots[number].guards)), self.most))

    def chosen(self, value: Any, guards: Sequence[int]) -> Any:
        """Give what was assigned in one of several branches, or in none, the keys that decided on it."""
        return self._with_keys(value, merged(self._guarding(guards), self.most))

    def _with_keys(self, value: Any, keys: Keys) -> Any:
        if isinstance(value, Traced) or not keys or not isinstance(value, (str, int, float)):
            return value
        return self.wrap(value, keys)

    def _guarding(self, guards: Iterable[int]) -> Iterator[Keys]:
        return (self.guards.get(guard, ()) for guard in guards)

    def decided(self, number: int, value: Any) -> Any:
        """Note what a condition, or what a loop goes over, depends on."""
        self.guards[number] = merged((self._ended(), self.keys_of(value)), self.most)
        return value

    def turn(self, number: int, values: Sequence[Any]) -> None:
        """Note what one turn of a loop is about."""
        keys = merged(map(self.keys_of, values), self.most)
        if keys:
            self.guards[number] = keys

    def piece(self, number: int, value: Any, language: str) -> Piece:
        """Return what is printed for a part of the output."""
        spot = self.spots[number]
        looked_at = self._ended()
        guards = merged(self._guarding(spot.guards), self.most)
        if spot.data is not None:
            piece = Piece(spot.data)
            lines = spot.data.splitlines(keepends=True) if spot.data.isascii() else _lines(spot.data)
            piece.parts = tuple(
                Part(len(line), (), guards, number, spot.line + after) for after, line in enumerate(lines)
            )
            return piece
        piece = Piece(self.apply(self.printed[language], value, wraps_result=False))
        parts = []
        given = self.parts_of(value) if len(piece) else ()
        has_keys = any(part.keys or part.because or part.spot >= 0 for part in given)
        for part in given:
            keys = part.keys or (() if has_keys else looked_at)
            because = merged((part.because, looked_at, guards), self.most)
            place = (part.spot, part.line) if part.spot >= 0 else (number, spot.line)
            parts.append(Part(part.length, keys, tuple(one for one in because if one not in keys), *place))
        if sum(part.length for part in parts) != len(piece):
            keys = self.keys_of(value) or looked_at
            because = tuple(one for one in merged((looked_at, guards), self.most) if one not in keys)
            parts = [Part(len(piece), keys, because, number, spot.line)]
        piece.parts = tuple(parts)
        return piece

    def concat(self, pieces: Iterable[Any]) -> Traced:
        """Return what several parts of the output are together."""
        every = list(pieces)
        text = "".join(str(one.plain if isinstance(one, Traced) else one) for one in every)
        parts = [part for one in every for part in (one.parts if isinstance(one, Piece) else self.parts_of(one))]
        whole = Traced(text, merged((part.keys for part in parts), self.most), self)
        whole.parts = tuple(parts)
        return whole

    # --- lines -------------------------------------------------------------------------------------------------------

    def lines(self, whole: Traced) -> Iterator[Line]:
        """Yield the lines of the output; the last one only if it is not empty."""
        texts = whole.plain.split("\n")
        for number, parts in enumerate(_by_line(whole.parts, whole.plain)):
            if texts[number] or number < len(texts) - 1:
                yield self._line(texts[number], parts)

    def _line(self, text: str, parts: Sequence[Part]) -> Line:
        keys = merged((part.keys for part in parts), self.most)
        because = merged((part.because for part in parts), self.most)
        placed = [part for part in parts if part.spot >= 0]
        # Where a value stands tells more than where the text around it begins.
        chosen = next(
            iter([one for one in placed if one.keys] or [one for one in placed if one.because] or placed), None
        )
        spot = self.spots[chosen.spot] if chosen else Spot("", 0, 0, (), None)
        line = chosen.line if chosen else 0
        others = tuple(one for one in because if one not in keys)
        return Line(text, keys, others, spot.template, line, spot.column if line == spot.line else 0)


def _lines(text: str) -> list[str]:
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _by_line(parts: Sequence[Part], text: str) -> Iterator[list[Part]]:
    """Yield for each line of a text what is in it of the parts; of an empty line, the part that ends it."""
    at, found = 0, list[Part]()
    ends = _ends(text)
    end = next(ends, -1)
    for part in parts:
        after = at + part.length
        while at <= end < after:
            if at < end or not found:
                found.append(part._replace(length=end - at))
            yield found
            at, found, end = end + 1, [], next(ends, -1)
        if at < after:
            found.append(part._replace(length=after - at))
        at = after
    yield found


def _cut(parts: Iterable[Part], start: int, end: int) -> Iterator[Part]:
    """Yield what lies between two places of a text."""
    at = 0
    for part in parts:
        length = min(at + part.length, end) - max(at, start)
        if length > 0:
            yield part._replace(length=length)
        at += part.length


def _ends(text: str) -> Iterator[int]:
    at = text.find("\n")
    while at >= 0:
        yield at
        at = text.find("\n", at + 1)


def _realigned(lines: Sequence[str], by_line: Sequence[Sequence[Part]]) -> Iterator[Part]:
    """Yield the parts of lines that were changed one by one."""
    for number, (line, parts) in enumerate(zip(lines, by_line, strict=True), 1):
        length = len(line) + (number < len(lines))
        if sum(part.length for part in parts) == len(line):
            yield from parts[:-1]
            last = parts[-1] if parts else Part(0, (), (), -1, 0)
            yield last._replace(length=last.length + (number < len(lines)))
        elif length:
            keys = merged((part.keys for part in parts), MOST_KEYS)
            because = merged((part.because for part in parts), MOST_KEYS)
            placed = next((part for part in parts if part.spot >= 0), None)
            yield Part(length, keys, because, placed.spot if placed else -1, placed.line if placed else 0)


def _joined(given: Sequence[Any]) -> Iterator[Any] | None:
    """Return what ``join`` puts together: of Jinja, of confpy, of Go."""
    values = [one for one in given if not isinstance(one, (Context, jinja2.Environment, nodes.EvalContext))]
    if not values or len(values) > 2:
        return None
    items, separator = values[0], values[1] if len(values) == 2 else ""
    if isinstance(items, Traced) and isinstance(items.plain, str):
        return None
    return _interleaved(list(items), separator)


def _interleaved(items: Sequence[Any], separator: Any) -> Iterator[Any]:
    for number, item in enumerate(items):
        if number:
            yield separator
        yield item


_JOINS: dict[str, Callable[[Sequence[Any]], Iterator[Any] | None]] = {
    "join": _joined,
    "do_join": _joined,
    "str_join": iter,
    "add": iter,
}
"""By name, the functions that put texts one behind the other → those texts."""
