"""A machine whose inotify instances are used up: what is edited counts all the same, later, and one line says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.running import Confpy
from tests.run_as_user import needs, refused

LIMIT = "/proc/sys/user/max_inotify_instances"
WITHOUT_INOTIFY = ("unshare", "--user", "--map-root-user", "sh", "-c", f'echo 0 > {LIMIT} && exec "$@"', "sh")


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    for name in ("conf.d", "templates"):
        (tmp_path / name).mkdir()
    add(tmp_path, "one")
    (tmp_path / "keys.yaml").write_text("a: 1")
    return tmp_path


def add(confdir: Path, name: str) -> None:
    (confdir / "templates" / f"{name}.j2").write_text(f"{name} {{{{ getv('/a') }}}}")
    (confdir / "conf.d" / f"{name}.toml").write_text(
        f'[template]\nsrc = "{name}.j2"\ndest = "{confdir / name}"\nkeys = ["/a"]\n'
    )


def test_edits_of_resources_templates_and_keys_are_seen_without_inotify(confdir: Path) -> None:
    needs(refused(*WITHOUT_INOTIFY, "true"))
    flags = ("-watch", "-backend", "file", "-file", str(confdir / "keys.yaml"), "-confdir", str(confdir))
    with Confpy(*flags, folder=confdir, by=WITHOUT_INOTIFY) as confpy:
        unwatched = confpy.says("edits.unwatched")
        assert "fs.inotify.max_user_instances" in unwatched["hint"]
        confpy.says("resource.changed", resource="one")
        add(confdir, "two")
        (confdir / "templates" / "one.j2").write_text("edited {{ getv('/a') }}")
        confpy.says("resource.changed", resource="two", seconds=60)
        (confdir / "keys.yaml").write_text("a: 2")
        confpy.says("resource.changed", resource="one", trigger="change", seconds=60)
        assert (confdir / "one").read_text() == "edited 2"
        assert [one for one in confpy.events if one["event"] == "edits.unwatched"] == [unwatched]


def test_a_watch_that_can_be_made_warns_of_nothing(confdir: Path) -> None:
    flags = ("-watch", "-backend", "file", "-file", str(confdir / "keys.yaml"), "-confdir", str(confdir))
    with Confpy(*flags, folder=confdir) as confpy:
        confpy.says("resource.changed", resource="one")
        assert not [one for one in confpy.events if one["event"].endswith("unwatched")]
