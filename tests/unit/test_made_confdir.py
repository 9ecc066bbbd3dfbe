"""Templates that are named on the command line: how they are written, and the confdir that is made of them."""

from __future__ import annotations

import os
import tomllib

import pytest

from confpy.cli import main
from confpy.daemon import made_confdir as made
from confpy.daemon.made_confdir import Given, made_confdir, parse_template
from confpy.errors import TemplateError, UsageError


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("/a.j2:/b", ("/a.j2", "/b", "")),
        ("/a.j2:/b:", ("/a.j2", "/b", "")),
        ("/a.j2:/b:kill -HUP 1", ("/a.j2", "/b", "kill -HUP 1")),
        (r"/a.j2:/b:curl http://h:80/x\:y", ("/a.j2", "/b", r"curl http://h:80/x\:y")),
        (r"/c\:/a.j2:/d\:e", ("/c:/a.j2", "/d:e", "")),
        (r"/a\b.j2:/b", (r"/a\b.j2", "/b", "")),
    ],
)
def test_the_command_is_what_follows_the_second_colon_and_paths_may_have_colons(text, given):
    assert parse_template(text) == Given(*given)


def test_a_template_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_template("a.j2:b").src == str(tmp_path / "a.j2")


@pytest.mark.parametrize("text", ["", "/a.j2", ":/b", "/a:", "/a: :x", "/a.j2:/b/"])
def test_what_names_no_template_or_no_file_is_refused(text):
    with pytest.raises(UsageError, match="flag -template"):
        parse_template(text)


@pytest.fixture
def template(tmp_path):
    (tmp_path / "a.cfg.j2").write_text("a\n")
    return tmp_path / "a.cfg.j2"


def test_each_template_is_a_resource_that_is_called_as_its_target(template):
    templates = [Given(str(template), dest, "") for dest in ("/x/a.cfg", "/y/a.cfg", "/z/.ssh key")]
    with made_confdir(templates, ["/services"]) as folder:
        resources = sorted(os.listdir(f"{folder}/conf.d"))
        assert resources == ["a.cfg-2.toml", "a.cfg.toml", "ssh-key.toml"]
        with open(f"{folder}/conf.d/a.cfg-2.toml", "rb") as file:
            table = tomllib.load(file)["template"]
        assert table == {"src": "a.cfg-2/a.cfg.j2", "dest": "/y/a.cfg", "keys": ["/services"], "mkdir": True}
        with open(f"{folder}/templates/{table['src']}") as file:
            assert file.read() == "a\n"
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert not os.path.exists(folder)


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_a_run_uses_is_not(template, tmp_path, monkeypatch):
    monkeypatch.setattr(made, "MEMORY", str(tmp_path))
    left = tmp_path / f"{made.PREFIX}left"
    left.mkdir()
    (left / made.LOCK).touch()
    other = tmp_path / f"{made.PREFIX}without-a-lock"
    other.mkdir()
    with made_confdir([Given(str(template), "/b", "")], []) as first:
        assert not left.exists()
        with made_confdir([Given(str(template), "/b", "")], []):
            assert os.path.exists(first)
    assert other.exists()


def test_a_template_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(TemplateError) as caught, made_confdir([Given(str(tmp_path / "no.j2"), "/b", "")], []):
        pass
    assert caught.value.where["template"] == str(tmp_path / "no.j2")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["-template", "a:b", "-confdir", "/x"], "flags -template and -confdir are given"),
        (["-key", "/a", "-onetime"], "flag -key: it is for -template"),
        (["keys", "-template", "a:b"], "unknown flag -template"),
    ],
)
def test_what_makes_no_sense_together_is_one_line(flags, error, capfd):
    assert main(flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert error in line
