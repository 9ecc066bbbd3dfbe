"""A machine without systemd on which services run as their unit files say: the files' own commands, in their order.

What systemd.service(5) and systemd.unit(5) say of ``Type=simple``, ``Restart=always``, ``BindsTo=``, ``PartOf=`` and
``Wants=`` is done. Units that it has no file of, such as ``docker.service``, are taken to run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests import unit_files
from tests.unit_files import Settings
from tests.waiting import wait_until

KNOWN = {
    "BindsTo", "After", "Requires", "Wants", "PartOf", "Description", "Environment", "EnvironmentFile", "ExecStart",
    "ExecStartPost", "ExecStartPre", "ExecStop", "ExecStopPost", "KillMode", "Restart", "RestartSec",
    "TimeoutStartSec", "WantedBy",
}  # fmt: skip
"""The settings that a unit may have here: one that is not obeyed must not go unnoticed."""


class Machine:
    """Unit files by name (``web@.service``), what files there are, and the variables that all services have."""

    def __init__(
        self,
        units: Mapping[str, str],
        files: Mapping[str, str],
        environment: Mapping[str, str],
        journal: Path,
        programs: Mapping[str, str],
    ) -> None:
        """``programs``: path in a unit → path here."""
        self.files = dict(files)
        self.environment = environment
        self.journal = journal
        self.programs = programs
        """What the commands print."""
        self.commands: list[tuple[str, str, int]] = []
        """What has been run: unit, setting, exit code."""
        self.failures: list[str] = []
        """Commands that failed and were not allowed to."""
        self._units = {name: unit_files.read(text) for name, text in units.items()}
        self._enabled: set[str] = set()
        self._services: dict[str, Service] = {}
        self._lock = threading.RLock()

    def settings(self, name: str, section: str) -> Settings:
        """Return the settings of a unit, with its specifiers replaced where they name units."""
        template = name if name in self._units else f"{name.partition('@')[0]}@.service"
        return self._units[template].get(section, [])

    def related(self, name: str, setting: str, section: str = "Unit") -> list[str]:
        """Return the units of this machine that a setting names."""
        known = unit_files.specifiers(name)
        lines = unit_files.values(self.settings(name, section), setting)
        words = [unit_files.specify(word, known) for line in lines for word in line.split()]
        return [word for word in words if word in self._units or f"{word.partition('@')[0]}@.service" in self._units]

    def enable(self, name: str) -> None:
        """``systemctl enable``: units of its ``WantedBy=`` start it."""
        self._enabled.add(name)

    def start(self, name: str) -> None:
        """``systemctl start``: return when its commands up to ``ExecStartPost=`` have run."""
        with self._lock:
            if (service := self._services.get(name)) is None or service.ended.is_set():
                for other in (*self.related(name, "Requires"), *self.related(name, "BindsTo")):
                    self.start(other)
                service = self._services[name] = Service(self, name)
                service.start()
        assert service.started.wait(60), f"{name} does not start"

    def start_wanted(self, name: str) -> None:
        """Start what wants to run when this unit does."""
        for other in sorted(self._enabled):
            if name in self.related(other, "WantedBy", "Install"):
                self.start(other)

    def stop(self, name: str) -> None:
        """``systemctl stop``: return when its commands up to ``ExecStopPost=`` have run."""
        self.stop_dependents(name)
        self._services[name].stop()

    def stop_dependents(self, name: str, *, crashed: bool = False) -> None:
        """Stop what is bound to this unit, or is a part of it; of a unit that crashed, what is bound to it."""
        settings = ("BindsTo",) if crashed else ("BindsTo", "PartOf")
        for other in list(self._services.values()):
            if any(name in self.related(other.name, setting) for setting in settings):
                other.stop()

    def process(self, name: str) -> int:
        """Return the main process of a unit that runs."""
        main = self._services[name].main
        assert main is not None
        return main.pid

    def lose_power(self) -> None:
        """End everything at once, and run nothing more."""
        for service in self._services.values():
            service.lose_power()
        for service in self._services.values():
            service.join()
        self._services.clear()

    def shut_down(self) -> None:
        """Stop all units, those that started last first."""
        for name in reversed(list(self._services)):
            self.stop(name)


class Service(threading.Thread):
    """One unit on its thread, from its start until it is stopped."""

    def __init__(self, machine: Machine, name: str) -> None:
        super().__init__(name=name)
        self.main: subprocess.Popen[bytes] | None = None
        self.started = threading.Event()
        self.ended = threading.Event()
        self._machine = machine
        self._stopping = threading.Event()
        self._powerless = False
        self._settings = machine.settings(name, "Service")
        unknown = {setting for part in ("Unit", "Service", "Install") for setting, _ in machine.settings(name, part)}
        assert unknown <= KNOWN, f"{name}: {unknown - KNOWN}"
        self._specifiers = unit_files.specifiers(name)

    def run(self) -> None:
        restarts = unit_files.value(self._settings, "Restart", "no") == "always"
        pause = float(unit_files.value(self._settings, "RestartSec", "0.1"))
        while True:
            self._once()
            self.started.set()
            if not restarts or self._stopping.wait(pause):
                break
        self.ended.set()

    def _once(self) -> None:
        if self._run_all("ExecStartPre"):
            self.main = self._spawn("ExecStart", unit_files.value(self._settings, "ExecStart", ""))
            succeeded = self._run_all("ExecStartPost")
            self.started.set()
            if succeeded:
                self._machine.start_wanted(self.name)
            while succeeded and self.main.poll() is None and not self._stopping.wait(0.02):
                pass
            if not self._stopping.is_set():
                self._machine.stop_dependents(self.name, crashed=True)
            if succeeded:
                self._run_all("ExecStop")
            self._end_processes(self.main)
            self.main = None
        self._run_all("ExecStopPost")

    def _end_processes(self, main: subprocess.Popen[bytes]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(main.pid, signal.SIGKILL if self._powerless else number)
            with suppress(subprocess.TimeoutExpired):
                main.wait(10)

    def _run_all(self, setting: str) -> bool:
        """Run the commands of a setting one after another; returns whether those that must succeed have."""
        for line in unit_files.values(self._settings, setting):
            if self._powerless:
                return False
            code = self._spawn(setting, line).wait(60)
            self._machine.commands.append((self.name, setting, code))
            if code and not line.startswith("-") and not self._powerless:
                self._machine.failures.append(f"{self.name}: {setting}={line}: {code}")
                return False
        return True

    def _spawn(self, setting: str, line: str) -> subprocess.Popen[bytes]:
        variables = {**self._machine.environment, **unit_files.environment(self._settings, self._specifiers)}
        for path in unit_files.values(self._settings, "EnvironmentFile"):
            variables |= unit_files.environment_file(self._machine.files[path])
        if self.main is not None and setting.startswith("ExecStop"):
            variables["MAINPID"] = str(self.main.pid)
        words = unit_files.command(line, self._specifiers, variables).words
        words = (self._machine.programs.get(words[0], words[0]), *words[1:])
        with self._machine.journal.open("ab") as journal:
            return subprocess.Popen(
                words, env=variables, stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True
            )

    def stop(self) -> None:
        """Stop it; return when it has ended."""
        self._stopping.set()
        wait_until(self.ended.is_set, seconds=60, what=f"{self.name} stops")
        self.join()

    def lose_power(self) -> None:
        self._powerless = True
        self._stopping.set()
        if self.main is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.main.pid, signal.SIGKILL)
