"""docs/resources.md and docs/resource.schema.json: made from the table of a resource's options.

``python -m tests.unit.test_resource_manual`` writes both anew.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from confpy.config.confd import WORDS
from confpy.config.load import SPELLED
from confpy.config.resource import OPTIONS, REQUIRED
from confpy.config.settings import OPTIONS as SETTINGS
from confpy.config.toml import plain
from confpy.errors import UsageError
from tests.generated import with_part
from tests.unit.confdirs import HEALTHY, MARK, PLANTED
from tests.unit.json_schema import mismatches

OF_THE_SCHEMA = [
    "a mode that is a number", "a boolean that is text", "a word that is none of the choices", "an unknown key",
    "a table that is called otherwise", "no src",
]  # fmt: skip
"""Planted mistakes that a schema can find: of one key or table by itself."""

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "resources.md"
SCHEMA = ROOT / "docs" / "resource.schema.json"
FLAGS = {setting.name: setting for setting in SETTINGS}

# --- the table of the manual -----------------------------------------------------------------------------------------


def kind_shown(option):
    return ", ".join(f"`{name}`" for name in option.kind.metavar.split("|")) if option.kind.names else option.kind.type


def default_shown(option):
    if option.default is REQUIRED:
        return "required"
    if option.unset:
        return option.unset
    if option.setting:
        setting = FLAGS[option.name]
        value = str(setting.default).lower() if setting.shown_default == "" else setting.shown_default
        return f"the setting, `{value}`" if option.kind.names else f"the setting, {value}"
    if isinstance(option.default, str):
        return f"`{option.default}`" if option.default else "–"
    if option.default is None:
        return "–"
    return "empty" if option.default == () else str(option.default).lower()


def table():
    lines = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, option in OPTIONS.items():
        lines.append(f"| `{name}` | {kind_shown(option)} | {default_shown(option)} | {option.help} |")
    return "\n".join(lines)


def regenerated(text):
    return with_part(text, "options", table())


def test_the_manual_shows_the_table_of_options():
    text = MANUAL.read_text()
    assert text == regenerated(text), "run: python -m tests.unit.test_resource_manual"


# --- the schema ------------------------------------------------------------------------------------------------------


def described(option):
    """What an editor shows of an option: no links, which lead nowhere there."""
    text = re.sub(r"[,;]? *\(?\[(more|see below)\]\([^)]*\)\)?", "", option.help)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).rstrip(".")
    return text[0].upper() + text[1:] + "."


def property_of(option):
    found = {"description": described(option), **option.kind.schema}
    if option.examples:
        found["examples"] = [*option.examples]
    if option.default is REQUIRED or option.default is None or option.unset:
        return found
    default = [*option.default] if isinstance(option.default, tuple) else option.default
    return found | {"default": int(default) if isinstance(default, float) and default.is_integer() else default}


def words():
    """confd's words that mean an option here."""
    for word in WORDS:
        meant = SPELLED[plain(word.name)]
        if meant:
            text = f"What confd's fork calls {' and '.join(meant)}."
            yield word.name, {"description": text, "deprecated": True, **OPTIONS[meant[0]].kind.schema}


def schema():
    template = {
        "description": "Which keys are rendered through which template into which target.",
        "type": "object",
        "properties": {**{name: property_of(option) for name, option in OPTIONS.items()}, **dict(words())},
        "required": [name for name, option in OPTIONS.items() if option.default is REQUIRED],
        "additionalProperties": False,
    }
    backend = {
        "description": "The store, as confd's fork names it; it has to be the one that the settings name.",
        "type": "object",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A resource of confpy",
        "description": "One file of conf.d; docs/resources.md is the manual.",
        "type": "object",
        "properties": {"template": template, "backend": backend},
        "required": ["template"],
    }


def schema_text():
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def test_the_schema_is_made_from_the_table_of_options():
    assert SCHEMA.read_text() == schema_text(), "run: python -m tests.unit.test_resource_manual"


def parsed(files):
    """The resources among files, as TOML has them."""
    return {name: tomllib.loads(text.lstrip("\ufeff")) for name, text in files.items() if "conf.d/" in name}


@pytest.mark.parametrize("form", HEALTHY)
def test_the_schema_takes_what_confpy_check_finds_nothing_in(form):
    assert not any(mismatches(one, schema()) for one in parsed(HEALTHY[form]).values())


@pytest.mark.parametrize("mistake", OF_THE_SCHEMA)
def test_the_schema_marks_what_confpy_check_finds(mistake):
    files = {name: text.replace(MARK, "") for name, text in PLANTED[mistake][0].items() if name == "conf.d/bad.toml"}
    (one,) = parsed(files).values()
    assert mismatches(one, schema())


def reads(name, value):
    """Whether the reader takes a value of an option."""
    try:
        OPTIONS[name].kind.read(value, name)
    except UsageError:
        return False
    return True


VALUES = [
    "", "x", "0644", "844", "30s", "1m30s", "soon", "-1", 0, 1, -1, -2, 7, 0.5, 1.5, True, False, [], ["x"], ["/x"],
    ["[[", "]]"], ["{%", "%}"], ["a", "b"], "/bin/true", ["/bin/true"], "HUP", "SIGHUP", "HUP!", "json", "yml", "ini",
    "POST http://127.0.0.1/", "POST ftp://127.0.0.1/", "unix:/run/a.sock reload", "nginx", "haproxy", "caddy", "retry",
    "swap", "always", "sometimes", "confirm", "keep", "restore", "auto", "go", "rename", "follow", "segment", "error",
    1 << 31, [1], {},
]  # fmt: skip
LOOSER = {"reload_signal", "reload_socket", "reload_http", "reload_socket_expect"}
"""Options of which the reader rejects values that the schema, which knows less, does not."""


@pytest.mark.parametrize("name", OPTIONS)
def test_the_schema_takes_what_the_reader_takes(name):
    properties = schema()["properties"]["template"]
    for value in [*VALUES, *OPTIONS[name].examples, *OPTIONS[name].kind.schema.get("examples", ())]:
        fits = mismatches({"src": "a.j2", "dest": "/a", name: value}, properties) == []
        assert fits == reads(name, value) or (fits and name in LOOSER), value


def test_a_default_and_each_example_fits_its_own_schema():
    for name, found in schema()["properties"]["template"]["properties"].items():
        given = [*found.get("examples", ()), *([found["default"]] if "default" in found else [])]
        assert [value for value in given if mismatches(value, found)] == [], name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[template]\nsrc = 'a'\n", "dest"),
        ("[template]\nsrc = 'a'\ndest = '/a'\nchek_cmd = 'x'\n", "chek_cmd"),
        ("[template]\nsrc = 'a'\ndest = '/a'\nmode = 420\n", "mode"),
        ("[template]\nsrc = 'a'\ndest = '/a'\non_drift = 'ignore'\n", "on_drift"),
        ("[templates]\nsrc = 'a'\ndest = '/a'\n", "template"),
    ],
)
def test_the_schema_finds_what_is_missing_misspelled_or_wrong(text, said):
    assert said in "".join(mismatches(tomllib.loads(text), schema()))


def resources_of(*folders):
    return [path for folder in folders for path in sorted(folder.rglob("*.toml")) if "conf.d" in path.parts]


def test_the_examples_fit_the_schema():
    found = resources_of(ROOT / "confpy" / "examples", ROOT / "conf.d")
    assert len(found) > 1
    assert {path: wrong for path in found if (wrong := mismatches(tomllib.loads(path.read_text()), schema()))} == {}


def test_of_real_installations_the_schema_marks_what_the_reader_does_not_know():
    found = resources_of(ROOT / "tests" / "golden" / "installations")
    assert len(found) > 10
    for path in found:
        tables = tomllib.loads(path.read_text())
        unknown = [key for key in tables["template"] if plain(key) not in SPELLED]
        assert mismatches(tables, schema()) == [f"it.template.{key} is not known" for key in unknown], path


if __name__ == "__main__":
    MANUAL.write_text(regenerated(MANUAL.read_text()))
    SCHEMA.write_text(schema_text())
