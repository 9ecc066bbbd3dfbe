"""``{{ env("NAME") }}`` in a resource: what it becomes, and what stays as it is."""

from __future__ import annotations

import pytest

from confpy.config.environment import fill_environment
from confpy.errors import UsageError


@pytest.fixture(autouse=True)
def _variables(monkeypatch):
    monkeypatch.setenv("APP", "web")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("BRACES", '{{ env("APP") }}')
    monkeypatch.delenv("UNSET", raising=False)


def filled(text):
    return fill_environment({"dest": text}, "")["dest"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('/etc/{{ env("APP") }}/a', "/etc/web/a"),
        ("{{env('APP')}}-{{- env ( \"APP\" ) -}}", "web-web"),
        ('{{ env("UNSET", "x") }}', "x"),
        ("{{ env('UNSET', '') }}", ""),
        ('{{ env("APP", "x") }}', "web"),
        ('{{ env("EMPTY", "x") }}', ""),
        ('{{ env("BRACES") }}', '{{ env("APP") }}'),
    ],
)
def test_a_variable_is_its_value_else_the_default(written, value):
    assert filled(written) == value


@pytest.mark.parametrize(
    "text",
    [
        "/a/{{ name }}.conf",
        '{{ getenv("APP") }}',
        '{{env "APP"}}',
        "{{ environment }}",
        "{{.dest}}",
        "{{",
        "a}}",
        "{% if x %}",
    ],
)
def test_braces_without_a_call_of_env_stay_as_they_are(text):
    assert filled(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "{{ env(APP) }}",
        '{{ env("APP") | lower }}',
        '{{ env("APP" }}',
        "{{ env() }}",
        '{{ env("APP", 3) }}',
        '{{ env("APP")',
    ],
)
def test_what_is_no_call_of_env_but_begins_like_one_is_an_error(text):
    with pytest.raises(UsageError, match=r"dest: a call of env cannot be read"):
        filled(text)


def test_an_error_names_the_variable_and_the_line_and_what_to_do():
    content = '[template]\nsrc = "a"\n# dest = "b"\n"Keys" = [\n  "/a",\n  "/{{ env(\\"UNSET\\") }}",\n]\n'
    with pytest.raises(UsageError, match="keys: the variable UNSET is not set") as raised:
        fill_environment({"src": "a", "keys": ("/a", '/{{ env("UNSET") }}')}, content)
    assert raised.value.where == {"key": "keys", "line": 4}
    assert 'env("UNSET", "…")' in raised.value.hint


def test_only_what_is_read_and_written_is_filled():
    call = '{{ env("APP") }}'
    given = {"src": call, "dest": call, "keys": (call, "/b"), "prefix": call, "check_cmd": call, "mode": 0o644}
    assert fill_environment(given, "") == {
        "src": "web", "dest": "web", "keys": ("web", "/b"), "prefix": "web", "check_cmd": call, "mode": 0o644,
    }  # fmt: skip


def test_no_secret_of_confpy_s_becomes_a_path(monkeypatch):
    monkeypatch.setenv("CONFPY_PASSWORD", "hunter2")
    with pytest.raises(UsageError, match="CONFPY_PASSWORD holds a secret") as raised:
        filled('/etc/{{ env("CONFPY_PASSWORD") }}')
    assert "hunter2" not in str(raised.value)
