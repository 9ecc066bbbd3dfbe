"""``confpy test``: cases of templates, each a file with keys beside what is expected."""

from __future__ import annotations

import os
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from confpy import cli
from confpy.errors import UsageError
from confpy.preview.cases import find_cases

EXAMPLES = Path(__file__).parents[2] / "examples"
RESOURCE = '[template]\nsrc = "{src}"\ndest = "/run/{dest}"\nprefix = "/app"\nkeys = ["/"]\n'


@pytest.fixture(autouse=True)
def _same_environment(monkeypatch):
    monkeypatch.delenv("CONFPY_CONFDIR", raising=False)
    monkeypatch.setenv("TZ", os.environ.get("TZ", "UTC"))
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def confdir(tmp_path):
    for name in ("conf.d/sub", "templates", "tests"):
        (tmp_path / name).mkdir(parents=True)
    put(tmp_path / "conf.d", "web.toml", RESOURCE.format(src="web.cfg.j2", dest="web.cfg"))
    put(tmp_path / "conf.d", "sub/api.toml", RESOURCE.format(src="api.j2", dest="api.yml"))
    put(tmp_path / "templates", "web.cfg.j2", 'port {{ getv("/port") }}\n')
    put(tmp_path / "templates", "api.j2", "{{ getv('/port') }} {{ getenv('ZONE') }} {{ datetime().isoformat() }}\n")
    return tmp_path


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)


def run(capfd, folder: Path, *flags: object) -> tuple[int, list[str], str]:
    code = cli.main(["test", str(folder), *map(str, flags)])
    out, err = capfd.readouterr()
    return code, out.split("\n")[:-1], err


def test_each_case_is_one_line_and_all_that_pass_end_with_0(confdir, capfd):
    put(confdir / "tests", "web.cfg.one.keys.yaml", "app: {port: 80}\n")
    put(confdir / "tests", "web.cfg.one.expected", "port 80\n")
    put(confdir / "tests", "web.two.keys.json", '{"app": {"port": 81}}')
    put(confdir / "tests", "web.two.expected", "port 81\n")
    assert run(capfd, confdir / "tests") == (0, ["ok web.cfg.one", "ok web.two", "2 cases, 0 failed"], "")


def test_a_case_that_differs_shows_a_diff_and_ends_with_4(confdir, capfd):
    put(confdir / "tests", "web.cfg.one.keys.toml", "[app]\nport = 80\n")
    put(confdir / "tests", "web.cfg.one.expected", "port 79\n")
    code, out, _ = run(capfd, confdir / "tests")
    assert code == 4
    assert out[0] == "FAIL web.cfg.one: differs from web.cfg.one.expected"
    assert out[3:6] == ["@@ -1 +1 @@", "-port 79", "+port 80"]
    assert out[-1] == "1 case, 1 failed"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "there is no web.cfg.one.expected; -update writes it"),
        ({".error": "none"}, "it renders, but web.cfg.one.error expects an error"),
        ({".expected": "", ".error": ""}, "web.cfg.one has both .expected and .error: remove one"),
    ],
)
def test_what_is_expected_has_to_be_there_once(confdir, capfd, files, problem):
    put(confdir / "tests", "web.cfg.one.keys.yaml", "app: {port: 80}\n")
    for name, text in files.items():
        put(confdir / "tests", f"web.cfg.one{name}", text)
    code, out, _ = run(capfd, confdir / "tests")
    assert (code, out[0]) == (4, f"FAIL web.cfg.one: {problem}")


def test_an_expected_error_passes_where_its_text_is_in_the_error(confdir, capfd):
    put(confdir / "tests", "web.cfg.none.keys.yaml", "app: {}\n")
    put(confdir / "tests", "web.cfg.none.error", "key does not exist\n\n/port\n")
    put(confdir / "tests", "web.cfg.other.keys.yaml", "app: {}\n")
    put(confdir / "tests", "web.cfg.other.error", "something else\n")
    put(confdir / "tests", "web.cfg.unexpected.keys.yaml", "app: {}\n")
    error = "web.cfg.j2:1:6: key does not exist (key /port)"
    assert run(capfd, confdir / "tests")[1] == [
        "ok web.cfg.none",
        f"FAIL web.cfg.other: another error than web.cfg.other.error expects: {error}",
        f"FAIL web.cfg.unexpected: {error}",
        "3 cases, 2 failed",
    ]


def test_update_writes_what_is_expected_and_then_all_cases_pass(confdir, capfd):
    put(confdir / "tests", "web.cfg.one.keys.yaml", "app: {port: 80}\n")
    put(confdir / "tests", "web.cfg.one.error", "it failed once\n")
    put(confdir / "tests", "web.cfg.none.keys.yaml", "app: {}\n")
    put(confdir / "tests", "web.cfg.known.keys.yaml", "app: {}\n")
    put(confdir / "tests", "web.cfg.known.error", "does not exist\n")
    assert run(capfd, confdir / "tests", "-update") == (
        0,
        ["same web.cfg.known", "written web.cfg.none", "written web.cfg.one", "3 cases, 0 failed, 2 written"],
        "",
    )
    assert (confdir / "tests/web.cfg.one.expected").read_text() == "port 80\n"
    assert not (confdir / "tests/web.cfg.one.error").exists()
    assert (confdir / "tests/web.cfg.none.error").read_text() == "web.cfg.j2:1:6: key does not exist (key /port)\n"
    assert run(capfd, confdir / "tests")[0] == 0
    assert run(capfd, confdir / "tests", "-update")[1][-1] == "3 cases, 0 failed, 0 written"


def test_a_case_has_one_time_and_only_the_environment_beside_it(confdir, capfd, monkeypatch):
    monkeypatch.setenv("ZONE", "that of the machine")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    for name in ("one", "two"):
        put(confdir / "tests", f"sub/api.{name}.keys.yaml", "app: {port: 80}\n")
    put(confdir / "tests", "sub/api.one.expected", "80  2000-01-01T00:00:00+00:00\n")
    put(confdir / "tests", "sub/api.two.env", "# a comment\nZONE=a=b\n")
    put(confdir / "tests", "sub/api.two.expected", "80 a=b 2000-01-01T00:00:00+00:00\n")
    assert run(capfd, confdir / "tests")[0] == 0


@pytest.mark.parametrize("name", ["web/one", "sub/api/one", "deep/web.cfg/more/one", "api.yml.one", "web.cfg.j2.one"])
def test_a_case_names_its_resource_or_lies_in_a_folder_of_its_name(confdir, capfd, name):
    put(confdir / "tests", f"{name}.keys.yaml", "app: {port: 80}\n")
    assert run(capfd, confdir / "tests", "-update")[0] == 0


def test_a_case_of_no_resource_and_one_with_malformed_keys_fail_with_a_hint(confdir, capfd):
    put(confdir / "tests", "wbe.one.keys.yaml", "app: {port: 80}\n")
    put(confdir / "tests", "web.cfg.bad.keys.yaml", "a: [\n")
    code, out, _ = run(capfd, confdir / "tests")
    assert code == 4
    assert "no resource is meant by wbe.one.keys.yaml" in out[0]
    assert "sub/api, web" in out[0]
    assert "web.cfg.bad.keys.yaml line=" in out[1]


def test_a_folder_without_cases_is_an_error_of_usage(confdir, capfd):
    assert run(capfd, confdir / "tests")[0] == 2
    assert run(capfd, confdir / "nowhere")[0] == 2
    with pytest.raises(UsageError, match="there is no case below"):
        find_cases(str(confdir))


def test_the_junit_report_has_each_case_with_its_resource_and_diff(confdir, capfd):
    put(confdir / "tests", "web.cfg.one.keys.yaml", "app: {port: 80}\n")
    put(confdir / "tests", "web.cfg.one.expected", "port 80\n")
    put(confdir / "tests", "web.cfg.two.keys.json", '{"app": {"port": "\\u0001"}}')
    put(confdir / "tests", "web.cfg.two.expected", "port 79\n")
    assert run(capfd, confdir / "tests", "-junit", confdir / "report.xml")[0] == 4
    suites = ET.parse(confdir / "report.xml").getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("2", "1")
    cases = list(suites.iter("testcase"))
    assert [(case.get("classname"), case.get("name")) for case in cases] == [
        ("web", "web.cfg.one"),
        ("web", "web.cfg.two"),
    ]
    assert "-port 79\n+port \ufffd\n" in (cases[1][0].text or "")
    assert run(capfd, confdir / "tests", "-junit", confdir / "none/report.xml")[0] == 6


@pytest.mark.parametrize("example", ["apache", "haproxy", "nginx"])
def test_the_cases_of_the_examples_pass(capfd, example):
    cases = len([*(EXAMPLES / example / "tests").glob("*.keys.yaml")])
    assert cases >= 3
    code, out, err = run(capfd, EXAMPLES / example / "tests")
    assert (code, out[-1], err) == (0, f"{cases} cases, 0 failed", "")
