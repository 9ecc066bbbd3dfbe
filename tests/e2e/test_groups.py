"""Files that need each other are new together or not at all, with the programs that read them as the judges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.house import House, Program, pass_time, shows
from tests.servers.program import find
from tests.waiting import wait_until

CONFIG = """\
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend web
    {{ getv("/app/bind") }}
    default_backend web
backend web
    server a 127.0.0.1:1
"""
PLAIN = "app: {bind: 'bind 127.0.0.1:65000', pem: '# none yet'}"


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = House(tmp_path)
    found.write(PLAIN)
    command = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=web -keyout key -out crt"
    subprocess.run([find("openssl"), *command.split()], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "web.pem").write_text((tmp_path / "crt").read_text() + (tmp_path / "key").read_text())
    return found


def furnish(house: House, program: Program, check: str, mode: str) -> tuple[Path, Path]:
    """Write the group of a configuration and its list of certificates; returns the targets."""
    both = {"keys": "['/app']", "group": "'lb'", "reload_cmd": program.failing(0)}
    more = {"check_cmd": f"'''{check}'''", "check_mode": f"'{mode}'"}
    certs = house.add("certs", '{{ getv("/app/pem") }}\n', **both)
    return house.add("config", CONFIG, **both, **more), certs


def with_tls(house: House, pem: str) -> str:
    """Return keys with which the configuration needs the list, and the list is not empty."""
    return f"app: {{bind: 'bind 127.0.0.1:65000 ssl crt-list {house.folder}/certs', pem: {pem}}}"


def test_a_configuration_and_its_certificates_that_pass_only_together_are_swapped_in_and_reloaded_once(house):
    program = Program(house.folder)
    config, certs = furnish(house, program, f"haproxy -c -f {house.folder}/config", "swap")
    with house.start() as confpy:
        wait_until(lambda: program.count == 1, what="the first reload")
        before = (config.read_bytes(), certs.read_bytes(), config.stat().st_ino, certs.stat().st_ino)
        house.write(with_tls(house, f"{house.folder}/missing.pem"))
        failed = confpy.says("resource.failed", resource="config")
        assert "missing.pem" in failed["output"]
        after = (config.read_bytes(), certs.read_bytes(), config.stat().st_ino, certs.stat().st_ino)
        assert after == before, "the old files are back, to the inode"
        assert program.count == 1, "nothing is reloaded for files that did not stay"
        house.write(with_tls(house, f"{house.folder}/web.pem"))
        shows(certs, f"{house.folder}/web.pem\n")
        wait_until(lambda: program.count == 2, what="the second reload")
        assert "crt-list" in config.read_text()
        pass_time(1)
    assert program.count == 2
    assert [path.name for path in house.folder.iterdir() if ".confpy-" in path.name] == []


def test_each_for_itself_they_would_not_pass(house):
    program = Program(house.folder)
    config, certs = furnish(house, program, "haproxy -c -f {{.src}}", "staged")
    assert house.once().code == 0
    house.write(with_tls(house, f"{house.folder}/web.pem"))
    ended = house.once("-report", str(house.folder / "report"))
    assert ended.code == 5
    assert "# none yet" in certs.read_text(), "the other of the group stays, too"
    assert "crt-list" not in config.read_text()


def test_a_staged_check_finds_the_candidates_of_the_others(house):
    program = Program(house.folder)
    trial = house.folder / "trial"
    check = f'sed "s#{house.folder}/certs#$CONFPY_SRC_CERTS#" {{{{.src}}}} > {trial}; haproxy -c -f {trial}'
    config, certs = furnish(house, program, check, "staged")
    assert house.once().code == 0
    house.write(with_tls(house, f"{house.folder}/web.pem"))
    assert house.once().code == 0
    assert "crt-list" in config.read_text()
    assert "web.pem" in certs.read_text()
    assert program.count == 2


def test_a_member_that_cannot_be_rendered_holds_the_group_and_no_other(house):
    program = Program(house.folder)
    config, _ = furnish(house, program, "true {{.src}}", "staged")
    other = house.add("other", '{{ getv("/app/pem") }}\n', keys="['/app']")
    with house.start() as confpy:
        shows(other, "# none yet\n")
        before = wait_until(lambda: config.exists() and config.read_text(), what="the configuration")
        house.write("app: {pem: new}")
        confpy.says("resource.failed", resource="config")
        shows(other, "new\n")
        assert (config.read_text(), (house.folder / "certs").read_text()) == (before, "# none yet\n")
        house.write("app: {pem: newer, bind: 'bind 127.0.0.1:65001'}")
        shows(house.folder / "certs", "newer\n")
        assert "65001" in config.read_text()


def test_a_fragment_is_tried_in_its_place_by_the_program_that_includes_it(house):
    program = Program(house.folder)
    main = house.folder / "nginx.conf"
    main.write_text(
        f"pid {house.folder}/pid;\nerror_log {house.folder}/log;\nevents {{}}\n"
        f"http {{ access_log off; include {house.folder}/site.conf; }}\n"
    )
    house.write("app: {site: 'server { listen 127.0.0.1:65002; }'}")
    house.add(
        "site", '{{ getv("/app/site") }}\n', dest=f"'{house.folder}/site.conf'", check_mode="'swap'",
        check_cmd=f"'nginx -t -c {main}'", reload_cmd=program.failing(0),
    )  # fmt: skip
    site = house.folder / "site.conf"
    with house.start() as confpy:
        shows(site, "server { listen 127.0.0.1:65002; }\n")
        wait_until(lambda: program.count == 1, what="the reload")
        house.write("app: {site: 'server { lisn 65002; }'}")
        failed = confpy.says("resource.failed", resource="site")
        assert "lisn" in failed["output"]
        assert site.read_text() == "server { listen 127.0.0.1:65002; }\n"
        house.write("app: {site: 'server { listen 127.0.0.1:65003; }'}")
        shows(site, "server { listen 127.0.0.1:65003; }\n")
        wait_until(lambda: program.count == 2, what="the second reload")
