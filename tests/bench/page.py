"""docs/performance.md and its charts, made from docs/performance.json.

    python -m tests.bench.page

writes them anew; a test holds them to the JSON.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.bench import fleet, soak
from tests.bench.bench import Sizes
from tests.bench.changes import STEPS
from tests.bench.figures import Figures
from tests.bench.plots import Axis, chart
from tests.bench.programs import BEFORE
from tests.bench.report import number, value
from tests.bench.rows import Cell, Row, cell, shown, unit
from tests.bench.table import table
from tests.generated import with_part

DOCS = Path(__file__).parents[2] / "docs"
PAGE, DATA, IMAGES = DOCS / "performance.md", DOCS / "performance.json", DOCS / "images"

COUNT = "{:,.0f}".format


def seconds(of: float) -> str:
    return shown(of, "s")


def mebibytes(of: float) -> str:
    return f"{of / 2**20:,.0f} MiB"


CHARTS = {
    "one-shot.svg": (
        "CPU of a one-shot run", Axis("resources of 5 keys", COUNT), Axis("", seconds),
        r"once\.etcd\.(\d+)x5\.cpu",
    ),
    "start.svg": (
        "Start of a daemon until all files are there", Axis("resources of 5 keys", COUNT), Axis("", seconds),
        r"start\.etcd\.(\d+)x5\.wall",
    ),
    "memory.svg": (
        "Memory of a daemon", Axis("resources of 5 keys", COUNT), Axis("", mebibytes),
        r"start\.etcd\.(\d+)x5\.memory",
    ),
    "change.svg": (
        "CPU for one change", Axis("resources of 20 keys", COUNT), Axis("", seconds),
        r"change\.etcd\.(\d+)x20\.cpu",
    ),
    "keys.svg": (
        "CPU for one change", Axis("keys of the resource", COUNT), Axis("", seconds),
        rf"change\.etcd\.{STEPS}x(\d+)\.cpu",
    ),
    "growth.svg": (
        "Memory after many changes", Axis("changes", COUNT), Axis("", mebibytes),
        r"growth\.etcd\.after-(\d+)\.memory",
    ),
}  # fmt: skip
"""File → title, axes, and the figures in it: what the group finds is the place along the axis."""


NONE = "Not measured yet."


def images(data: Mapping[str, Any]) -> dict[str, str]:
    """Return file → SVG for the charts of which the figures were measured."""
    figures = Figures.load(data["figures"])
    names = list(data["programs"])
    made = {}
    for file, (title, across, up, pattern) in CHARTS.items():
        series = lines(figures, names, pattern)
        if series:
            made[file] = chart(title, across, up, series)
    return made


def lines(figures: Figures, subjects: list[str], pattern: str) -> dict[str, list[tuple[float, float]]]:
    """Return subject → points of the figures whose name matches, for those that have two at least."""
    found: dict[str, list[tuple[float, float]]] = {subject: [] for subject in subjects}
    for figure in figures.names():
        if place := re.fullmatch(pattern, figure):
            for subject in subjects:
                height = figures.median(figure, subject)
                if height is not None and height > 0:
                    found[subject].append((float(place[1]), height))
    return {subject: sorted(points) for subject, points in found.items() if len(points) > 1}


def parts(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of the page that are made from the figures, by name."""
    made = {"machine": machine(data), "figures": "\n".join(figures_table(data)), "meanings": "\n".join(meanings(data))}
    for name, of in (("fleet", fleet), ("soak", soak)):
        made[name] = "\n".join([f"{data[name]['measured']}.", "", *of.told(data[name])]) if name in data else NONE
    made["charts"] = "\n".join(
        f"![{title}, against {across.label}](images/{file})"
        for file, (title, across, _, _) in CHARTS.items()
        if file in images(data)
    )
    return made


def machine(data: Mapping[str, Any]) -> str:
    about, programs = data["machine"], data["programs"]
    versions = ", ".join(f"{name}: {version}" for name, version in programs.items())
    text = (
        f"{data['measured']}, {about['cores']} cores ({about['processor']}), {about['memory'] / 2**30:.0f} GiB,"
        f" Linux {about['kernel']}, Python {about['python']}, {about['etcd'].lower().replace(' version:', '')},"
        f" {about['consul']}. {versions}."
    )
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def cells(data: Mapping[str, Any]) -> Iterator[tuple[Row, Cell, Cell]]:
    figures = Figures.load(data["figures"])
    for row in table(Sizes(**data["sizes"])):
        yield row, cell(figures, row, "confpy"), cell(figures, row, BEFORE)


def figures_table(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table, with a column for another checkout where one was measured."""
    compared = BEFORE in data["programs"]
    yield "| | confpy | compared with | ratio | at most |" + (" ratio before |" if compared else "")
    yield "|---|---|---|---|---|" + ("---|" if compared else "")
    for row, now, before in cells(data):
        if now.own is None:
            continue
        kind = unit(row.figure)
        own = now.own.failed or shown(now.own.median, kind)
        other = f"{row.over}: {_figure(now, kind)}" if row.over else ""
        asked = "" if row.at_most is None else number(row.at_most, row)
        ratio = value(now) if row.over else ""
        if now.met is False:
            ratio, own = (f"**{ratio}**", own) if row.over else (ratio, f"**{own}**")
        then = (value(before) if compared else "") if before.own else ""
        yield f"| {row.what} | {own} | {other} | {ratio} | {asked} |" + (f" {then} |" if compared else "")


def _figure(of: Cell, kind: str) -> str:
    if of.other is None:
        return "not measured"
    return of.other.failed or shown(of.other.median, kind)


def meanings(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the rows mean, once for those that mean the same, under the name of the part that measures them."""
    told = set()
    for row, now, _ in cells(data):
        if now.own is not None and (row.part, row.meaning) not in told:
            told.add((row.part, row.meaning))
            yield f"- `{row.part}`, {row.what.partition(':')[0]}: {row.meaning}."


def page(text: str, data: Mapping[str, Any]) -> str:
    """Return the page with all its parts made anew; raises ``ValueError`` where one has no place."""
    for name, made in parts(data).items():
        text = with_part(text, name, made)
    return text


def main() -> None:
    data = json.loads(DATA.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), data), encoding="utf-8")
    IMAGES.mkdir(exist_ok=True)
    for file, made in images(data).items():
        (IMAGES / file).write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
