"""One-shot, and what confd's users rely on in it: `confpy -onetime` before a service starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, Ended, run_once


class Installation:
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
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_variables_become_a_file(installation: Installation) -> None:
    assert installation.run().code == 0
    assert installation.out.read_text() == "host=one\n"


def test_a_second_run_changes_and_runs_nothing(installation: Installation) -> None:
    installation.add("app", reload_cmd="'echo run >> reloads'")
    assert installation.run().code == 0
    before = installation.out.stat()
    ended = installation.run()
    assert ended.code == 0
    after = installation.out.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert (installation.folder / "reloads").read_text() == "run\n"
    done = ended.find("onetime.done")
    assert (ended.names, done["changed"], done["unchanged"]) == (["onetime.done"], 0, done["resources"])


def test_a_check_that_fails_keeps_the_old_file_and_leaves_no_other(installation: Installation) -> None:
    installation.run()
    installation.add("app", check_cmd="'grep -q one {{.src}}'", reload_cmd="'echo run >> reloads'")
    assert installation.run(host="two").code == 5
    assert installation.out.read_text() == "host=one\n"
    assert not list(installation.folder.glob(".out*"))
    assert not (installation.folder / "reloads").exists()


def test_check_and_reload_see_the_candidate_and_the_target(installation: Installation) -> None:
    installation.add(
        "app",
        check_cmd="'cat {{.src}} > checked; echo $CONFPY_RESOURCE >> checked; test ! -e {{.dest}}'",
        reload_cmd="'cat {{.dest}} > reloaded; docker --format \"{{.ID}}\" 2> /dev/null; true'",
    )
    assert installation.run().code == 0
    assert (installation.folder / "checked").read_text() == "host=one\napp\n"
    assert (installation.folder / "reloaded").read_text() == "host=one\n"


def test_a_list_is_run_without_a_shell(installation: Installation) -> None:
    installation.add("app", check_cmd="['cp', '{{.src}}', '$HOME; x']")
    assert installation.run().code == 0
    assert (installation.folder / "$HOME; x").read_text() == "host=one\n"


def test_a_reload_that_fails_leaves_the_new_file_and_ends_with_7(installation: Installation) -> None:
    installation.add("app", reload_cmd="'exit 7'")
    assert installation.run().code == 7
    assert installation.out.read_text() == "host=one\n"


def test_noop_says_what_would_change_touches_nothing_and_ends_with_0(installation: Installation) -> None:
    installation.run()
    installation.add("app", check_cmd="'grep -q two {{.src}}'", reload_cmd="'echo >> ran'")
    ended = installation.run("-noop", host="two")
    assert ended.code == 0
    assert ended.find("resource.would_change", resource="app")["target"] == str(installation.out)
    assert installation.out.read_text() == "host=one\n"
    assert not (installation.folder / "ran").exists()
    assert not list(installation.folder.glob(".out*"))


@pytest.mark.parametrize("flag", ["-noop", "-validate", "-check-config", "-preflight"])
def test_what_only_looks_checks_and_ends_as_the_check_does(installation: Installation, flag: str) -> None:
    installation.run()
    installation.add("app", check_cmd="'grep -q one {{.src}}'")
    assert installation.run(flag, host="one").code == 0
    ended = installation.run(flag, host="two")
    assert (ended.code, ended.find("resource.failed")["error"]) == (5, "the check exited with 1")
    assert installation.out.read_text() == "host=one\n"
    assert not list(installation.folder.glob(".out*"))
    assert installation.run(flag, "-sync-only", host="two").code == 0


def test_a_look_says_which_check_it_cannot_run(installation: Installation) -> None:
    installation.run()
    installation.add("app", check_cmd="'false'", check_mode="'swap'")
    ended = installation.run("-noop", host="two")
    assert (ended.code, ended.find("check.skipped")["reason"]) == (0, "not checked: it needs the file in its place")
    assert installation.out.read_text() == "host=one\n"


def test_sync_only_writes_and_runs_no_command(installation: Installation) -> None:
    installation.add("app", check_cmd="'echo {{.src}} >> ran; false'", reload_cmd="'echo >> ran; false'")
    assert installation.run("-sync-only").code == 0
    assert installation.out.read_text() == "host=one\n"
    assert not (installation.folder / "ran").exists()


def test_fifty_resources_with_one_reload_command_reload_once(installation: Installation) -> None:
    for number in range(50):
        installation.add(f"r{number}", dest=f"'{installation.folder}/out{number}'", reload_cmd="'echo run >> reloads'")
    assert installation.run().code == 0
    assert len(list(installation.folder.glob("out*"))) == 51
    assert (installation.folder / "reloads").read_text() == "run\n"


def test_of_two_resources_with_one_dest_the_last_wins_and_both_are_named(installation: Installation) -> None:
    (installation.folder / "templates" / "other").write_text("other\n")
    installation.add("z-other", src="'other'")
    ended = installation.run()
    assert ended.code == 0
    assert installation.out.read_text() == "other\n"
    warning = ended.find("resource.warning", resource="z-other")
    assert "app" in str(warning)


def test_mode_is_octal_and_set_before_the_file_is_there(installation: Installation) -> None:
    installation.add("app", mode="'0600'")
    installation.run()
    assert stat.S_IMODE(installation.out.stat().st_mode) == 0o600


def test_a_new_mode_alone_is_delivered(installation: Installation) -> None:
    installation.run()
    installation.add("app", mode="'0640'", reload_cmd="'echo run >> reloads'")
    assert installation.run().code == 0
    assert stat.S_IMODE(installation.out.stat().st_mode) == 0o640
    assert (installation.folder / "reloads").exists()


def test_bytes_and_line_ends_of_the_template_stay_what_they_are(installation: Installation) -> None:
    installation.template.write_bytes("\ufeffą\r\n{{ getv('/app/host') }}\r\n\r\n# end".encode())
    installation.run()
    assert installation.out.read_bytes() == "\ufeffą\r\none\r\n\r\n# end".encode()


def test_any_bytes_of_a_variable_arrive(installation: Installation) -> None:
    ended = run_once(
        "-backend", "env", "-confdir", str(installation.folder),
        folder=installation.folder, more={"APP_HOST": os.fsdecode(b"\xff\xfe")},
    )  # fmt: skip
    assert ended.code == 0
    assert installation.out.read_bytes() == b"host=\xff\xfe\n"


def test_flags_are_those_of_confd_with_one_dash_or_two(installation: Installation) -> None:
    ended = run_once(
        "--backend=env", "-confdir", str(installation.folder), "--log-level", "debug", "-watch=false", "-interval=5",
        folder=installation.folder, more={"APP_HOST": "one"},
    )  # fmt: skip
    assert ended.code == 0
    assert installation.out.read_text() == "host=one\n"


def test_settings_may_stand_in_confd_toml_and_flags_weigh_more(installation: Installation) -> None:
    (installation.folder / "confd.toml").write_text('backend = "nonsense"\nnoop = true\nverbose = true\n')
    ended = installation.run("-noop=false")
    assert ended.code == 0
    assert installation.out.read_text() == "host=one\n"
    assert any("verbose" in str(event) for event in ended.events if event["level"] == "warning")


def test_polling_delivers_again_what_somebody_else_changed(installation: Installation) -> None:
    flags = ["-backend", "env", "-confdir", str(installation.folder), "-interval", "200ms"]
    with Confpy(*flags, folder=installation.folder, more={"APP_HOST": "one"}) as confpy:
        confpy.says("resource.changed", resource="app")
        installation.out.write_text("mine\n")
        confpy.says("target.drifted", resource="app")
        confpy.says("resource.changed", resource="app")
        assert installation.out.read_text() == "host=one\n"
        installation.out.unlink()
        confpy.says("resource.changed", resource="app")
        assert installation.out.read_text() == "host=one\n"
        assert confpy.stop() == 0


def test_polling_only_warns_of_drift_where_told_so(installation: Installation) -> None:
    installation.add("app", on_drift="'warn'")
    flags = ["-backend", "env", "-confdir", str(installation.folder), "-interval", "200ms"]
    with Confpy(*flags, folder=installation.folder, more={"APP_HOST": "one"}) as confpy:
        confpy.says("resource.changed", resource="app")
        installation.out.write_text("mine\n")
        confpy.says("target.drifted", resource="app")
        assert installation.out.read_text() == "mine\n"
        assert confpy.stop() == 0
    assert installation.out.read_text() == "mine\n"


def test_a_watch_on_a_store_that_cannot_watch_renders_at_once(installation: Installation) -> None:
    flags = ["-watch", "-backend", "env", "-confdir", str(installation.folder)]
    with Confpy(*flags, folder=installation.folder, more={"APP_HOST": "one"}) as confpy:
        confpy.says("resource.changed", resource="app")
        assert installation.out.read_text() == "host=one\n"
        assert confpy.stop() == 0


def test_a_resource_without_keys_is_rendered_in_every_mode(installation: Installation) -> None:
    installation.template.write_text("{{ getenv('APP_HOST') }}\n")
    installation.add("app", keys="[]")
    assert installation.run().code == 0
    assert installation.out.read_text() == "one\n"
    installation.out.unlink()
    (installation.folder / "keys.yaml").write_text("{}\n")
    flags = ["-watch", "-backend", "file", "-file", "keys.yaml", "-confdir", "."]
    with Confpy(*flags, folder=installation.folder, more={"APP_HOST": "two"}) as confpy:
        confpy.says("resource.changed", resource="app")
        assert installation.out.read_text() == "two\n"
        assert confpy.stop() == 0


def test_no_template_sees_the_secrets_of_confpy(installation: Installation) -> None:
    installation.template.write_text("{{ getenv('CONFPY_PASSWORD', 'none') }}{{ getv('/confpy/password', 'none') }}\n")
    installation.add("app", keys="['/confpy']")
    flags = ["-onetime", "-backend", "env", "-confdir", "."]
    with Confpy(*flags, folder=installation.folder, more={"CONFPY_PASSWORD": "secret"}) as confpy:
        confpy.says("resource.changed", resource="app")
        assert installation.out.read_text() == "nonenone\n"


def test_an_entrypoint_that_makes_a_new_confdir_at_each_start_leaves_no_state_behind(
    installation: Installation,
) -> None:
    installation.add("app", reload_cmd="'true'")
    assert installation.run().code == 0
    assert installation.out.read_text() == "host=one\n"
    assert {name for name in os.listdir(installation.folder / "state") if name != ".swept"} == set()


def test_a_reload_that_is_owed_is_not_removed_with_its_state(installation: Installation) -> None:
    installation.add("app", reload_cmd="'test -e ready'")
    assert installation.run().code == 7
    (installation.folder / "ready").touch()
    ended = installation.run()
    assert ended.code == 0
    ended.find("reload.recovered", resource="app")
