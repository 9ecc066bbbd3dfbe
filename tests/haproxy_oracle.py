"""What a plan has made of a running HAProxy, beside a second HAProxy that was started from the new files.

`python -m tests.haproxy_oracle [--changes 2000] [--seed 1] [PROGRAM]…` runs it for long, `tests/e2e` a little of it.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from confpy.frozen import replace
from confpy.haproxy.answers import is_accepted, read_help, read_info, read_running
from confpy.haproxy.compare import compare
from confpy.haproxy.steps import questions, steps
from confpy.haproxy.values import Difference, Left, Plan, Process, ReloadNeeded, Running
from confpy.haproxy.verify import unequal
from tests.haproxy_shapes import MAP, SHAPES, begin, change
from tests.servers.haproxy import haproxies
from tests.servers.program import find

COMPARED = ("act", "bck", "slim", "qlimit", "check_rise", "check_fall", "agent_rise", "agent_fall", "cookie")
"""Columns of `show stat`, beside the state of the servers."""


class Proxy:
    """A HAProxy in the foreground, without a master."""

    def __init__(self, program: str, folder: Path, files: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._socket = str(folder / "admin.sock")
        self.files = {str(folder / name): self._placed(text).encode("latin-1") for name, text in files.items()}
        for path, content in self.files.items():
            Path(path).write_bytes(content)
        arguments = [word for path in self.files if not path.endswith(MAP) for word in ("-f", path)]
        Path(self._socket).unlink(missing_ok=True)
        with (folder / "log").open("wb") as log:
            self._program = subprocess.Popen([find(program), "-db", *arguments], stdout=log, stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                self.process: Process = read_info(self.ask("show info"))
                break
            except OSError:
                if self._program.poll() is not None or time.monotonic() > until:
                    raise AssertionError((folder / "log").read_text() or "HAProxy has not started") from None
                time.sleep(0.003)
        if self.process.version >= (3, 2):
            self.process = replace(self.process, words=read_help(self.ask("add server help")))

    def placed(self, files: Mapping[str, str]) -> dict[str, bytes]:
        """Return files as this process would read them."""
        return {str(self.folder / name): self._placed(text).encode("latin-1") for name, text in files.items()}

    def _placed(self, text: str) -> str:
        return text.replace("@SOCKET@", str(self.folder / "admin.sock")).replace("@FOLDER@", str(self.folder))

    def ask(self, text: str, payload: str = "") -> str:
        """Return the answer to one command."""
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(self._socket)
            talk.sendall(f"{text} <<\n{payload}\n\n".encode() if payload else f"{text}\n".encode())
            talk.shutdown(socket.SHUT_WR)
            answer = b""
            while part := talk.recv(65536):
                answer += part
        return answer.decode("latin-1").strip("\n")

    def stop(self) -> None:
        self._program.send_signal(signal.SIGKILL)
        self._program.wait()

    # --- a change ----------------------------------------------------------------------------------------------------

    def running(self, difference: Difference) -> Running:
        """Ask for what a difference touches."""
        known = Running()
        while asked := questions(difference, known):
            known = read_running({one: self.ask(one) for one in asked}, known)
        return known

    def carry_out(self, plan: Plan) -> list[Left]:
        """Send the commands of a plan; fails for an answer that it does not know. Returns what stays."""
        left = list(plan.left)
        for one in plan.commands:
            answer = self.ask(one.text, one.payload)
            if one.leaves is not None and is_accepted(answer, one.tolerates):
                left.append(one.leaves)
            else:
                assert is_accepted(answer, one.accepts), f"{one.text!r} was answered {answer!r}"
        return left

    def projection(self) -> dict[str, tuple[str, ...]]:
        """Return what is compared of each server."""
        found: dict[str, tuple[str, ...]] = {}
        columns: list[str] = []
        out = set()
        for line in self.ask("show servers state").split("\n")[1:]:
            values = line.lstrip("# ").split(" ")
            if not columns:
                columns = values
                continue
            row = dict(zip(columns, values, strict=False))
            admin, check, agent = (int(row[f"srv_{name}_state"]) for name in ("admin", "check", "agent"))
            name = f"{row['be_name']}/{row['srv_name']}"
            if admin & 1:
                out.add(name)
            state = (row["srv_addr"], row["srv_port"], row["srv_uweight"], admin & 0b1001, check & 4, agent & 4)
            found[name] = tuple(map(str, state))
        columns = []
        for line in self.ask("show stat").split("\n"):
            values = line.lstrip("# ").split(",")
            if not columns:
                columns = values
                continue
            row = dict(zip(columns, values, strict=False))
            if (name := f"{row['pxname']}/{row['svname']}") in found:
                found[name] += tuple(
                    [row.get(column, "") for column in COMPARED if column not in {"act", "bck"} or name not in out]
                )
        return found


def is_valid(program: str, folder: Path, text: str) -> bool:
    """Say whether HAProxy takes a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "checked.cfg"
    placed = text.replace("@SOCKET@", str(folder / "s")).replace("@FOLDER@", str(folder))
    file.write_bytes(placed.encode("latin-1"))
    return subprocess.run([find(program), "-c", "-f", str(file)], check=False, capture_output=True).returncode == 0


class Trial:
    """Changes of files: after each, the process that followed it equals one that was started anew."""

    def __init__(self, program: str, folder: Path, files: Mapping[str, str]) -> None:
        self._program, self._folder = program, folder
        self.proxy = Proxy(program, folder / "a", files)
        self.left: dict[str, Left] = {}
        self.planned = self.reloaded = self.commands = 0
        self.reasons: dict[str, int] = {}

    def follow(self, files: Mapping[str, str]) -> None:
        """Follow a change, and compare."""
        new = self.proxy.placed(files)
        fresh = Proxy(self._program, self._folder / "b", files)
        try:
            needed = self._follow(new)
            if needed is not None:
                self.reasons[needed.why] = self.reasons.get(needed.why, 0) + 1
                self.reloaded += 1
                self.proxy.stop()
                self.proxy, self.left = Proxy(self._program, self._folder / "a", files), {}
            else:
                self.planned += 1
                self.proxy.files = new
            self._hold_equal(fresh)
        finally:
            fresh.stop()

    def _follow(self, new: Mapping[str, bytes]) -> ReloadNeeded | None:
        difference = compare(self.proxy.files, new)
        if isinstance(difference, ReloadNeeded):
            return difference
        plan = steps(difference, self.proxy.running(difference), self.proxy.process, tuple(self.left.values()))
        if isinstance(plan, ReloadNeeded):
            return plan
        self.commands += len(plan.commands)
        for one in self.proxy.carry_out(plan):
            self.left[one.path] = one
        # From 3.0 on HAProxy sets an address a moment after it has answered.
        until = time.monotonic() + 5
        while (wrong := unequal(difference, self.proxy.running(difference))) and time.monotonic() < until:
            time.sleep(0.001)
        assert wrong == (), f"{wrong} differs after {[one.text for one in plan.commands]}"
        again_from = compare(self.proxy.files, new, new)
        assert isinstance(again_from, Difference)
        again = steps(again_from, self.proxy.running(difference), self.proxy.process, tuple(self.left.values()))
        assert isinstance(again, Plan)
        # What does not show in the state of servers is sent once more.
        unseen = ("set maxconn", "publish")
        more = [one.text for one in again.commands if one.leaves is None and not one.text.startswith(unseen)]
        assert not more, more
        return None

    def _hold_equal(self, fresh: Proxy) -> None:
        ours, theirs = self.proxy.projection(), fresh.projection()
        more = {name for name in ours.keys() - theirs.keys() if ours[name][3] != "1"}
        assert not more, f"{more} should have gone"
        wrong = {name: (ours.get(name), theirs[name]) for name in theirs if ours.get(name) != theirs[name]}
        assert not wrong, wrong
        self.left = {path: one for path, one in self.left.items() if path not in theirs and path in ours}

    def close(self) -> None:
        self.proxy.stop()


class Changes:
    """Random changes of one form of configuration."""

    def __init__(self, program: str, folder: Path, shape: str, seed: int) -> None:
        self._shape, self._random = shape, Random(f"{shape}-{seed}")
        self._world = begin(self._random)
        self.trial = Trial(program, folder, SHAPES[shape](self._world))

    def step(self) -> None:
        """Change something."""
        self._world = change(self._world, self._random)
        self.trial.follow(SHAPES[self._shape](self._world))


def main() -> None:
    """Run so many changes over all shapes on each program, and say what was planned and what was reloaded."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--changes", type=int, default=2000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("programs", nargs="*", default=[*haproxies().values()])
    given = options.parse_args()
    for program in given.programs:
        trials = []
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            for name in SHAPES:
                changes = Changes(program, Path(folder), name, given.seed)
                trials.append(trial := changes.trial)
                try:
                    for _ in range(-(-given.changes // len(SHAPES))):
                        changes.step()
                finally:
                    trial.close()
                say(f"{name:18} planned {trial.planned:4}, reloaded {trial.reloaded:4}: {trial.reasons}")
        planned, reloaded = sum(one.planned for one in trials), sum(one.reloaded for one in trials)
        version = ".".join(map(str, trials[0].proxy.process.version))
        commands, took = sum(one.commands for one in trials), time.monotonic() - began
        say(
            f"HAProxy {version}: after {planned + reloaded} changes equal; {planned} planned, with {commands} commands;"
        )
        say(f"{reloaded} reloaded; {took:.0f} s\n")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
