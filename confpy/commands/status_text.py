"""The status of a confpy as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from confpy.commands.stdout import printable

UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
COLOURS = {
    "current": "green", "waiting": "cyan", "delivering": "cyan", "owed": "yellow", "stale": "yellow",
    "drifted": "yellow", "held": "red", "failed": "red", "up": "green", "down": "red",
}  # fmt: skip
GAP = "  "


class Cell(NamedTuple):
    """A part of a line, which may have a colour."""

    text: str
    colour: str = ""


Line = tuple[Cell, ...]


def status_lines(status: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the lines for a status as its JSON has it (``model.as_json``)."""
    now = float(status["now"])
    yield from _head(status, now)
    stores = [_store_row(store, now) for store in status["stores"]]
    yield (Cell(""),)
    yield from _table(("STORE", "STATE", "REVISION", "ANSWERED", "STREAM", "NODES"), stores)
    if status["resources"]:
        yield (Cell(""),)
        yield from _table(
            ("RESOURCE", "STATE", "SINCE", "CHANGED", "REVISION", "NEXT", "WHY"),
            [_resource_row(one, now) for one in status["resources"]],
        )
    if status["reloads"]:
        yield (Cell(""),)
        yield from _table(
            ("RELOAD OWED", "SINCE", "FAILED", "NEXT", "RESOURCES", "WHY"),
            [_reload_row(one, now) for one in status["reloads"]],
        )
    if status["troubles"]:
        yield (Cell(""),)
        for trouble in status["troubles"]:
            yield Cell("! ", "red"), Cell(_one_line(trouble))


def _head(status: Mapping[str, Any], now: float) -> Iterator[Line]:
    since = ago(now - float(status["since"]))
    what = f"confpy {status['version']}, PID {status['pid']}, {status['mode']}, runs for {since}"
    yield (Cell(_one_line(f"{what}: {status['confdir']}")),)
    states = [one["state"] for one in status["resources"]]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states, key=[*COLOURS].index))]
    is_well = bool(status["is_well"])
    how = "stopping" if status["is_stopping"] else "started" if status["is_started"] else "not started yet"
    yield (
        Cell("well" if is_well else "not well", "green" if is_well else "red"),
        Cell(f", {how}, {_count(len(states))}" + (f": {', '.join(counts)}" if counts else "")),
    )


def _count(number: int) -> str:
    return "1 resource" if number == 1 else f"{number} resources"


def _store_row(store: Mapping[str, Any], now: float) -> Line:
    state = "up" if store["is_up"] else "down"
    error = store["error"] or {}
    why = f"  {error.get('error', '')}" + _hint(error) if error else ""
    denied = f"  denies {', '.join(store['denied'])}" if store["denied"] else ""
    node, nodes = store["node"], ", ".join(store["nodes"]) or "-"
    if node:  # with one address it is that
        nodes = f"{node}, of {nodes}" if len(store["nodes"]) > 1 else node
    return (
        Cell(_one_line(f"{store['name']} at {mount}" if (mount := store.get("mount")) else store["name"])),
        Cell(state, COLOURS[state]),
        Cell(str(store["revision"] or "-")),
        Cell(since_or_dash(store["answered_at"], now)),
        Cell(str(store["stream"] or "-")),
        Cell(_one_line(nodes + why + denied)),
    )


def _resource_row(one: Mapping[str, Any], now: float) -> Line:
    state = str(one["state"])
    error = one["error"] or {}
    return (
        Cell(_one_line(one["name"] + ("" if one.get("items") is None else f" ({one['items']} files)"))),
        Cell(state, COLOURS.get(state, "")),
        Cell(since_or_dash(one["since"], now)),
        Cell(since_or_dash(one["changed_at"], now)),
        Cell(str(one["revision"] or "-")),
        Cell(until_or_dash(one["next_at"], now)),
        Cell(_one_line(one["why"] + (_hint(error) if one["why"] else ""))),
    )


def _reload_row(one: Mapping[str, Any], now: float) -> Line:
    error = one["error"] or {}
    why = "it runs" if one["is_running"] else one["waits_for"] or "it starts next"
    if error:
        why += f"; last error: {error.get('error', '')}" + _hint(error)
    return (
        Cell(_one_line(one["command"]), "yellow"),
        Cell(since_or_dash(one["since"], now)),
        Cell(str(one["attempts"] or "-")),
        Cell(until_or_dash(one["next_at"], now)),
        Cell(_one_line(", ".join(one["resources"]))),
        Cell(_one_line(why)),
    )


def _hint(error: Mapping[str, Any]) -> str:
    return f" ({error['hint']})" if error.get("hint") else ""


def _table(titles: Sequence[str], rows: Sequence[Line]) -> Iterator[Line]:
    """Yield rows with columns of one width; the last has its own."""
    widths = [max(len(row[at].text) for row in (tuple(map(Cell, titles)), *rows)) for at in range(len(titles))]
    for row in (tuple(Cell(title, "bold") for title in titles), *rows):
        last = len(row) - 1
        yield tuple(
            cell if at == last else Cell(cell.text.ljust(width) + GAP, cell.colour)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )


def ago(seconds: float) -> str:
    """Return a duration in its largest unit: ``3 h``."""
    seconds = max(0.0, seconds)
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def since_or_dash(moment: float, now: float) -> str:
    return ago(now - moment) if moment else "-"


def until_or_dash(moment: float, now: float) -> str:
    return f"in {ago(moment - now)}" if moment else "-"


def _one_line(text: object) -> str:
    """Return a text that stays on its line, whatever is in it."""
    return printable(" ".join(str(text).split()))


def plain(lines: Iterable[Line]) -> str:
    """Return lines without colours."""
    return "".join("".join(cell.text for cell in line).rstrip() + "\n" for line in lines)
