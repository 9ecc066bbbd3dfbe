"""confpy as its users run it: a process with flags, whose log is read as JSON."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
Event = dict[str, Any]


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "confpy", "-log-format", "json", *flags]


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return confpy's environment: that of the tests, its cache and its state in the test's folder, and ``more``."""
    own = {
        "CONFPY_CACHE_DIR": str(folder / "cache"),
        "CONFPY_STATE_DIR": str(folder / "state"),
        "RUNTIME_DIRECTORY": str(folder / "run"),
    }
    return {**os.environ, "PYTHONPATH": str(ROOT), **own, **(more or {})}


def in_path(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a shell gets that is to find confpy: ``environment``, with the command in ``folder/bin``."""
    path = folder / "bin" / "confpy"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m confpy "$@"\n')
    path.chmod(0o755)
    return environment(folder, {"PATH": f"{path.parent}:{os.environ['PATH']}", **(more or {})})


def read_events(log: str) -> list[Event]:
    """Return the lines of a log; a line that is no event (a traceback) fails."""
    try:
        return [json.loads(line) for line in log.splitlines()]
    except ValueError:
        raise AssertionError(f"not a log of events:\n{log}") from None


@dataclass(frozen=True)
class Ended:
    """What a one-shot run left: its exit code, and its log."""

    code: int
    log: str
    output: str

    @property
    def events(self) -> list[Event]:
        return read_events(self.log)

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def find(self, event: str, **fields: object) -> Event:
        """Return the one event that is called so and has these fields."""
        found = [one for one in self.events if matches(one, event, fields)]
        assert len(found) == 1, f"{len(found)} events {event} {fields} in {self.events}"
        return found[0]


def run_once(*flags: str, folder: Path, more: Mapping[str, str] | None = None, user: tuple[str, ...] = ()) -> Ended:
    """Run confpy to its end; ``user`` is a command that runs another one as somebody else."""
    ended = subprocess.run(
        [*user, *command("-onetime", *flags)],
        cwd=folder, env=environment(folder, more), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    return Ended(ended.returncode, ended.stderr, ended.stdout)


def matches(one: Event, event: str, fields: Mapping[str, object]) -> bool:
    return one["event"] == event and all(one.get(name) == value for name, value in fields.items())


class Confpy:
    """A confpy that runs on. ``events`` grows as it speaks."""

    others_write = False
    """Its programs write to its stderr as well."""

    def __init__(
        self, *flags: str, folder: Path, more: Mapping[str, str] | None = None, by: tuple[str, ...] = ()
    ) -> None:
        """``by``: a command that runs another one, which confpy is run by."""
        self.events: list[Event] = []
        self._heard = 0
        self._strange: list[str] = []
        self.process = subprocess.Popen(
            [*by, *command(*flags)],
            cwd=folder, env=environment(folder, more), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, name="confpy log")
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as log:
            for line in log:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self._strange.append(line)

    def says(self, event: str, *, seconds: float = 20.0, **fields: object) -> Event:
        """Return the next event that is called so and has these fields, counted from the one returned last."""

        def find() -> Event | None:
            for number in range(self._heard, len(self.events)):
                if matches(self.events[number], event, fields):
                    self._heard = number + 1
                    return self.events[number]
            assert self.process.poll() is None or self._listener.is_alive(), f"confpy ended: {self.events[-3:]}"
            return None

        return wait_until(find, seconds=seconds, what=f"{event} {fields} in {self.events[-3:]}")

    def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._listener.join()
        assert self.others_write or not self._strange, "not events:\n" + "".join(self._strange)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
