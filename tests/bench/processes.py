"""What a process costs, as the kernel counts it: wall and processor time, memory, wake-ups."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PAGE = os.sysconf("SC_PAGE_SIZE")


class TooSlowError(Exception):
    """What was to be measured did not end in the time it was given."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"did not finish in {limit:g} s")
        self.limit = limit


class BrokenError(Exception):
    """What was to be measured ended in an error, or did something else than it was to do."""


def cpu(pid: int) -> float:
    """Return the seconds of processor time of a process, those of its ended threads included, to the nanosecond.

    The clock of another process has a number made from its pid: see CPUCLOCK_SCHED in the kernel's posix-timers.h.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid: int) -> float:
    """Return the resident memory in MB."""
    return resident(pid) / 1e6


def resident(pid: int) -> int:
    """Return the resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def proportional(pid: int) -> int:
    """Return the memory in bytes, of which what several processes share counts in parts."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Pss"].split()[0]) * 1024


def wakeups(pid: int) -> int:
    """Return how often the threads that run now have waited for something: each time, something woke them."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            total += int(fields["voluntary_ctxt_switches"])
    return total


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@dataclass(frozen=True, slots=True)
class Run:
    """What a process cost that has ended: seconds, seconds of processor time (its children's too), bytes at most."""

    wall: float
    cpu: float
    memory: int


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path, *, limit: float = 60) -> Run:
    """Run a command to its end; raises ``TooSlowError``, and ``BrokenError`` with what it said last."""
    said = folder / "said"
    with said.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        in_time = _ended(process.pid, limit)
        took = time.perf_counter() - began
        if not in_time:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if not in_time:
        raise TooSlowError(limit)
    if process.returncode:
        end = said.read_text(errors="replace")[-500:]
        raise BrokenError(f"{Path(command[0]).name} ended with {process.returncode}: {end}")
    return Run(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _ended(pid: int, limit: float) -> bool:
    """Whether the process ends within ``limit`` seconds. It is not reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(limit * 1000))
    finally:
        os.close(descriptor)


class Running:
    """A process that runs on until the end of the block; what it says goes to ``folder/log``."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as output:
            self.began = time.perf_counter()
            self.process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> None:
        """Raise ``BrokenError`` where it has ended."""
        if self.process.poll() is not None:
            raise BrokenError(f"ended with {self.process.returncode}: {self.log.read_text(errors='replace')[-500:]}")

    def wait(self, done: Callable[[], bool], limit: float) -> float:
        """Return the seconds since its start at which ``done``; asked as often as costs little of the time so far."""
        while True:
            took = time.perf_counter() - self.began
            if done():
                return took
            self.alive()
            if took > limit:
                raise TooSlowError(limit)
            time.sleep(min(max(0.005, took / 50), 0.1))

    def rest(self, *, limit: float = 4) -> None:
        """Return when it has nothing to do: under 1 ms of processor time in a quarter of a second."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            used = cpu(self.pid)
            time.sleep(0.25)
            if cpu(self.pid) - used < 0.001:
                return

    def stop(self) -> None:
        """End it; KILL it after 10 s. Any number of times."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
