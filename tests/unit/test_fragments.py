"""What real programs say of a part of their configuration, and the hint that it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from confpy.config.resource import Resource
from confpy.delivery.check import hint_of, run_check
from confpy.errors import CheckError
from confpy.system.subprocesses import Shell
from tests.servers.program import find


def refused(path: Path, command: str) -> CheckError:
    wanted = Resource("part", "", "", str(path), check_cmd=command)
    with pytest.raises(CheckError) as caught:
        run_check(wanted, str(path), Shell(), {})
    return caught.value


@pytest.mark.parametrize(
    ("text", "command", "whole"),
    [
        ("upstream a { server 127.0.0.1:1; }\n", "nginx -t -c {{.src}}", "nginx -t"),
        ("server { listen 127.0.0.1:1; }\n", "nginx -t -c {{.src}}", "nginx -t"),
        ("server 127.0.0.1:1;\n", "nginx -t -c $CONFPY_SRC", "nginx -t"),
        ("", "nginx -t -c {{.src}}", "nginx -t"),
        ("<VirtualHost *:80>\n</VirtualHost>\n", "apache2 -t -f {{.src}}", "apachectl configtest"),
        ("backend a\n mode http\n", "haproxy -c -f {{.src}}", "haproxy -c -f /etc/haproxy"),
        ("frontend f\n mode http\n bind 127.0.0.1:1\n default_backend b\n", "haproxy -c -f {{.src}}", "haproxy -c"),
    ],
)
def test_a_part_that_is_checked_as_if_it_were_all_gets_the_hint_to_check_the_whole_in_place(
    tmp_path, text, command, whole
):
    find(command.split()[0])
    (tmp_path / "part").write_text(text)
    error = refused(tmp_path / "part", command)
    assert f'check_cmd = "{whole}' in error.hint
    assert 'check_mode = "swap"' in error.hint


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("events {} http { upstream a { servr 127.0.0.1:1; } }\n", "nginx -t -c {{.src}}"),
        ("frontend f\n bnd 127.0.0.1:1\n", "haproxy -c -f {{.src}}"),
    ],
)
def test_what_is_wrong_in_a_whole_configuration_gets_none(tmp_path, text, command):
    find(command.split()[0])
    (tmp_path / "whole").write_text(text)
    assert refused(tmp_path / "whole", command).hint == ""


def test_a_check_of_the_whole_gets_none(tmp_path):
    (tmp_path / "main").write_text(f"events {{}} include {tmp_path}/part;\n")
    (tmp_path / "part").write_text("server {}\n")
    find("nginx")
    assert refused(tmp_path / "part", f"nginx -t -c {tmp_path}/main").hint == ""


def test_a_directive_that_is_rejected_in_another_file_gives_no_hint():
    assert hint_of('"server" directive is not allowed here in /etc/nginx/a.conf:1', "/etc/nginx/.b.confpy-1") == ""
