"""When ``conf.d`` is read, and what is logged of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from confpy.agent.core import Core
from confpy.agent.reminders import Reminders
from confpy.clock import NEVER, Backoff, Damping
from confpy.config.resource import Loaded
from confpy.errors import ConfpyError, UsageError
from confpy.events import LogEvent
from confpy.messages import Load

MISSING_INTERVAL = 60.0
"""Seconds from one line that says that there are no resources yet to the next."""
INVALID = "invalid"
EDIT_DELAY = 0.2
"""Seconds of quiet after which edited resources and templates are read."""


class Loading:
    """The readings of ``conf.d``."""

    def __init__(self, core: Core) -> None:
        self._config = core.config
        self._step = core.step
        self._end = core.end
        self.is_done = False
        """Resources are known, even if there are none."""
        self.invalid: Mapping[str, ConfpyError] = {}
        """Resource → why its file is invalid; what belongs to no resource has an empty name."""
        self.invalid_since = 0.0
        """Monotonic time since which there are any."""
        self._is_pending = False
        """``Loaded`` is yet to come."""
        self._edited_at = NEVER
        """When what was edited is read."""
        self._load_at = NEVER
        self._missing_at = 0.0
        """When it may be logged again that there are no resources."""
        self._notes: Mapping[object, LogEvent] = {}
        """Of the last reading."""
        self._reminders = Reminders()
        self._backoff = Backoff(core.random, base=1.0, cap=30.0)
        self._damping = Damping()

    def load(self) -> None:
        self._is_pending = True
        self._step.do(Load())

    def load_if_due(self) -> None:
        if self.invalid and (repeated := self._reminders.is_due(INVALID, self._step.now)):
            for error in self.invalid.values():
                self._step.log("error", "resource.invalid", **error.fields(), repeated=repeated)
        if self._step.now >= self._load_at:
            self._load_at = NEVER
            self.load()

    def note_edit(self, delay: float = EDIT_DELAY) -> None:
        """Read what was edited after so many seconds, if no other edit follows."""
        self._edited_at = self._step.now + delay

    def is_edit_due(self) -> bool:
        return self._step.now >= self._edited_at

    def load_edit(self) -> None:
        """Read again what was edited."""
        self._edited_at = NEVER
        if self.is_done:
            self.load()

    @property
    def is_changing(self) -> bool:
        """Whether another configuration is about to be read: a target may belong to no resource in it."""
        return self._is_pending or self._edited_at < NEVER

    def next_at(self) -> float:
        """Return the monotonic time of the next reading."""
        repeat_at = self._reminders.next_at(INVALID) if self.invalid else NEVER
        return min(self._load_at, self._edited_at, repeat_at)

    def take(self, loaded: Loaded) -> bool:
        """Take a reading; says whether its resources are adopted."""
        self._is_pending = False
        is_early = not loaded.resources and self._end.waits_for_resources and not self.is_done
        reasons = tuple(error.identity for error in (*loaded.all_errors, *loaded.warnings))
        if not is_early or self._damping.admits(reasons, self._backoff.attempts + 1, self._step.now):
            self._log(loaded)
        if not (self.is_done and not loaded.found):
            self._note_invalid(loaded)
        is_empty = not loaded.resources and not loaded.all_errors
        if is_empty:
            self._log_missing(loaded)
        if is_early:
            moment = self._step.now + self._backoff.wait()
            self._load_at = min(moment, self._missing_at) if is_empty else moment
            return False
        if self.is_done and not loaded.found:
            return False
        for error in loaded.all_errors:
            self._end.add(error)
        self._end.note_invalid(loaded.errors)
        if is_empty and self._end.waits_for_resources:
            self._load_at = self._missing_at
        self.is_done = True
        return True

    def _note_invalid(self, loaded: Loaded) -> None:
        if not self.invalid:
            self.invalid_since = self._step.now
        self._reminders.begin(INVALID, self._step.now)
        others = loaded.other_errors
        self.invalid = {**({"": others[0]} if others else {}), **loaded.errors}

    def _log(self, loaded: Loaded) -> None:
        notes: dict[object, LogEvent] = {(note.event, *note.fields.items()): note for note in loaded.notes}
        self._step.actions += [note for key, note in notes.items() if key not in self._notes]
        self._notes = notes
        for warning in loaded.warnings:
            self._step.log("warning", "resource.warning", **warning.fields())
        for error in loaded.all_errors:
            self._step.log("error", "resource.invalid", **error.fields())

    def _log_missing(self, loaded: Loaded) -> None:
        where = self._config.confdir
        what = f"no resource in {where}/conf.d" if loaded.found else f"there is no {where}/conf.d"
        if self._end.waits_for_resources:
            if self._step.now >= self._missing_at:
                self._missing_at = self._step.now + MISSING_INTERVAL
                self._step.log("warning", "resources.missing", error=what, did=f"waits for {where}/conf.d/*.toml")
        elif not self._config.allow_empty:
            error = UsageError(what, hint="name another with -confdir, or allow it with -allow-empty", file=where)
            self._end.add(error)
            self._step.log("error", "resources.missing", **error.fields())
