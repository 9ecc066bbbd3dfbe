"""Print how much of each folder of confpy the tests have run: lines, branches, and both in percent.

`scripts/test --coverage` runs it, on what coverage.py has combined. With ``--gate`` it ends with 2 if the total is
below ``fail_under`` in pyproject.toml.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

COLUMNS = "{:<26}{:>15}{:>15}{:>9}"


class Covered(NamedTuple):
    """What was run, out of what there is."""

    lines: int = 0
    all_lines: int = 0
    branches: int = 0
    all_branches: int = 0

    @property
    def percent(self) -> float:
        """Of lines and branches together, as coverage.py counts; 100 if there are none."""
        there = self.all_lines + self.all_branches
        return 100.0 * (self.lines + self.branches) / there if there else 100.0

    def row(self, name: str) -> str:
        """Return it as a line of the table. Percents are rounded down: 100 means all."""
        lines, branches = f"{self.lines}/{self.all_lines}", f"{self.branches}/{self.all_branches}"
        return COLUMNS.format(name, lines, branches, f"{rounded_down(self.percent):.1f} %")


def by_folder(files: Mapping[str, Covered]) -> dict[str, Covered]:
    """Add up files (by their path) for each folder that holds some; subfolders count for themselves."""
    folders: dict[str, list[Covered]] = {}
    for path, covered in files.items():
        folders.setdefault(os.path.dirname(path), []).append(covered)
    return {folder: added(folders[folder]) for folder in sorted(folders)}


def added(counts: Iterable[Covered]) -> Covered:
    return Covered(*map(sum, zip(Covered(), *counts, strict=True)))


def table(files: Mapping[str, Covered]) -> list[str]:
    """Return the lines of the table, with the total as the last."""
    rows = [covered.row(f"{folder}/") for folder, covered in by_folder(files).items()]
    return [COLUMNS.format("", "lines", "branches", ""), *rows, added(files.values()).row("total")]


def rounded_down(percent: float) -> float:
    return int(percent * 10) / 10


def read(report: Mapping[str, Any]) -> dict[str, Covered]:
    """Take the counts out of coverage.py's JSON report."""
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {path: Covered(*(one["summary"][name] for name in names)) for path, one in report["files"].items()}


def main() -> int:
    import coverage

    measured = coverage.Coverage()
    measured.load()
    place = os.path.join(os.path.dirname(str(measured.get_option("run:data_file"))), "report.json")
    measured.json_report(outfile=place)
    with open(place, encoding="utf-8") as file:
        files = read(json.load(file))
    print(*table(files), sep="\n")
    least = measured.get_option("report:fail_under")
    if "--gate" in sys.argv[1:] and isinstance(least, int | float) and added(files.values()).percent < least:
        print(f"The total is below {least} %, which pyproject.toml asks for.")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
