"""A certificate that is renewed is a reload, though no key and no byte of the target changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.running import Confpy, run_once
from tests.waiting import wait_until


class Place:
    """A confdir with one resource that watches a certificate behind two links, as certbot lays it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reloads = folder / "reloads"
        for name in ("conf.d", "templates", "archive", "live"):
            (folder / name).mkdir()
        self.cert = folder / "live" / "cert.pem"
        self.renew("first")
        (folder / "keys.yaml").write_text("a: 1")
        (folder / "templates" / "web.j2").write_text("web {{ getv('/a') }}\n")
        self.resource()

    def resource(self, **more: str) -> None:
        options = {
            "src": "'web.j2'", "dest": f"'{self.folder / 'out'}'", "keys": "['/a']", "watch_files": f"['{self.cert}']",
            "reload_cmd": f"'echo run >> {self.reloads}'", **more,
        }  # fmt: skip
        lines = [f"{key} = {value}" for key, value in options.items()]
        (self.folder / "conf.d" / "web.toml").write_text("\n".join(["[template]", *lines, ""]))

    def renew(self, content: str) -> None:
        version = self.folder / "archive" / f"{content}.pem"
        version.write_text(content)
        link = self.folder / "live" / "new"
        link.symlink_to(f"../archive/{content}.pem")
        link.rename(self.cert)

    def runs(self) -> int:
        return len(self.reloads.read_text().splitlines()) if self.reloads.exists() else 0

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-backend", "file", "-file", str(self.folder / "keys.yaml"), "-confdir", str(self.folder))

    def once(self, *flags: str) -> int:
        return run_once(*self.flags, *flags, folder=self.folder).code


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("mode", [("-watch",), ("-interval", "600")], ids=["watch", "poll"])
def test_a_renewed_certificate_is_a_reload(place: Place, mode: tuple[str, ...]) -> None:
    with Confpy(*mode, *place.flags, folder=place.folder) as confpy:
        confpy.says("resource.changed", trigger="start")
        place.renew("second")
        changed = confpy.says("resource.changed", trigger="file", seconds=60)
        assert changed["reloaded"] is True
        place.renew("third")
        confpy.says("resource.changed", trigger="file", seconds=60)
    assert place.runs() == 3
    assert (place.folder / "out").read_text() == "web 1\n"


def test_one_that_was_renewed_while_confpy_was_down_is_a_reload_at_the_next_start(place: Place) -> None:
    assert place.once() == 0
    assert place.once() == 0
    assert place.runs() == 1
    place.renew("second")
    assert place.once() == 0
    assert place.runs() == 2
    assert place.once() == 0
    assert place.runs() == 2


def test_a_check_that_refuses_it_keeps_the_program_from_reloading_it_until_it_passes(place: Place) -> None:
    place.resource(check_cmd=f"'grep -q -v broken {place.cert}'")
    with Confpy("-watch", *place.flags, folder=place.folder) as confpy:
        confpy.says("resource.changed", trigger="start")
        place.renew("broken")
        confpy.says("resource.failed", seconds=60)
        assert place.runs() == 1
        place.renew("good")
        confpy.says("resource.changed", trigger="file", seconds=60)
    assert place.runs() == 2


def test_nothing_is_noted_or_reloaded_where_no_reload_is_wanted(place: Place) -> None:
    assert place.once() == 0
    place.renew("second")
    assert place.once("-no-reload") == 0
    assert place.once("-noop") == 0
    assert place.runs() == 1
    assert place.once() == 0
    assert place.runs() == 2


def test_a_certificate_that_is_not_there_yet_is_warned_of_and_stops_nothing(place: Place) -> None:
    place.cert.unlink()
    with Confpy("-watch", *place.flags, folder=place.folder) as confpy:
        failed = confpy.says("lookup.failed")
        assert str(place.cert) in failed["error"]
        confpy.says("resource.changed", trigger="start")
        place.renew("first")
        confpy.says("resource.changed", trigger="file", seconds=60)
        wait_until(lambda: place.runs() == 2, seconds=30)


def test_another_certificate_in_the_resource_is_followed_in_place_of_the_first(place: Place) -> None:
    other = place.folder / "other.pem"
    other.write_text("one")
    with Confpy("-watch", *place.flags, folder=place.folder) as confpy:
        confpy.says("resource.changed", trigger="start")
        place.resource(watch_files=f"['{other}']")
        confpy.says("resource.edited", seconds=60)
        confpy.says("resource.changed", seconds=60)
        other.write_text("two")
        confpy.says("resource.changed", trigger="file", seconds=60)
