"""The decisions in ``docs/decisions``: numbered without gaps, dated, and listed in their index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
DECISIONS = sorted(FOLDER.glob("[0-9]*.md"))
HEAD = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\n"
    r"- Date: (?P<date>20\d\d-\d\d-\d\d(, revised 20\d\d-\d\d-\d\d)?)\n"
    r"- Status: (?P<status>accepted|superseded by \[decision \d+\]\(\d{4}-[a-z0-9-]+\.md\))\n\n"
)


def head(path: Path) -> dict[str, str]:
    found = HEAD.match(path.read_text())
    assert found, f"{path.name} does not begin with number and title, date and status"
    return found.groupdict()


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_each_decision_begins_with_its_number_title_date_and_status(path):
    assert int(head(path)["number"]) == int(path.name[:4])


def test_numbers_are_unique_and_without_gaps():
    assert [int(path.name[:4]) for path in DECISIONS] == [*range(1, len(DECISIONS) + 1)]


def test_the_index_lists_each_decision_as_its_head_has_it():
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if re.match(r"\| \d", line)]
    row = "| {number} | [{title}]({path.name}) | {date} | {status} |"
    assert rows == [row.format(path=path, **head(path)) for path in DECISIONS]


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_line_but_of_a_table_is_longer_than_the_code_may_be(path):
    lines = enumerate(path.read_text().splitlines(), 1)
    long = [number for number, line in lines if len(line) > 120 and not line.startswith("|")]
    assert long == []
