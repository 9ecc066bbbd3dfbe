"""A check that names no candidate looks at files in their places: with nginx as the judge, from an empty machine on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.house import House, Program, shows
from tests.servers.program import find
from tests.waiting import wait_until

UPSTREAM = """\
upstream app {
{% for server in getvs("/app/servers/*") %}    server {{ server }};
{% endfor %}}
"""
SERVERS = "app: {servers: {a: '127.0.0.1:1'}}"


@pytest.fixture
def house(tmp_path: Path) -> House:
    find("nginx")
    found = House(tmp_path)
    found.write(SERVERS)
    return found


def configuration(house: House) -> str:
    """Return a configuration that needs the upstream of another file."""
    server = "server { listen 127.0.0.1:65004; location / { proxy_pass http://app; } }"
    return (
        f"pid {house.folder}/pid;\nerror_log {house.folder}/log;\nevents {{}}\n"
        f"http {{ access_log off; include {house.folder}/*upstream; {server} }}\n"
    )


def furnish(house: House, program: Program, main: str = "main", upstream: str = "upstream") -> tuple[Path, Path]:
    """Add nginx.conf and the file that it includes, each for itself; returns the targets."""
    both = {
        "keys": "['/app']",
        "check_cmd": f"'echo x >> {house.folder}/checks; nginx -t -c {house.folder}/{main}'",
        "reload_cmd": program.failing(0),
    }
    return house.add(main, configuration(house), **both), house.add(upstream, UPSTREAM, **both)


def checks(house: House) -> int:
    path = house.folder / "checks"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("names", [("main", "upstream"), ("z-main", "a-upstream")])
def test_two_files_that_need_each_other_are_right_after_the_first_run_on_an_empty_machine(house, names):
    program = Program(house.folder)
    main, upstream = furnish(house, program, *names)
    ended = house.once()
    assert ended.code == 0, ended.log
    assert "proxy_pass" in main.read_text()
    assert "server 127.0.0.1:1;" in upstream.read_text()
    assert (checks(house), program.count) == (1, 1)
    told = ended.find("check.in_place")
    assert (told["level"], set(told["resource"].split(", "))) == ("info", set(names))
    assert house.once().code == 0
    assert (checks(house), program.count) == (1, 1)


def test_a_daemon_on_an_empty_machine_refuses_neither(house):
    program = Program(house.folder)
    main, upstream = furnish(house, program)
    with house.start() as confpy:
        wait_until(lambda: program.count == 1, seconds=60, what="the reload")
        assert main.exists()
        assert upstream.exists()
        assert [event for event in confpy.events if event["event"] == "resource.failed"] == []
        house.write("app: {servers: {a: '127.0.0.1:2'}}")
        shows(upstream, "upstream app {\n    server 127.0.0.1:2;\n}\n", seconds=60)
        wait_until(lambda: program.count == 2, seconds=60, what="the second reload")
    assert checks(house) == 2


def test_a_first_run_without_keys_leaves_no_bad_file_that_keeps_good_ones_out(house):
    program = Program(house.folder)
    main = house.folder / "main"
    upstream = furnish(house, program)[1]
    (house.confdir / "conf.d" / "main.toml").unlink()
    main.write_text(configuration(house))
    house.write("")
    ended = house.once()
    assert ended.code == 5
    assert "no servers are inside upstream" in ended.find("resource.failed")["output"]
    assert not upstream.exists()
    house.write(SERVERS)
    assert house.once().code == 0
    assert "server 127.0.0.1:1;" in upstream.read_text()
    assert program.count == 1


def test_a_bad_file_keeps_out_neither_the_good_ones_nor_the_configuration_that_needs_one_of_them(house):
    program = Program(house.folder)
    main, upstream = furnish(house, program)
    both = (house.confdir / "conf.d" / "upstream.toml").read_text()
    for name, text in {"other": "upstream { x }\n", "third": "upstream third { server 127.0.0.1:3; }\n"}.items():
        (house.confdir / "templates" / f"{name}.j2").write_text(text)
        more = both.replace("upstream.j2", f"{name}.j2").replace(f"{upstream}'", f"{house.folder}/{name}-upstream'")
        (house.confdir / "conf.d" / f"{name}.toml").write_text(more)
    main.write_text(f"events {{}}\nhttp {{ include {house.folder}/*upstream; }}\n")
    ended = house.once()
    assert ended.code == 5
    assert ended.find("resource.failed")["resource"] == "other"
    assert not (house.folder / "other-upstream").exists()
    assert (house.folder / "third-upstream").exists()
    assert "proxy_pass" in main.read_text()


def test_files_that_changed_one_after_the_other_pass_together_in_the_end(house):
    program = Program(house.folder)
    main, upstream = furnish(house, program)
    with house.start() as confpy:
        wait_until(lambda: program.count == 1, seconds=60, what="the first reload")
        templates = house.confdir / "templates"
        (templates / "main.j2").write_text(configuration(house).replace("//app", "//renamed"))
        confpy.says("resource.failed", seconds=60, resource="main")
        (templates / "upstream.j2").write_text(UPSTREAM.replace("upstream app", "upstream renamed"))
        wait_until(lambda: "upstream renamed" in upstream.read_text(), seconds=60, what="the upstream")
        wait_until(lambda: "//renamed" in main.read_text(), seconds=60, what="the configuration")
        wait_until(lambda: program.count == 2, seconds=60, what="the reload")


def test_a_kill_during_a_trial_of_two_files_leaves_neither_of_them(house):
    find("nginx")
    main, upstream = furnish(house, Program(house.folder))
    gate, reached = house.folder / "gate", house.folder / "reached"
    for path in (house.confdir / "conf.d").iterdir():
        path.write_text(
            path.read_text().replace("echo x", f"test ! -e {gate} || {{ touch {reached}; sleep 60; }}; echo x")
        )
    assert house.once().code == 0
    before = main.read_text(), upstream.read_text()
    gate.touch()
    (house.confdir / "templates" / "main.j2").write_text("bad\n")
    house.write("app: {servers: {a: bad bad}}")
    confpy = house.start()
    try:
        wait_until(reached.exists, seconds=60, what="the trial")
        assert main.read_text() == "bad\n"
        assert "bad bad" in upstream.read_text()
    finally:
        confpy.process.send_signal(signal.SIGKILL)
        confpy.stop()
    gate.unlink()
    ended = house.once()
    assert ended.code == 5
    assert set(ended.find("delivery.recovered")["resource"].split(", ")) == {"main", "upstream"}
    assert (main.read_text(), upstream.read_text()) == before


def test_where_no_state_folder_can_be_used_files_are_checked_before_they_are_in_place_and_a_warning_says_so(house):
    main, _ = furnish(house, Program(house.folder))
    main.write_text(configuration(house).replace("include", "# include").replace("server {", "# "))
    ended = house.once("-state-dir", "/dev/null/none")
    warnings = [event for event in ended.events if event["event"] == "resource.warning"]
    assert {event["resource"] for event in warnings} == {"main", "upstream"}
    assert {event["error"] for event in warnings} == {"check_cmd does not look at the candidate"}
    assert all("state_dir" in event["hint"] for event in warnings)
    assert [event for event in ended.events if event["event"] == "check.in_place"] == []


def test_a_script_that_reads_the_candidate_from_its_environment_says_that_it_is_staged(house):
    script = house.folder / "check"
    script.write_text(f'#!/bin/sh\necho "$CONFPY_SRC" >> {house.folder}/seen\n')
    script.chmod(0o755)
    dest = house.add("one", check_cmd=f"'{script}'", check_mode="'staged'", reload_cmd="'true'")
    ended = house.once()
    assert ended.code == 0
    assert [event["event"] for event in ended.events if "check" in str(event)] == []
    assert (house.folder / "seen").read_text().startswith(f"{house.folder}/.one.confpy-")
    assert dest.exists()
