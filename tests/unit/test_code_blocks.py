"""Every block of code of the manual is run, or held valid by what reads it in use: none is only text.

A block of shell that no test runs says why above it: ``<!-- not run: REASON -->``. They are counted here.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from confpy.cli import main, spell
from confpy.commands.flags import parse
from tests.pages import PAGES, ROOT, TYPED, Block, blocks

MOST_UNRUN = 20
"""Blocks of shell that are not run, each with its reason above it. A new one is to be run instead."""
ELSEWHERE = {
    "CONTRIBUTING.md": "tests/e2e/test_contributing.py",
    "docs/command-line.md": "tests/unit/test_command_manual.py",
    "docs/converting.md": "tests/unit/test_convert_docs.py",
    "docs/go-templates.md": "tests/unit/test_template_docs.py",
    "docs/settings.md": "tests/unit/test_settings_manual.py",
    "docs/template-functions.md": "tests/unit/test_template_docs.py",
    "docs/architecture.md": "tests/unit/test_architecture.py",
    "docs/key-functions.md": "tests/unit/test_keys.py",
}
"""Pages whose blocks other tests read → that test."""
LANGUAGES = {
    "toml", "yaml", "json", "ini", "dockerfile", "python", "jinja", "go", "sh", "console", "text", "diff", "mermaid",
    "haproxy", "nginx",
}  # fmt: skip
INSTRUCTIONS = {
    "FROM",
    "COPY",
    "ENTRYPOINT",
    "CMD",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "RUN",
    "ENV",
    "USER",
    "WORKDIR",
    "ARG",
}
SHOWN = re.compile(
    r"^(\$ |… |# |[\w./-]+:\d+:(?:\d+:)? |\d{4}-\d\d-\d\dT|info |[A-Z]+ +[A-Z]+|confpy \d|/etc/)", re.MULTILINE
)
"""How output begins that a page shows apart from a command."""

ALL = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in ALL if block.language in languages]


def each(*languages: str):
    found = of(*languages)
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


def checked(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Return what ``confpy check`` says of a confdir; fail if that is an error."""
    code = main(["check", str(folder)])
    said, _ = capfd.readouterr()
    assert code == 0, said
    return said


def test_every_block_says_what_it_is() -> None:
    assert [block.place for block in ALL if block.language not in LANGUAGES] == []


def test_no_block_is_written_by_indenting_it_where_it_would_have_no_language() -> None:
    found = []
    for page in PAGES:
        text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += [(page.name, line) for line in re.findall(r"\n\n(?: {4})([^ \-*\d|].*)", text)]
    assert found == []


@each("toml")
def test_toml_is_a_resource_or_settings_without_a_mistake(block, tmp_path, capfd):
    text = block.text
    for folder in ("conf.d", "templates"):
        (tmp_path / folder).mkdir()
    is_settings = re.search(r"^(backend|nodes|watch)\b", text, re.MULTILINE) and "[template]" not in text
    resource = '[template]\nsrc = "x.j2"\ndest = "/x"\nkeys = ["/"]\n'
    if is_settings:
        (tmp_path / "confpy.toml").write_text(text)
    elif "[template]" in text:
        resource = text
    else:
        resource += text
    (tmp_path / "conf.d" / "x.toml").write_text(resource)
    (source,) = re.findall(r'^src = "(.+)"', resource, re.MULTILINE)
    (tmp_path / "templates" / source).write_text("x\n")
    checked(tmp_path, capfd)


@each("jinja", "go")
def test_templates_compile_and_ask_for_what_there_is(block, tmp_path, capfd):
    if str(block.page.relative_to(ROOT)) in ELSEWHERE:
        return
    for folder in ("conf.d", "templates"):
        (tmp_path / folder).mkdir()
    resource = f'[template]\nsrc = "x"\ndest = "/x"\nkeys = ["/"]\nengine = "{block.language}"\n'
    (tmp_path / "conf.d" / "x.toml").write_text(resource)
    (tmp_path / "templates" / "x").write_text(block.text)
    assert "no mistakes" in checked(tmp_path, capfd)


@each("yaml")
def test_yaml_can_be_read_and_what_runs_confpy_in_it_has_flags_that_exist(block):
    documents = [*yaml.safe_load_all(block.text)]
    assert documents
    assert all(documents)
    for line in re.findall(r"confpy (check [^&|\n]*|test [^&|\n]*|diff [^&|\n]*)", block.text):
        assert parse(spell(shlex.split(line, comments=True)).flags) is not None
    for words in re.findall(r"^ *args: (\[\"-.*\])$", block.text, re.MULTILINE):
        assert parse(spell(json.loads(words)).flags) is not None


def test_the_pod_of_the_manual_mounts_what_it_has_and_its_resource_is_right(tmp_path, capfd):
    config, pod = (yaml.safe_load(block.text) for block in blocks(ROOT / "docs" / "howto" / "kubernetes.md")[:2])
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    containers = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    assert {mount["name"] for one in containers for mount in one["volumeMounts"]} == volumes.keys()
    for item in volumes["confdir"]["configMap"]["items"]:
        path = tmp_path / item["path"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(config["data"][item["key"]])
    assert checked(tmp_path, capfd) == "1 resource checked: no mistakes found\n"


@each("json")
def test_json_can_be_read(block):
    if block.info == "json":
        for line in block.text.splitlines():
            assert json.loads(line)
    else:
        assert json.loads(block.text)


@each("ini")
def test_units_have_sections_and_settings(block):
    text = block.text if block.text.startswith("[") else f"[Variables]\n{block.text}"
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    assert {*parser.sections()} <= {"Unit", "Service", "Install", "Variables"}
    for section in parser.sections():
        assert all(re.fullmatch(r"[A-Z][A-Za-z_0-9]+", name) for name in parser[section])
    for line in re.findall(r"^ExecStart=\S+/(?:confpy|confd) (.*)$", text, re.MULTILINE):
        assert parse(spell(shlex.split(line)).flags) is not None


@each("dockerfile")
def test_lines_of_a_dockerfile_are_instructions_and_run_confpy_as_it_can_be_run(block):
    for line in re.sub(r"\\\n", "", block.text).splitlines():
        instruction, _, rest = line.partition(" ")
        assert instruction in INSTRUCTIONS
        words = json.loads(rest[rest.index("[") :]) if "[" in rest else []
        if words and words[0].endswith("confpy"):
            assert parse(spell(words[1:]).flags) is not None


@each("python")
def test_python_runs(block):
    exec(compile(block.text, block.place, "exec"), {})


@each("sh")
def test_shell_is_run_by_a_test_or_says_why_not(block):
    if block.page not in TYPED and not block.unrun:
        # tests/e2e/test_manual_commands.py runs these lines; the examples' own tests do what else is in them.
        assert re.search(r"^(confpy|confd|until confpy|\w+=\S+ (confpy|confd)|etcdctl) ", block.text, re.MULTILINE)


def test_few_blocks_of_shell_are_not_run() -> None:
    unrun = [block for block in ALL if block.unrun]
    assert len(unrun) <= MOST_UNRUN, [block.place for block in unrun]
    for name in (name for block in unrun for name in re.findall(r"tests/\S+\.py", block.unrun)):
        assert (ROOT / name).exists(), name


@each("console")
def test_what_is_typed_is_typed_by_a_test(block):
    assert block.page in TYPED, "such a page belongs to tests/pages.py: TYPED"


@each("text", "haproxy", "nginx", "diff", "mermaid")
def test_other_text_belongs_to_a_page_that_is_tested_or_is_output(block):
    tested = block.page in TYPED or str(block.page.relative_to(ROOT)) in ELSEWHERE
    assert tested or SHOWN.search(block.text) or block.language in {"haproxy", "nginx"}


@pytest.mark.parametrize("name", sorted({*TYPED.values(), *ELSEWHERE.values()}))
def test_the_tests_of_pages_exist(name):
    assert (ROOT / name).exists()
