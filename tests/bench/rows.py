"""The table: each row compares a figure with another program's, with a floor, or with a bound. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import FLOOR, Figures, Summary


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
    if ".per-resource." in figure or last in ("wakeups", "reloads", "share"):
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


CONFD, CONSUL_TEMPLATE = "confd", "consul-template"


def table(few: int, many: int, most: int) -> list[Row]:
    """Return the rows of a run over so many resources."""
    return [
        *once(few, many),
        *scale(most),
        *change(few, many),
        *consul(many),
    ]


def once(few: int, many: int) -> list[Row]:
    etcd, consul = f"etcd.{many}x20", f"consul.{many}x20"
    made = f"one-shot, {many:,} resources × 20 keys"
    return [
        Row("once", f"{made}, etcd, warm: wall", f"once.{etcd}.wall", CONFD, 0.6),
        Row("once", f"{made}, etcd, warm: CPU", f"once.{etcd}.cpu", CONFD, 0.9),
        Row("once", f"{made}, etcd, cold template cache: wall", f"once-cold.{etcd}.wall", CONFD, 1.3),
        Row("once", f"{made}, etcd, cold template cache: CPU", f"once-cold.{etcd}.cpu", CONFD, 2.0),
        Row("once-consul", f"{made}, Consul, warm: wall", f"once.{consul}.wall", CONFD, 0.8),
        Row("once-consul", f"{made}, Consul, warm: wall", f"once.{consul}.wall", CONSUL_TEMPLATE),
        Row("cold", "one-shot, 1 resource, environment: CPU", "cold.env.cpu", FLOOR, 1.3),
        Row("cold", "one-shot, 1 resource, etcd: CPU", "cold.etcd.cpu", FLOOR, 1.5),
        Row("cold", f"one-shot, {few} resources × 20 keys, etcd: CPU", f"once.etcd.{few}x20.cpu", "", 0.3),
    ]


def scale(most: int) -> list[Row]:
    return [
        Row("scale", f"one-shot, CPU per resource at {most:,} ÷ at 100", "once.per-resource.cpu", "", 1.2),
        Row("scale", f"daemon start, CPU per resource at {most:,} ÷ at 100", "start.per-resource.cpu", "", 1.2),
        Row("scale", f"daemon start, {most:,} resources × 5 keys: wall", f"start.etcd.{most}x5.wall", CONFD, 0.4),
        Row("scale", f"daemon start, {most:,} resources × 5 keys: memory", f"start.etcd.{most}x5.memory", CONFD, 0.65),
    ]


def change(few: int, many: int) -> list[Row]:
    rows = [Row("start", f"daemon start, {many:,} resources × 20 keys: wall", f"start.etcd.{many}x20.wall", CONFD, 0.3)]
    sizes = ((1, 0.9, 1.0), (few, 1.0, 0.95), (many, 1.0, 0.65))
    for size, latency, memory in sizes:
        place, among = f"change.etcd.{size}x20", f"at {size:,} resource{'s' if size > 1 else ''}"
        rows += [
            Row("change", f"latency over its floor, {among}", f"{place}.latency-over-floor", CONFD, latency),
            Row("change", f"CPU per change, {among}", f"{place}.cpu", CONFD, 0.9),
            Row("change", f"memory, {among}", f"{place}.memory", CONFD, memory),
        ]
    return rows


def consul(many: int) -> list[Row]:
    place, among = f"change.consul.{many}x20", f"Consul, {many:,} resources"
    return [
        Row("change-consul", f"{among}: latency", f"{place}.latency", CONSUL_TEMPLATE, 0.04),
        Row("change-consul", f"{among}: CPU per change", f"{place}.cpu", CONSUL_TEMPLATE, 0.02),
        Row("change-consul", f"{among}: memory", f"{place}.memory", CONSUL_TEMPLATE, 0.65),
    ]
