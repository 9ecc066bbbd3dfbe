"""The bench still measures everything: how fast it all is, is for people to read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.bench.parts import PARTS
from tests.e2e.running import ROOT


@pytest.mark.timeout(600)
def test_each_row_can_be_measured(tmp_path, unmeasured):
    """A part that fails, or a row without a figure, ends the bench with 1; being slow does not."""
    file = tmp_path / "figures.json"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--json", str(file)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    rows = json.loads(file.read_text())["rows"]
    assert {row["part"] for row in rows} == set(PARTS)
