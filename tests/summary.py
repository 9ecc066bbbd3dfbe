"""How a run that fails ends: in a list that fits on a screen or two, whatever has failed and however often.

A run in which one test fails shows all of it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

TRACE_LINES = 40
"""Lines of one failure, its end."""
ALL_TRACES = 90
"""Lines of all failures together; those after it are in the list alone."""
LISTED = 40
"""Failures in the list."""


class Shortened:
    """What stands in the place of a failure's traceback."""

    def __init__(self, whole: Any, lines: list[str]) -> None:
        self._lines = lines
        if (crash := getattr(whole, "reprcrash", None)) is not None:
            self.reprcrash = crash

    def toterminal(self, terminal: Any) -> None:
        for line in self._lines:
            terminal.line(line)

    def __str__(self) -> str:
        return "\n".join(self._lines)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    stats: dict[str, list[Any]] = terminalreporter.stats
    whole = {name: stats.get(name, []) for name in ("error", "failed")}
    failures = [report for reports in whole.values() for report in reports]
    if len(failures) > 1:
        shorten(failures)
    for name, reports in whole.items():
        if len(reports) > LISTED:
            stats[name] = reports[:LISTED]
    try:
        yield
        for name, reports in whole.items():
            if len(reports) > LISTED:
                terminalreporter.line(f"… and {len(reports) - LISTED} more {name}")
    finally:
        # The last line counts all of them.
        stats.update({name: reports for name, reports in whole.items() if reports})


def shorten(failures: list[Any]) -> None:
    """Cut what failures show, in their order."""
    left = ALL_TRACES
    for report in failures:
        lines = report.longreprtext.splitlines()
        shown = lines[-min(TRACE_LINES, left) :] if left > 0 else []
        if left > 0 and len(shown) < len(lines):
            shown = [f"… {len(lines) - len(shown)} lines: run it alone to see them", *shown]
        left -= len(shown)
        report.longrepr = Shortened(report.longrepr, shown)
        report.sections = []
