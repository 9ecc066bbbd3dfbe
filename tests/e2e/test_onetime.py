"""One-shot, and what confd's users rely on in it: `confpy -onetime` before a service starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, Ended, run_once


class House:
    """A confdir whose resource ``app`` writes ``out`` from ``APP_*`` variables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.template = folder / "templates" / "app.conf"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        self.template.write_text("host={{ getv('/app/host') }}\n")
        self.add("app")

    def add(self, name: str, **more: str) -> None:
        keys = {"src": "'app.conf'", "engine": "'jinja'", "dest": f"'{self.out}'", "keys": "['/app']", **more}
        lines = [f"{key} = {value}" for key, value in keys.items()]
        (self.folder / "conf.d" / f"{name}.toml").write_text("\n".join(["[template]", *lines, ""]))

    def run(self, *flags: str, host: str = "one") -> Ended:
        more = {"APP_HOST": host}
        return run_once("-backend", "env", "-confdir", str(self.folder), *flags, folder=self.folder, more=more)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_variables_become_a_file(house: House) -> None:
    assert house.run().code == 0
    assert house.out.read_text() == "host=one\n"


def test_a_second_run_changes_and_runs_nothing(house: House) -> None:
    house.add("app", reload_cmd="'echo run >> reloads'")
    assert house.run().code == 0
    before = house.out.stat()
    ended = house.run()
    assert ended.code == 0
    after = house.out.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert (house.folder / "reloads").read_text() == "run\n"
    done = ended.find("onetime.done")
    assert (ended.names, done["changed"], done["unchanged"]) == (["onetime.done"], 0, done["resources"])


def test_a_check_that_fails_keeps_the_old_file_and_leaves_no_other(house: House) -> None:
    house.run()
    house.add("app", check_cmd="'grep -q one {{.src}}'", reload_cmd="'echo run >> reloads'")
    assert house.run(host="two").code == 5
    assert house.out.read_text() == "host=one\n"
    assert not list(house.folder.glob(".out*"))
    assert not (house.folder / "reloads").exists()


def test_check_and_reload_see_the_candidate_and_the_target(house: House) -> None:
    house.add(
        "app",
        check_cmd="'cat {{.src}} > checked; echo $CONFPY_RESOURCE >> checked; test ! -e {{.dest}}'",
        reload_cmd="'cat {{.dest}} > reloaded; docker --format \"{{.ID}}\" 2> /dev/null; true'",
    )
    assert house.run().code == 0
    assert (house.folder / "checked").read_text() == "host=one\napp\n"
    assert (house.folder / "reloaded").read_text() == "host=one\n"


def test_a_list_is_run_without_a_shell(house: House) -> None:
    house.add("app", check_cmd="['cp', '{{.src}}', '$HOME; x']")
    assert house.run().code == 0
    assert (house.folder / "$HOME; x").read_text() == "host=one\n"


def test_a_reload_that_fails_leaves_the_new_file_and_ends_with_7(house: House) -> None:
    house.add("app", reload_cmd="'exit 7'")
    assert house.run().code == 7
    assert house.out.read_text() == "host=one\n"


def test_noop_says_what_would_change_touches_nothing_and_ends_with_0(house: House) -> None:
    house.run()
    house.add("app", check_cmd="'grep -q two {{.src}}'", reload_cmd="'echo >> ran'")
    ended = house.run("-noop", host="two")
    assert ended.code == 0
    assert ended.find("resource.would_change", resource="app")["target"] == str(house.out)
    assert house.out.read_text() == "host=one\n"
    assert not (house.folder / "ran").exists()
    assert not list(house.folder.glob(".out*"))


@pytest.mark.parametrize("flag", ["-noop", "-validate", "-check-config", "-preflight"])
def test_what_only_looks_checks_and_ends_as_the_check_does(house: House, flag: str) -> None:
    house.run()
    house.add("app", check_cmd="'grep -q one {{.src}}'")
    assert house.run(flag, host="one").code == 0
    ended = house.run(flag, host="two")
    assert (ended.code, ended.find("resource.failed")["error"]) == (5, "the check exited with 1")
    assert house.out.read_text() == "host=one\n"
    assert not list(house.folder.glob(".out*"))
    assert house.run(flag, "-sync-only", host="two").code == 0


def test_a_look_says_which_check_it_cannot_run(house: House) -> None:
    house.run()
    house.add("app", check_cmd="'false'", check_mode="'swap'")
    ended = house.run("-noop", host="two")
    assert (ended.code, ended.find("check.skipped")["reason"]) == (0, "not checked: it needs the file in its place")
    assert house.out.read_text() == "host=one\n"


def test_sync_only_writes_and_runs_no_command(house: House) -> None:
    house.add("app", check_cmd="'echo {{.src}} >> ran; false'", reload_cmd="'echo >> ran; false'")
    assert house.run("-sync-only").code == 0
    assert house.out.read_text() == "host=one\n"
    assert not (house.folder / "ran").exists()


def test_fifty_resources_with_one_reload_command_reload_once(house: House) -> None:
    for number in range(50):
        house.add(f"r{number}", dest=f"'{house.folder}/out{number}'", reload_cmd="'echo run >> reloads'")
    assert house.run().code == 0
    assert len(list(house.folder.glob("out*"))) == 51
    assert (house.folder / "reloads").read_text() == "run\n"


def test_of_two_resources_with_one_dest_the_last_wins_and_both_are_named(house: House) -> None:
    (house.folder / "templates" / "other").write_text("other\n")
    house.add("z-other", src="'other'")
    ended = house.run()
    assert ended.code == 0
    assert house.out.read_text() == "other\n"
    warning = ended.find("resource.warning", resource="z-other")
    assert "app" in str(warning)


def test_mode_is_octal_and_set_before_the_file_is_there(house: House) -> None:
    house.add("app", mode="'0600'")
    house.run()
    assert stat.S_IMODE(house.out.stat().st_mode) == 0o600


def test_a_new_mode_alone_is_delivered(house: House) -> None:
    house.run()
    house.add("app", mode="'0640'", reload_cmd="'echo run >> reloads'")
    assert house.run().code == 0
    assert stat.S_IMODE(house.out.stat().st_mode) == 0o640
    assert (house.folder / "reloads").exists()


def test_bytes_and_line_ends_of_the_template_stay_what_they_are(house: House) -> None:
    house.template.write_bytes("\ufeffą\r\n{{ getv('/app/host') }}\r\n\r\n# end".encode())
    house.run()
    assert house.out.read_bytes() == "\ufeffą\r\none\r\n\r\n# end".encode()


def test_any_bytes_of_a_variable_arrive(house: House) -> None:
    ended = run_once(
        "-backend", "env", "-confdir", str(house.folder),
        folder=house.folder, more={"APP_HOST": os.fsdecode(b"\xff\xfe")},
    )  # fmt: skip
    assert ended.code == 0
    assert house.out.read_bytes() == b"host=\xff\xfe\n"


def test_flags_are_those_of_confd_with_one_dash_or_two(house: House) -> None:
    ended = run_once(
        "--backend=env", "-confdir", str(house.folder), "--log-level", "debug", "-watch=false", "-interval=5",
        folder=house.folder, more={"APP_HOST": "one"},
    )  # fmt: skip
    assert ended.code == 0
    assert house.out.read_text() == "host=one\n"


def test_settings_may_stand_in_confd_toml_and_flags_weigh_more(house: House) -> None:
    (house.folder / "confd.toml").write_text('backend = "nonsense"\nnoop = true\nverbose = true\n')
    ended = house.run("-noop=false")
    assert ended.code == 0
    assert house.out.read_text() == "host=one\n"
    assert any("verbose" in str(event) for event in ended.events if event["level"] == "warning")


def test_polling_delivers_again_what_somebody_else_changed(house: House) -> None:
    flags = ["-backend", "env", "-confdir", str(house.folder), "-interval", "200ms"]
    with Confpy(*flags, folder=house.folder, more={"APP_HOST": "one"}) as confpy:
        confpy.says("resource.changed", resource="app")
        house.out.write_text("mine\n")
        confpy.says("target.drifted", resource="app")
        confpy.says("resource.changed", resource="app")
        assert house.out.read_text() == "host=one\n"
        house.out.unlink()
        confpy.says("resource.changed", resource="app")
        assert house.out.read_text() == "host=one\n"
        assert confpy.stop() == 0


def test_polling_only_warns_of_drift_where_told_so(house: House) -> None:
    house.add("app", on_drift="'warn'")
    flags = ["-backend", "env", "-confdir", str(house.folder), "-interval", "200ms"]
    with Confpy(*flags, folder=house.folder, more={"APP_HOST": "one"}) as confpy:
        confpy.says("resource.changed", resource="app")
        house.out.write_text("mine\n")
        confpy.says("target.drifted", resource="app")
        assert house.out.read_text() == "mine\n"
        assert confpy.stop() == 0
    assert house.out.read_text() == "mine\n"


def test_a_watch_on_a_store_that_cannot_watch_renders_at_once(house: House) -> None:
    flags = ["-watch", "-backend", "env", "-confdir", str(house.folder)]
    with Confpy(*flags, folder=house.folder, more={"APP_HOST": "one"}) as confpy:
        confpy.says("resource.changed", resource="app")
        assert house.out.read_text() == "host=one\n"
        assert confpy.stop() == 0


def test_a_resource_without_keys_is_rendered_in_every_mode(house: House) -> None:
    house.template.write_text("{{ getenv('APP_HOST') }}\n")
    house.add("app", keys="[]")
    assert house.run().code == 0
    assert house.out.read_text() == "one\n"
    house.out.unlink()
    (house.folder / "keys.yaml").write_text("{}\n")
    flags = ["-watch", "-backend", "file", "-file", "keys.yaml", "-confdir", "."]
    with Confpy(*flags, folder=house.folder, more={"APP_HOST": "two"}) as confpy:
        confpy.says("resource.changed", resource="app")
        assert house.out.read_text() == "two\n"
        assert confpy.stop() == 0


def test_no_template_sees_the_secrets_of_confpy(house: House) -> None:
    house.template.write_text("{{ getenv('CONFPY_PASSWORD', 'none') }}{{ getv('/confpy/password', 'none') }}\n")
    house.add("app", keys="['/confpy']")
    flags = ["-onetime", "-backend", "env", "-confdir", "."]
    with Confpy(*flags, folder=house.folder, more={"CONFPY_PASSWORD": "secret"}) as confpy:
        confpy.says("resource.changed", resource="app")
        assert house.out.read_text() == "nonenone\n"


def test_an_entrypoint_that_makes_a_new_confdir_at_each_start_leaves_no_state_behind(house: House) -> None:
    house.add("app", reload_cmd="'true'")
    assert house.run().code == 0
    assert house.out.read_text() == "host=one\n"
    assert {name for name in os.listdir(house.folder / "state") if name != ".swept"} == set()


def test_a_reload_that_is_owed_is_not_removed_with_its_state(house: House) -> None:
    house.add("app", reload_cmd="'test -e ready'")
    assert house.run().code == 7
    (house.folder / "ready").touch()
    ended = house.run()
    assert ended.code == 0
    ended.find("reload.recovered", resource="app")
