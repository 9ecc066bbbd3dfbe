"""The table that ``scripts/test --coverage`` prints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "coverage_by_folder.py"
spec = importlib.util.spec_from_file_location("coverage_by_folder", SCRIPT)
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
Covered = script.Covered

FILES = {
    "confpy/stores/http.py": Covered(30, 40, 5, 10),
    "confpy/cli.py": Covered(10, 10, 4, 4),
    "confpy/stores/etcd/v3.py": Covered(0, 20, 0, 0),
    "confpy/log.py": Covered(20, 30, 0, 6),
    "confpy/stores/__init__.py": Covered(),
    "confpy/stores/file.py": Covered(10, 10, 5, 5),
}


def test_files_are_added_up_by_their_folder_and_subfolders_count_for_themselves():
    assert script.by_folder(FILES) == {
        "confpy": Covered(30, 40, 4, 10),
        "confpy/stores": Covered(40, 50, 10, 15),
        "confpy/stores/etcd": Covered(0, 20, 0, 0),
    }


def test_percents_are_of_lines_and_branches_together_and_rounded_down():
    assert Covered(3, 4, 1, 4).percent == 50.0
    assert Covered(9999, 10000, 0, 0).row("almost all").endswith(" 99.9 %")
    assert Covered().percent == 100.0


def test_the_table_has_a_row_for_each_folder_and_the_total_last():
    rows = [line.split() for line in script.table(FILES)]
    assert rows == [
        ["lines", "branches"],
        ["confpy/", "30/40", "4/10", "68.0", "%"],
        ["confpy/stores/", "40/50", "10/15", "76.9", "%"],
        ["confpy/stores/etcd/", "0/20", "0/0", "0.0", "%"],
        ["total", "70/110", "14/25", "62.2", "%"],
    ]


def test_counts_come_from_the_report_of_coverage():
    summary = {
        "covered_lines": 1, "num_statements": 2, "covered_branches": 3, "num_branches": 4, "percent_covered": 66.7,
        "missing_lines": 1, "excluded_lines": 0, "num_partial_branches": 1, "missing_branches": 1,
    }  # fmt: skip
    assert script.read({"files": {"confpy/cli.py": {"summary": summary}}}) == {"confpy/cli.py": Covered(1, 2, 3, 4)}
