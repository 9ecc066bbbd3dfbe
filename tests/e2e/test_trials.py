"""A check that names no candidate looks at files in their places: with nginx as the judge, from an empty machine on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, Program, shows
from tests.servers.program import find
from tests.waiting import wait_until

UPSTREAM = """\
upstream app {
{% for server in getvs("/app/servers/*") %}    server {{ server }};
{% endfor %}}
"""
SERVERS = "app: {servers: {a: '127.0.0.1:1'}}"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    find("nginx")
    found = Installation(tmp_path)
    found.write(SERVERS)
    return found


def configuration(installation: Installation) -> str:
    """Return a configuration that needs the upstream of another file."""
    server = "server { listen 127.0.0.1:65004; location / { proxy_pass http://app; } }"
    return (
        f"pid {installation.folder}/pid;\nerror_log {installation.folder}/log;\nevents {{}}\n"
        f"http {{ access_log off; include {installation.folder}/*upstream; {server} }}\n"
    )


def furnish(
    installation: Installation, program: Program, main: str = "main", upstream: str = "upstream"
) -> tuple[Path, Path]:
    """Add nginx.conf and the file that it includes, each for itself; returns the targets."""
    both = {
        "keys": "['/app']",
        "check_cmd": f"'echo x >> {installation.folder}/checks; nginx -t -c {installation.folder}/{main}'",
        "reload_cmd": program.failing(0),
    }
    return installation.add(main, configuration(installation), **both), installation.add(upstream, UPSTREAM, **both)


def checks(installation: Installation) -> int:
    path = installation.folder / "checks"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("names", [("main", "upstream"), ("z-main", "a-upstream")])
def test_two_files_that_need_each_other_are_right_after_the_first_run_on_an_empty_machine(installation, names):
    program = Program(installation.folder)
    main, upstream = furnish(installation, program, *names)
    ended = installation.once()
    assert ended.code == 0, ended.log
    assert "proxy_pass" in main.read_text()
    assert "server 127.0.0.1:1;" in upstream.read_text()
    assert (checks(installation), program.count) == (1, 1)
    written = ended.find("check.in_place")
    assert (written["level"], set(written["resource"].split(", "))) == ("info", set(names))
    assert installation.once().code == 0
    assert (checks(installation), program.count) == (1, 1)


def test_a_daemon_on_an_empty_machine_refuses_neither(installation):
    program = Program(installation.folder)
    main, upstream = furnish(installation, program)
    with installation.start() as confpy:
        wait_until(lambda: program.count == 1, seconds=60, what="the reload")
        assert main.exists()
        assert upstream.exists()
        assert [event for event in confpy.events if event["event"] == "resource.failed"] == []
        installation.write("app: {servers: {a: '127.0.0.1:2'}}")
        shows(upstream, "upstream app {\n    server 127.0.0.1:2;\n}\n", seconds=60)
        wait_until(lambda: program.count == 2, seconds=60, what="the second reload")
    assert checks(installation) == 2


def test_a_first_run_without_keys_leaves_no_bad_file_that_keeps_good_ones_out(installation):
    program = Program(installation.folder)
    main = installation.folder / "main"
    upstream = furnish(installation, program)[1]
    (installation.confdir / "conf.d" / "main.toml").unlink()
    main.write_text(configuration(installation))
    installation.write("")
    ended = installation.once()
    assert ended.code == 5
    assert "no servers are inside upstream" in ended.find("resource.failed")["output"]
    assert not upstream.exists()
    installation.write(SERVERS)
    assert installation.once().code == 0
    assert "server 127.0.0.1:1;" in upstream.read_text()
    assert program.count == 1


def test_a_bad_file_keeps_out_neither_the_good_ones_nor_the_configuration_that_needs_one_of_them(installation):
    program = Program(installation.folder)
    main, upstream = furnish(installation, program)
    both = (installation.confdir / "conf.d" / "upstream.toml").read_text()
    for name, text in {"other": "upstream { x }\n", "third": "upstream third { server 127.0.0.1:3; }\n"}.items():
        (installation.confdir / "templates" / f"{name}.j2").write_text(text)
        more = both.replace("upstream.j2", f"{name}.j2").replace(
            f"{upstream}'", f"{installation.folder}/{name}-upstream'"
        )
        (installation.confdir / "conf.d" / f"{name}.toml").write_text(more)
    main.write_text(f"events {{}}\nhttp {{ include {installation.folder}/*upstream; }}\n")
    ended = installation.once()
    assert ended.code == 5
    assert ended.find("resource.failed")["resource"] == "other"
    assert not (installation.folder / "other-upstream").exists()
    assert (installation.folder / "third-upstream").exists()
    assert "proxy_pass" in main.read_text()


def test_files_that_changed_one_after_the_other_pass_together_in_the_end(installation):
    program = Program(installation.folder)
    main, upstream = furnish(installation, program)
    with installation.start() as confpy:
        wait_until(lambda: program.count == 1, seconds=60, what="the first reload")
        templates = installation.confdir / "templates"
        (templates / "main.j2").write_text(configuration(installation).replace("//app", "//renamed"))
        confpy.says("resource.failed", seconds=60, resource="main")
        (templates / "upstream.j2").write_text(UPSTREAM.replace("upstream app", "upstream renamed"))
        wait_until(lambda: "upstream renamed" in upstream.read_text(), seconds=60, what="the upstream")
        wait_until(lambda: "//renamed" in main.read_text(), seconds=60, what="the configuration")
        wait_until(lambda: program.count == 2, seconds=60, what="the reload")


def test_a_kill_during_a_trial_of_two_files_leaves_neither_of_them(installation):
    find("nginx")
    main, upstream = furnish(installation, Program(installation.folder))
    gate, reached = installation.folder / "gate", installation.folder / "reached"
    for path in (installation.confdir / "conf.d").iterdir():
        path.write_text(
            path.read_text().replace("echo x", f"test ! -e {gate} || {{ touch {reached}; sleep 60; }}; echo x")
        )
    assert installation.once().code == 0
    before = main.read_text(), upstream.read_text()
    gate.touch()
    (installation.confdir / "templates" / "main.j2").write_text("bad\n")
    installation.write("app: {servers: {a: bad bad}}")
    confpy = installation.start()
    try:
        wait_until(reached.exists, seconds=60, what="the trial")
        assert main.read_text() == "bad\n"
        assert "bad bad" in upstream.read_text()
    finally:
        confpy.process.send_signal(signal.SIGKILL)
        confpy.stop()
    gate.unlink()
    ended = installation.once()
    assert ended.code == 5
    assert set(ended.find("delivery.recovered")["resource"].split(", ")) == {"main", "upstream"}
    assert (main.read_text(), upstream.read_text()) == before


def test_where_no_state_folder_can_be_used_files_are_checked_before_they_are_in_place_and_a_warning_says_so(
    installation,
):
    main, _ = furnish(installation, Program(installation.folder))
    main.write_text(configuration(installation).replace("include", "# include").replace("server {", "# "))
    ended = installation.once("-state-dir", "/dev/null/none")
    warnings = [event for event in ended.events if event["event"] == "resource.warning"]
    assert {event["resource"] for event in warnings} == {"main", "upstream"}
    assert {event["error"] for event in warnings} == {"check_cmd does not look at the candidate"}
    assert all("state_dir" in event["hint"] for event in warnings)
    assert [event for event in ended.events if event["event"] == "check.in_place"] == []


def test_a_script_that_reads_the_candidate_from_its_environment_says_that_it_is_staged(installation):
    script = installation.folder / "check"
    script.write_text(f'#!/bin/sh\necho "$CONFPY_SRC" >> {installation.folder}/seen\n')
    script.chmod(0o755)
    dest = installation.add("one", check_cmd=f"'{script}'", check_mode="'staged'", reload_cmd="'true'")
    ended = installation.once()
    assert ended.code == 0
    assert [event["event"] for event in ended.events if event["level"] != "info"] == []
    assert (installation.folder / "seen").read_text().startswith(f"{installation.folder}/.one.confpy-")
    assert dest.exists()
