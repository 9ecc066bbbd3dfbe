"""What every test may rely on: a clean environment, the servers, and that no thread is left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.run_as_user import no_mounts
from tests.waiting import wait_until

pytest_plugins = ["tests.e2e.folders", "tests.servers.fixtures", "tests.summary"]

PURE = tuple(Path(__file__).parent / folder for folder in ("unit", "sim"))
"""Where tests start no servers, so that every thread is theirs."""

SETTINGS = ("CONFPY_", "CONFD_", "ETCDCTL_", "CONSUL_", "VAULT_")
OTHERS = ("CACHE_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "REQUESTS_CA_BUNDLE", "NETRC")
"""Variables of the one who runs the tests that confpy or its libraries would take for theirs."""
STATE = TemporaryDirectory(prefix="confpy-tests-")


def pytest_configure() -> None:
    for name in list(os.environ):
        about_settings = name.startswith(SETTINGS) and not name.startswith("CONFPY_TEST_")
        if about_settings or name in OTHERS or name.lower().endswith("_proxy"):
            del os.environ[name]
    # Unless a test says otherwise, state is stored where no other confpy has it.
    os.environ["CONFPY_STATE_DIR"] = STATE.name
    # And so are control sockets; their paths have 107 bytes at most.
    os.environ["RUNTIME_DIRECTORY"] = os.path.join(STATE.name, "run")
    # Servers live in sbin, which the PATH of a user who is not root may lack.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def pytest_report_header() -> str | None:
    """Say at the start what the machine does not allow, and what comes of it."""
    refusal = no_mounts()
    then = "tests that need them fail (CI)" if os.environ.get("CI") else "tests that need them are skipped"
    return f"{refusal}: {then}" if refusal else None


def pytest_unconfigure() -> None:
    STATE.cleanup()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured and counted: how long confpy took to recover, and how often it was killed."""
    written: dict[str, list[tuple[Any, ...]]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties if report.when == "call" else ():
            written.setdefault(name, []).append(tuple(value))
    if rows := written.get("recovered"):
        terminalreporter.section("time to recovery")
        for fault, store, seconds in sorted(rows):
            terminalreporter.line(f"{fault:<28}{store:<10}{seconds:>6.2f} s")
    if rows := written.get("installed"):
        terminalreporter.section("from nothing to a file that follows a key")
        for way, seconds in sorted(rows):
            terminalreporter.line(f"{way:<28}{seconds:>6.1f} s")
    if rows := written.get("crash points"):
        terminalreporter.section("crash points: system calls after which confpy was killed, and started again")
        for story, points in sorted(rows):
            terminalreporter.line(f"{story:<48}{points:>6}")
        terminalreporter.line(f"{'all':<48}{sum(points for _, points in rows):>6}")


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage.py out of child processes, for a test that looks at all that they load, get or write."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def _no_thread_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a pure test that leaves a thread running."""
    before = set(threading.enumerate())
    yield
    if any(folder in request.path.parents for folder in PURE):
        wait_until(
            lambda: not _alive(before),
            seconds=2,
            what=f"the threads of the test have ended: {[thread.name for thread in _alive(before)]}",
        )


def _alive(before: set[threading.Thread]) -> set[threading.Thread]:
    return set(threading.enumerate()) - before
