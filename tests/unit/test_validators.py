"""Values can do nothing but be values. What is quoted is read back by the programs themselves, where they are here."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from confpy.templates import validators as guard
from confpy.templates.functions import InvalidArgument
from confpy.templates.registry import FUNCTIONS
from tests.rendering import rendered
from tests.waiting import wait_until

RIGHT = {
    "hostport": ["10.0.0.1:80", "web-1.example.com:1", "[fd00::1]:65535", "my_service:080", "localhost.:8080"],
    "port": ["1", "80", "65535"],
    "ip": ["10.0.0.1", "::1", "fd00::1:2", "::ffff:1.2.3.4"],
    "hostname": ["a", "a.b", "my_host", "a.b.", "10.0.0.1", "1a", "x" * 63],
    "host": ["a.b", "10.0.0.1", "::1"],
    "int": ["0", "-5", "+7"],
    "json": ["{}", '{"a": [1]}', " null "],
    "text": ["a b", "é", "'\"#;{}$"],
}
WRONG = {
    "hostport": [
        "", ":", "a", "a:", ":80", "a:0", "a:65536", "a:99999", "a:-1", "a:+1", "a: 1", "a :1", "a:1\n", "a\n:1",
        "::1:80",
        "[::1]", "[::1]:0", "[a]:80", "[::1%eth0]:80", "10.0.0.256:80", "a:１", "a:80:90", "a b:80", "-a:1", "a..b:1",
        "http://a:80", "a:80/x", "a;b:1", "[]:1", "a:1 #", "é:1", "a" * 64 + ":1",
    ],
    "port": ["", "0", "65536", "080000", "-1", "http", "٣", "1.0"],
    "ip": ["", "a", "10.0.0", "10.0.0.01", "::1%eth0", "[::1]", "10.0.0.1:80"],
    "hostname": ["", ".", "a_b!", "a-", "10.0.0.999", "a.123", "::1", "x" * 64, ".".join(["x" * 60] * 5)],
    "host": ["", "[::1]", "a b"],
    "int": ["", "1.5", "abc", " 1", "1e3"],
    "json": ["", "{", "[]", "1", '{"a": NaN}'],
    "text": ["", "a\nb", "a\0", "\x7f", "\t"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in RIGHT for value in RIGHT[kind]])
def test_what_is_right_is_taken(kind, value):
    assert guard.flaw(value, kind, {}) == ""
    assert guard.valid(kind)(value)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in WRONG for value in WRONG[kind]])
def test_what_is_wrong_is_left_out_with_a_reason_that_does_not_show_it(kind, value):
    reason = guard.flaw(value, kind, {})
    assert reason
    assert len(value) < 4 or value not in reason


@pytest.mark.parametrize("kind", guard.KINDS)
@given(value=st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))))
def test_no_text_makes_a_kind_fail(kind, value):
    guard.flaw(value, kind, {})


def test_json_leaves_are_asked_field_by_field():
    fields = {"ip": "ip", "port": "port"}
    keys = {
        "/s/good": '{"ip": "10.0.0.1", "port": 80}',
        "/s/text": '{"ip": "10.0.0.2", "port": "81", "more": 1}',
        "/s/broken": '{"ip": ',
        "/s/list": "[]",
        "/s/missing": '{"ip": "10.0.0.1"}',
        "/s/null": '{"ip": null, "port": 80}',
        "/s/port": '{"ip": "10.0.0.1", "port": 99999}',
        "/s/bool": '{"ip": "10.0.0.1", "port": true}',
    }
    assert not guard.flaw(keys["/s/good"], "json", fields)
    made = rendered(
        "{% for key, value in select_valid(gets('/s/*'), 'json', ip='ip', port='port') %}{% set s = json(value) %}"
        "{{ s.ip }}:{{ s.port }} {% endfor %}",
        keys,
    )
    assert made.content == b"10.0.0.1:80 10.0.0.2:81 "
    assert {entry.key: entry.reason for entry in made.left_out} == {
        "/s/broken": "this is not JSON: Expecting value, line 1 column 8",
        "/s/list": "this JSON is not an object",
        "/s/missing": "the field 'port' is missing",
        "/s/null": "the field 'ip': not text but NoneType",
        "/s/port": "the field 'port': the port is not from 1 to 65535",
        "/s/bool": "the field 'port': not text but bool",
    }


def test_texts_without_their_pairs_are_told_of_by_key_too():
    made = rendered("{{ select_valid(getvs('/p/*'), 'port') | join(' ') }}", {"/p/a": "80", "/p/b": "x"})
    assert made.content == b"80"
    assert [entry.key for entry in made.left_out] == ["/p/b"]


@pytest.mark.parametrize(("kind", "fields"), [("hostprt", {}), ("json", {"a": "prt"}), ("port", {"a": "port"})])
def test_a_kind_that_does_not_exist_is_an_error(kind, fields):
    with pytest.raises(InvalidArgument):
        guard.flaw("x", kind, fields)


@given(host=st.ip_addresses().map(str), port=st.integers(1, 65535))
def test_host_and_port_come_back_from_an_address(host, port):
    address = guard.hostport(host, port)
    assert guard.parse_hostport(address) == (host, port)
    assert guard.flaw(address, "hostport", {}) == ""


def test_an_address_that_has_its_brackets_already_keeps_them():
    assert guard.hostport("[fd00::1]", 80) == "[fd00::1]:80"


@pytest.mark.parametrize(
    "host", ["[web]", "[10.0.0.1]", "[", "[]", "[[fd00::1]]", "[fd00::1", "fd00::1]", "[fd00::1]:1"]
)
def test_brackets_are_for_ipv6_alone(host):
    with pytest.raises(InvalidArgument):
        guard.hostport(host, 80)


# --- quoting -------------------------------------------------------------------------------------------------------

CALLS = {row.name: row.call for row in FUNCTIONS}
LINE_QUOTES = ["apache_quote", "haproxy_quote", "nginx_quote", "quote", "squote"]
CONTROL = [chr(code) for code in [*range(32), 127]]

VALUES = [
    "", "plain", "two words", "'", '"', "\\", "a\\", "\\'", '\\"', "a'b\"c\\d", "#x", "a # b", ";", "{", "}", "a;b{c}d",
    "$HOME",
    "${HOME}", "$(id)", "`id`", "%[env(HOME)]", "%{HOME}", "\\n", "\\x41", "a\\ b", "<x>", "</VirtualHost>", "é",
    "-f", "&|()*?~!",
    '"; drop', "'; drop", "' \\", "a,b", "=", "\\$HOME", "''", '""',
]  # fmt: skip

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="".join(CONTROL))
LINES = st.text(CHARACTERS, max_size=30)


@pytest.mark.parametrize("name", LINE_QUOTES)
@pytest.mark.parametrize("control", CONTROL)
def test_a_value_with_a_control_character_or_a_line_end_is_refused(name, control):
    with pytest.raises(InvalidArgument) as caught:
        CALLS[name](f"secret{control}x")
    assert "secret" not in caught.value.reason


def test_what_cannot_be_quoted_is_refused():
    for function, value in [
        (guard.nginx_quote, "a$b"),
        (guard.apache_quote, "a${b}"),
        (guard.apache_quote, "a%{b}"),
        (guard.shell_quote, "a\0b"),
        (guard.single_quote, "a'b"),
        (guard.haproxy_quote, ["a"]),
    ]:
        with pytest.raises(InvalidArgument):
            function(value)


def test_a_dollar_for_nginx_is_what_the_template_says():
    assert guard.nginx_quote("a$b", dollar="${dollar}") == '"a${dollar}b"'
    assert guard.nginx_quote("a$b", dollar="$") == '"a$b"'


@given(LINES)
def test_haproxy_quotes_end_where_they_should(value):
    # As the manual has it: between single quotes all is literal, outside a backslash makes the next character literal.
    read, quoted, position = "", guard.haproxy_quote(value), 0
    while position < len(quoted):
        if quoted[position] == "'":
            end = quoted.index("'", position + 1)
            read, position = read + quoted[position + 1 : end], end + 1
        else:
            assert quoted[position : position + 2] == r"\'"
            read, position = read + "'", position + 2
    assert read == value


@pytest.mark.parametrize("function", [guard.apache_quote, guard.double_quote, guard.nginx_quote])
@given(value=LINES.filter(lambda value: not re.search(r"\$|%\{", value)))
def test_double_quotes_end_where_they_should(function, value):
    quoted = function(value)
    inside = re.fullmatch(r'"((?:[^"\\]|\\["\\])*)"', quoted)
    assert inside
    assert re.sub(r'\\(["\\])', r"\1", inside[1]) == value


@given(LINES)
def test_quote_writes_what_json_and_toml_read(value):
    import json
    import tomllib

    assert json.loads(guard.double_quote(value)) == value
    assert tomllib.loads(f"a = {guard.double_quote(value)}") == {"a": value}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
@example(VALUES)
def test_the_shell_reads_back_what_was_quoted(values):
    command = "printf '%s\\0' " + " ".join(map(guard.shell_quote, values))
    output = subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout
    assert output.decode().split("\0")[:-1] == values


def program(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    return path or pytest.fail(f"{name} is not installed: scripts/test installs it")


@settings(max_examples=15, deadline=None)
@given(st.lists(LINES, min_size=20))
@example(VALUES)
def test_haproxy_reads_back_what_was_quoted(tmp_path_factory, values):
    file = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
    file.write_text("".join(f".notice {guard.haproxy_quote(value)}\n" for value in values), encoding="utf-8")
    done = subprocess.run([program("haproxy"), "-c", "-f", file], capture_output=True, check=False)
    assert re.findall(r"parsing \[[^]]*:\d+\]: '(.*)'\.\n", done.stderr.decode()) == values


def test_nginx_reads_back_what_was_quoted(tmp_path):
    values = [value for value in VALUES if "$" not in value] + ["$x", "a${HOME}$1"]
    locations = "".join(
        f"location = /{number} {{ return 200 {guard.nginx_quote(value, dollar='${dollar}')}; }}\n"
        for number, value in enumerate(values)
    )
    path = tmp_path / "socket"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/log;\n"
        "events {}\nhttp { access_log off;\n"
        + "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
        + f'geo $dollar {{ default "$"; }}\nserver {{ listen unix:{path};\n{locations} }} }}\n',
        encoding="utf-8",
    )
    server = subprocess.Popen(
        [program("nginx"), "-p", tmp_path, "-e", tmp_path / "log", "-c", tmp_path / "nginx.conf"],
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: listens(path), what="nginx listens")
        assert [ask(path, number) for number in range(len(values))] == values
    finally:
        server.terminate()
        server.communicate(timeout=10)


def listens(path: Path) -> bool:
    """Whether somebody listens on a socket: its file is there some time before that."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def ask(path: Path, number: int) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(f"GET /{number} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer.partition(b"\r\n\r\n")[2].decode()


def test_apache_reads_back_what_was_quoted(tmp_path):
    apache = program("apache2")
    module = Path("/usr/lib/apache2/modules/mod_mpm_event.so")
    for value in VALUES:
        if not value or "${" in value or "%{" in value:
            continue
        file = tmp_path / "apache.conf"
        # A library that does not exist is named as it was read, with backslashes doubled for the log.
        file.write_text(
            f"ServerName x\nServerRoot {tmp_path}\nLoadModule mpm_event_module {module}\n"
            f"LoadFile {guard.apache_quote('x' + value)}\n",
            encoding="utf-8",
        )
        done = subprocess.run([apache, "-t", "-f", file], capture_output=True, check=False)
        said = re.search(rb"Cannot load (.*?) into server", done.stderr)
        assert said, done.stderr
        assert said[1].replace(rb"\xc3\xa9", "é".encode()).replace(b"\\\\", b"\\").decode() == "x" + value
