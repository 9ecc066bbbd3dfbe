"""The table: each row compares a figure with another program's, with a floor, or with a bound. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import Figures, Summary


@dataclass(frozen=True, slots=True)
class Row:
    """``over`` is the subject that the figure is divided by; without one the figure stands for itself."""

    part: str
    """What measures it, for ``--only``."""
    what: str
    figure: str
    over: str = ""
    at_most: float | None = None
    """Of the quotient; of a figure that stands for itself, in its own unit (seconds, bytes, a number)."""
    meaning: str = ""
    """A sentence for the manual."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of one run, for one confpy."""

    row: Row
    own: Summary | None
    other: Summary | None
    value: float | None
    bound: str = ""
    """``<`` or ``>`` where one of the two did not end in its time, so that the value is only a bound."""

    @property
    def met(self) -> bool | None:
        """Whether it is as small as it has to be; None where that is not known, or nothing is asked."""
        if self.row.at_most is None or self.value is None:
            return None
        if (self.bound == "<" and self.value > self.row.at_most) or (
            self.bound == ">" and self.value <= self.row.at_most
        ):
            return None
        return self.value <= self.row.at_most


def cell(figures: Figures, row: Row, subject: str) -> Cell:
    """Return what a row says about ``subject``."""
    own = figures.get(row.figure, subject)
    other = figures.get(row.figure, row.over) if row.over else None
    value, bound = None, ""
    if own is None or (own.failed and not own.limit):
        return Cell(row, own, other, None)
    dividend = own.limit or own.median
    bound = ">" if own.failed else ""
    if not row.over:
        value = dividend
    elif other is not None and (other.limit or not other.failed):
        divisor = other.limit or other.median
        if other.failed:
            bound = "<" if not own.failed else "?"
        value = dividend / divisor if divisor > 0 and bound != "?" else None
    return Cell(row, own, other, value, bound if value is not None else "")


def unit(figure: str) -> str:
    """Return what a figure is counted in: ``s``, ``B``, or nothing for a number."""
    last = figure.rpartition(".")[2]
    if figure.endswith(("memory", "growth")):
        return "B"
    if ".per-resource." in figure or last in ("wakeups", "reloads"):
        return ""
    return "s"


def shown(value: float, of: str) -> str:
    """Return a value as people write it: with three digits, in the unit that suits it."""
    if of == "B":
        return f"{value / 2**20:.1f} MiB" if abs(value) < 100 * 2**20 else f"{value / 2**20:.0f} MiB"
    if of == "s":
        return f"{value:.3g} s" if abs(value) >= 1 else f"{value * 1000:.3g} ms"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def of_parts(rows: Iterable[Row], only: Sequence[str]) -> list[Row]:
    """Return the rows that these parts measure; all where none are named."""
    return [row for row in rows if not only or row.part in only]


def as_json(cells: Iterable[tuple[str, Cell]]) -> list[dict[str, Any]]:
    """Return rows, each with the subject it is about."""
    return [
        {
            "subject": subject, "part": one.row.part, "what": one.row.what, "figure": one.row.figure,
            "over": one.row.over, "at_most": one.row.at_most,
            "value": None if one.value is None else float(f"{one.value:.6g}"), "bound": one.bound, "met": one.met,
        }
        for subject, one in cells
    ]  # fmt: skip
