"""What a new user gets wrong first: said in one line, with what to write, and never an empty file without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.running import Confpy, Ended, run_once

KEYS = 'h: {a: "1", b: "2"}\nlist: [x, y]\nmembers: {a: \'{"conn_url": "x//y"}\', b: \'{"state": "creating"}\'}\n'


class Installation:
    """A confdir with one resource and a file of keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "keys.yaml").write_text(KEYS)

    def write(self, template: str, keys: str = '["/h"]', src: str = "app.tmpl") -> None:
        (self.folder / "templates" / src).write_text(template)
        resource = f'[template]\nsrc = "{src}"\ndest = "{self.out}"\nkeys = {keys}\n'
        (self.folder / "conf.d" / "app.toml").write_text(resource)

    def run(self, *flags: str) -> Ended:
        store = ("-backend", "file", "-file", "keys.yaml")
        return run_once("-confdir", str(self.folder), *store, *flags, folder=self.folder)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.mark.parametrize("keys", ['["/hh"]', '["/h/a"]'])
@pytest.mark.parametrize(
    "template",
    ['{{range gets "/list/*"}}{{.Value}}{{end}}', '{{getvs "/list/*"}}', '{{ls "/list"}}{{lsdir "/list"}}'],
)
def test_mistyped_keys_fail_the_resource_instead_of_emptying_its_file(
    installation: Installation, keys: str, template: str
) -> None:
    installation.write(template, keys)
    installation.out.write_text("old")
    ended = installation.run()
    assert ended.code == 4
    failed = ended.find("resource.failed", resource="app")
    assert "not below any of the resource's keys" in failed["hint"]
    assert installation.out.read_text() == "old"


def test_forgotten_keys_are_a_warning(installation: Installation) -> None:
    installation.write('{{range gets "/h/*"}}{{.Value}}{{end}}', "[]")
    ended = installation.run()
    assert (ended.code, installation.out.read_text()) == (0, "")
    said = ended.find("template.suspicious", resource="app", asked='gets "/h/*"')
    assert said["level"] == "warning"
    assert said["hint"] == "it is not below any of the resource's keys"


def test_a_key_with_a_default_and_exists_never_fail(installation: Installation) -> None:
    installation.write('{{getv "/list/0" "none"}} {{exists "/list/0"}}')
    ended = installation.run()
    assert (ended.code, installation.out.read_text()) == (0, "none false")
    ended.find("template.suspicious", asked='getv "/list/0"')
    ended.find("template.suspicious", asked='exists "/list/0"')


def test_a_pattern_above_a_key_is_no_mistake(installation: Installation) -> None:
    installation.write('{{range gets "/*"}}{{.Key}}{{end}}{{range gets "/*/*"}}{{.Key}} {{end}}', '["/h"]')
    ended = installation.run()
    assert (ended.code, installation.out.read_text()) == (0, "/h/a /h/b ")
    assert "template.suspicious" not in ended.log


@pytest.mark.parametrize(
    ("question", "instead"),
    [
        ('gets "h/*"', '"/h/*"'),
        ('ls "h"', '"/h"'),
        ('gets "/h"', '"/h/*"'),
        ('gets "/h/"', '"/h/*"'),
        ('getvs "/list"', '"/list/*"'),
    ],
)
def test_a_pattern_that_can_match_nothing_is_rendered_and_said(
    installation: Installation, question: str, instead: str
) -> None:
    installation.write(f"{{{{range {question}}}}}x{{{{end}}}}", '["/h", "/list"]')
    ended = installation.run()
    assert (ended.code, installation.out.read_text()) == (0, "")
    assert instead in ended.find("template.suspicious", asked=question)["hint"]


def test_the_key_at_fault_is_named_behind_json_and_split(installation: Installation) -> None:
    installation.write(
        '{{range gets "/members/*"}}{{$d := json .Value}}{{index (split $d.conn_url "/") 2}}{{end}}', '["/members"]'
    )
    assert installation.run().find("resource.failed")["key"] == "/members/b"
    installation.write(
        "{% for key, value in gets('/members/*') %}{{ json(value).conn_url }}{% endfor %}", '["/"]', "a.j2"
    )
    ended = installation.run()
    assert ended.find("resource.failed")["key"] == "/members/b"
    assert "creating" not in ended.log


def test_a_variable_is_answered_by_the_spelling_that_its_key_has_in_the_resource(installation: Installation) -> None:
    installation.write('{{getv "/xmpp_domain"}}', '["/xmpp_domain"]')
    flags = ("-confdir", str(installation.folder), "-backend", "env")
    ended = run_once(*flags, folder=installation.folder, more={"XMPP_DOMAIN": "example.org"})
    assert (ended.code, installation.out.read_text()) == (0, "example.org")


def test_a_word_that_is_none_of_the_choices_is_said_to_be_none(installation: Installation) -> None:
    ended = installation.run("-log-level", "verbose")
    assert ended.code == 2
    assert "'verbose' is not one of debug, info, warning, error" in ended.log


def test_a_missing_folder_is_told_with_mkdir(installation: Installation) -> None:
    installation.out = installation.folder / "none" / "out"
    installation.write("x")
    ended = installation.run()
    assert ended.code == 6
    assert "mkdir = true" in ended.find("resource.failed")["hint"]


def test_drift_names_the_template_to_change(installation: Installation) -> None:
    installation.write("x")
    flags = ["-backend", "file", "-file", "keys.yaml", "-confdir", str(installation.folder), "-interval", "200ms"]
    with Confpy(*flags, folder=installation.folder) as confpy:
        confpy.says("resource.changed", resource="app")
        installation.out.write_text("mine\n")
        assert confpy.says("target.drifted", resource="app")["template"] == "app.tmpl"
        confpy.stop()
