"""What a shell is offered, asked as click's scripts ask."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import get_completion_class

from confpy.commands import COMMANDS, COMPLETE, completion
from confpy.config import confd
from confpy.config.settings import OPTIONS


@pytest.fixture
def complete(monkeypatch):
    """Returns what a shell is offered for the last of some words."""
    completion._register()

    def offer(*words, shell="bash"):
        monkeypatch.setenv("COMP_WORDS", "\n".join(["confpy", *words]) if shell == "bash" else " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words)) if shell != "fish" else words[-1])
        if shell != "bash":
            monkeypatch.setenv("COMP_WORDS", " ".join(["confpy", *words[: -1 if shell == "fish" else None]]))
        made = get_completion_class(shell)(completion.tree(), {}, "confpy", COMPLETE)
        args, incomplete = made.get_completion_args()
        return [(item.type, item.value) for item in made.get_completions(args, incomplete)]

    return offer


def names(found):
    return [value for kind, value in found if kind == "plain"]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_flags_are_completed_with_the_dashes_that_were_typed(complete, shell):
    assert names(complete("-onet", shell=shell)) == ["-onetime"]
    assert names(complete("--onet", shell=shell)) == ["--onetime"]
    assert "-onetime" in names(complete("-on", shell=shell))
    assert all(not name.startswith("--") for name in names(complete("-", shell=shell)))


def test_all_commands_are_offered_first(complete):
    assert set(names(complete(""))) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_offered_its_own_flags_and_those_of_every_run(complete, command):
    found = set(names(complete(command, "-")))
    own = {f"-{flag.name}" for flag in COMMANDS[command].flags}
    assert found >= {f"-{option.flag}" for option in OPTIONS} | own | {"-help"}


def test_words_of_confd_are_understood_and_not_offered(complete):
    assert names(complete("-auth-ty")) == []
    assert names(complete("-auth-type", "x", "-onet")) == ["-onetime"]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["-log-level", ""], ["debug", "info", "warning", "error"]),
        (["-on-shrink", "r"], ["render"]),
        (["-stop-signals", "US"], ["USR1", "USR2"]),
        (["-backend", "cons"], ["consul", "consul-catalog"]),
        (["-backend", "=", "cons"], ["consul", "consul-catalog"]),
        (["help", "acc"], ["accept"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["etcd", "acc"], ["accept"]),
        (["-watch=false", "-onet"], ["-onetime"]),
        (["-watch", "=", "false", "-onet"], ["-onetime"]),
    ],
)
def test_values_are_completed(complete, words, values):
    assert names(complete(*words)) == values


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_value_after_an_equals_sign_is_offered_as_the_whole_word(complete, shell):
    assert names(complete("-backend=mem", shell=shell)) == ["-backend=memory"]


@pytest.mark.parametrize(("flag", "kind"), [("-confdir", "dir"), ("-state-dir", "dir"), ("-config-file", "file")])
def test_files_and_folders_are_left_to_the_shell(complete, flag, kind):
    assert [one for one, _ in complete(flag, "")] == [kind]
    assert [one for one, _ in complete("accept", "web", flag, "")] == [kind]


def test_resources_of_the_confdir_are_completed(complete, tmp_path, monkeypatch):
    (tmp_path / "conf.d" / "sub").mkdir(parents=True)
    for name in ("web.toml", "worker.toml", "sub/web.toml", "api.toml", "web.bak"):
        (tmp_path / "conf.d" / name).write_text("")
    assert names(complete("-confdir", str(tmp_path), "accept", "w")) == ["web", "worker"]
    assert names(complete("accept", "-confdir", str(tmp_path), "sub")) == ["sub/web"]
    monkeypatch.setenv("CONFPY_CONFDIR", str(tmp_path))
    assert names(complete("accept", "a")) == ["api"]
    assert names(complete("-confdir", str(tmp_path / "gone"), "accept", "")) == []


def test_a_flag_that_was_given_is_offered_again_only_if_it_may_be_repeated(complete):
    assert names(complete("-backend", "env", "-backen")) == []
    assert names(complete("-node", "a", "-node")) == ["-node"]
    assert confd.SHORT == {"n": "node"}
    assert names(complete("-n", "a", "-onet")) == ["-onetime"]


def test_a_start_that_completes_nothing_does_not_load_it():
    code = "import sys, confpy.cli as c; c.main(['-version']); print([m for m in sys.modules if 'completion' in m])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["tcsh", "", "Bash"])
def test_a_shell_without_completion_is_named(shell):
    done = subprocess.run(
        [sys.executable, "-m", "confpy", "completion", shell], check=False, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "bash, zsh, fish" in done.stderr or "unexpected argument" in done.stderr


def test_an_instruction_that_click_does_not_know_is_an_exit_code_and_no_run():
    env = {**os.environ, COMPLETE: "nonsense"}
    done = subprocess.run([sys.executable, "-m", "confpy"], env=env, check=False, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
