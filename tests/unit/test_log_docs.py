"""docs/logs.md has one row for each event, with the levels that the source logs it at."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import confpy
from confpy.log import WEIGHTS

MANUAL = (Path(__file__).parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
EVENT = re.compile(r"[a-z]+(?:\.[a-z_]+)+")


def literals(expression: ast.expr) -> Iterator[str]:
    """Yield the strings that an expression may be: a literal, or either branch of a conditional expression."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from literals(body)
            yield from literals(orelse)


def logged(source: str) -> Iterator[tuple[str, str]]:
    """Yield event and level of each call whose first two arguments are a literal level and a literal event.

    This holds whatever the callee is called. An event that is the default of a parameter has the default of ``level``.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(args=[level, event, *_]):
                for found in literals(event):
                    if EVENT.fullmatch(found):
                        yield from ((found, one) for one in literals(level) if one in WEIGHTS)
            case ast.FunctionDef(args=ast.arguments(args=args, defaults=defaults)) if defaults:
                named = zip(args[-len(defaults) :], defaults, strict=True)
                default = {arg.arg: list(literals(value)) for arg, value in named}
                for found in default.get("event", []):
                    yield from ((found, one) for one in default["level"])


def events() -> dict[str, set[str]]:
    """Return each event of the source with its levels."""
    found: dict[str, set[str]] = {}
    for path in Path(confpy.__file__).parent.rglob("*.py"):
        for event, level in logged(path.read_text(encoding="utf-8")):
            found.setdefault(event, set()).add(level)
    return found


def test_the_manual_has_one_row_for_each_event_with_its_levels():
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([a-z, ]+) \|", MANUAL, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "two rows for one event"
    assert {event: set(levels.split(", ")) for event, levels in rows} == events()


def test_the_manual_lists_all_events_of_level_debug():
    (described,) = re.findall(r"^- \*\*debug\*\*: (.*?)\n\n", MANUAL, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([a-z_.]+)`", described)) - {"conf.d"} == {
        event for event, levels in events().items() if "debug" in levels
    }


def test_an_event_is_found_by_its_shape():
    source = """
def from_error(error, event="a.default", level="error"): ...
LogEvent("info", "a.named", {})
self._log("warning" if late else "info", "b.two_levels", key=1)
write("info", "no event")
"""
    assert set(logged(source)) == {
        ("a.default", "error"),
        ("a.named", "info"),
        ("b.two_levels", "warning"),
        ("b.two_levels", "info"),
    }
