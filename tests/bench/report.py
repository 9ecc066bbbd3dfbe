"""A run as text and as JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import rows
from tests.bench.bench import Bench
from tests.bench.rows import Cell, Row, shown, unit
from tests.servers import consul, etcd

WIDTH = 76


def lines(cells: Iterable[tuple[Cell, Cell | None]]) -> list[str]:
    """Return the table: of each row its value for this confpy and for the other checkout, and what it is made of."""
    found = [f"{'':<{WIDTH}}{'value':>9}{'at most':>9}{'before':>9}   confpy / compared with"]
    for now, before in cells:
        row = now.row
        over = f" ÷ {row.over}" if row.over else ""
        asked = "" if row.at_most is None else number(row.at_most, row)
        mark = {True: " ", False: "!", None: " "}[now.met]
        then = value(before) if before else ""
        what = row.what + over
        found.append(f"{what:<{WIDTH}}{value(now):>9}{asked:>9}{then:>9} {mark} {made_of(now)}")
    return found


def number(of: float, row: Row) -> str:
    return f"{of:.3g}" if row.over else shown(of, unit(row.figure))


def value(of: Cell) -> str:
    if of.value is None:
        return "–"
    return f"{of.bound} {number(of.value, of.row)}".lstrip()


def made_of(of: Cell) -> str:
    """Return both figures of a row, with their quartiles."""
    kind = unit(of.row.figure)
    parts = []
    for found in (of.own, of.other):
        if found is None:
            parts.append("–")
        elif found.failed:
            parts.append(found.failed)
        else:
            spread = f" ({shown(found.low, kind)} … {shown(found.high, kind)})" if found.samples > 1 else ""
            parts.append(shown(found.median, kind) + spread)
    return " / ".join(parts if of.row.over else parts[:1])


def paired(bench: Bench, wanted: Sequence[Row]) -> list[tuple[Cell, Cell | None]]:
    """Return the cells of the rows for this confpy, and for the other checkout where there is one."""
    other = next((program.name for program in bench.of("confpy") if program is not bench.own), None)
    return [
        (rows.cell(bench.figures, row, bench.own.name), rows.cell(bench.figures, row, other) if other else None)
        for row in wanted
    ]


def machine() -> dict[str, Any]:
    """Return what the figures of a run depend on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model[0].partition(":")[2].strip() if model else platform.machine(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": libraries(),
        "etcd": said(etcd.BINARY, "--version"),
        "consul": said(consul.BINARY, "version"),
        "haproxy": said("haproxy", "-v"),
        "load": os.getloadavg()[0],
    }


def libraries() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("jinja2", "click", "structlog", "watchdog", "etcd3gw", "py-consul", "orjson"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def said(program: str, flag: str) -> str:
    """Return the first line that a program says about its version."""
    if not shutil.which(program):
        return "none"
    return subprocess.run([program, flag], capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def document(bench: Bench, about: dict[str, Any], wanted: Sequence[Row]) -> dict[str, Any]:
    """Return a run as it goes into JSON."""
    cells = paired(bench, wanted)
    other = next((program.name for program in bench.of("confpy") if program is not bench.own), "")
    told = [(bench.own.name, now) for now, _ in cells] + [(other, before) for _, before in cells if before]
    return {
        "measured": measured(),
        "machine": about,
        "programs": {program.name: program.version() for program in bench.programs},
        "sizes": asdict(bench.sizes),
        "rows": rows.as_json(told),
        "figures": bench.figures.as_json(),
    }


def measured() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def update(path: Path, data: dict[str, Any]) -> None:
    """Write ``data`` over what of it a file of JSON holds; leave the rest, such as a soak of another day."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    path.write_text(pretty(stored | data) + "\n", encoding="utf-8")


def pretty(data: Any, depth: int = 0) -> str:
    """Return JSON whose inner objects take one line each."""
    flat = json.dumps(data, ensure_ascii=False)
    if len(flat) < 110 or depth > 2 or not isinstance(data, (dict, list)):
        return flat
    pad = " " * (depth + 1)
    if isinstance(data, dict):
        inner = [f"{json.dumps(name)}: {pretty(value, depth + 1)}" for name, value in data.items()]
        begin, end = "{}"
    else:
        inner = [pretty(value, depth + 1) for value in data]
        begin, end = "[]"
    return f"{begin}\n{pad}" + f",\n{pad}".join(inner) + f"\n{' ' * depth}{end}"
