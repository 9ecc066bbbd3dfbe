"""Completion in real shells: typed words and a tab on a terminal, as people do it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import in_path
from tests.servers.program import find


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path) -> None:
        self.output = ""
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.chdir(folder)
            os.execvpe(command[0], command, env)

    def types(self, text: str, until: str) -> str:
        """Type it, and return what the terminal shows from then on, until it shows ``until``."""
        self.output = ""
        os.write(self._terminal, text.encode())
        end = time.monotonic() + 30
        while until not in self.output:
            left = end - time.monotonic()
            assert left > 0, f"no {until!r} in {self.output!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self.output += os.read(self._terminal, 65536).decode(errors="replace")
        return self.output

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    (tmp_path / "confd" / "conf.d").mkdir(parents=True)
    (tmp_path / "confd" / "conf.d" / "website.toml").write_text("")
    return tmp_path


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, confdir: Path) -> Iterator[Terminal]:
    env = in_path(confdir, {"TERM": "dumb", "PS1": "$ ", "HOME": str(confdir), "ZDOTDIR": str(confdir)})
    setup = "eval \"$(confpy completion SHELL)\"; echo re''ady\n".replace("SHELL", request.param)
    quiet = {
        "bash": ["--noprofile", "--norc", "-i"],
        "zsh": ["-f", "-i", "-o", "no_list_beep"],
    }[request.param]
    made = Terminal([find(request.param), *quiet], env, confdir)
    if request.param == "zsh":
        setup = "autoload -Uz compinit; compinit -u -D; " + setup
    made.types(setup, "ready\r\n")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("confpy -onet\t", "-onetime"),
        ("confpy --onet\t", "--onetime"),
        ("confpy acc\t", "accept"),
        ("confpy -on-shrink conf\t", "confirm"),
        ("confpy -on-shrink=conf\t", "-on-shrink=confirm"),
        ("confpy -confdir con\t", "confd/"),
        ("confpy -confdir confd accept web\t", "website"),
    ],
)
def test_a_tab_completes(terminal: Terminal, typed: str, shown: str) -> None:
    terminal.types(typed, shown)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("confpy -onet", "-onetime"),
        ("confpy --onet", "--onetime"),
        ("confpy acc", "accept"),
        ("confpy -on-shrink conf", "confirm"),
        ("confpy -on-shrink=conf", "-on-shrink=confirm"),
        ("confpy -confdir con", "confd/"),
        ("confpy -confdir confd accept web", "website"),
    ],
)
def test_fish_offers(confdir: Path, typed: str, offered: str) -> None:
    script = f"confpy completion fish | source; complete --do-complete '{typed}'"
    env = in_path(confdir, {"HOME": str(confdir)})
    done = subprocess.run(
        [find("fish"), "--no-config", "-c", script],
        env=env, cwd=confdir, check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert offered in [line.partition("\t")[0] for line in done.stdout.splitlines()], done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_clicks_own_variable_gives_the_same_script(confdir: Path, shell: str) -> None:
    env = in_path(confdir)
    named = subprocess.run(["confpy", "completion", shell], env=env, check=True, capture_output=True, timeout=60)
    asked = subprocess.run(
        ["confpy"], env={**env, "_CONFPY_COMPLETE": f"{shell}_source"}, check=True, capture_output=True, timeout=60
    )
    assert asked.stdout == named.stdout
    assert b"_CONFPY_COMPLETE" in named.stdout
