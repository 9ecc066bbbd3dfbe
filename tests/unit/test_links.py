"""Following links in one step gives what following them one by one gives."""

from __future__ import annotations

import os

import pytest

from confpy.system.links import resolve


@pytest.mark.parametrize(
    "path",
    ["plain/sub", "link/sub", "link", "chain", "link/../plain", "broken", "missing/below", "loop", "plain/file", "."],
)
def test_it_leads_where_realpath_does(path, tmp_path, monkeypatch):
    (tmp_path / "plain/sub").mkdir(parents=True)
    (tmp_path / "plain/file").write_text("")
    for link, to in {"link": "plain", "chain": "link/sub", "broken": "nowhere", "loop": "loop"}.items():
        (tmp_path / link).symlink_to(to)
    monkeypatch.chdir(tmp_path)
    assert resolve(path) == os.path.realpath(path)
    assert resolve(str(tmp_path / path)) == os.path.realpath(tmp_path / path)


def test_no_descriptor_stays_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    resolve(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before


def test_a_name_that_looks_deleted_is_looked_at_again(tmp_path):
    folder = tmp_path / "x (deleted)"
    folder.mkdir()
    assert resolve(str(folder)) == os.path.realpath(folder)
