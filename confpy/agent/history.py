"""What the history is told of deliveries and reloads, and when it is written. Pure.

It is written after the reload has been started, some deliveries together: whoever waits for a change waits for nothing
of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from confpy.agent.core import Core
from confpy.candidates import Candidate, Group, Report
from confpy.clock import NEVER
from confpy.events import first_names
from confpy.history.records import MOST_KEYS, ROLLBACK, HistoryEntry, ReloadEnd, WriteHistory
from confpy.messages import Delivered, Reloaded, Restored

DELAY = 0.3
"""Seconds from a delivery to its record: most reloads have ended by then, and need no line of their own."""
INTERVAL = 3.0
"""Seconds from one record to the next, at least."""
MOST_BYTES = 8 << 20
"""Bytes of previous contents that wait to be written, at most."""
MOST_ENTRIES = 256
"""Entries that wait, at most: a storm of changes may deliver thousands a second."""


class DeliveryHistory:
    """Collects what the history does not have yet."""

    def __init__(self, core: Core) -> None:
        self.is_kept = core.config.history
        self.writes_at = NEVER
        """Monotonic time of the next record."""
        self._config = core.config
        self._step = core.step
        self._resources = core.resources
        self._entries: list[HistoryEntry] = []
        self._reloads: list[ReloadEnd] = []
        self._written_at = -NEVER
        self._bytes = 0
        self._owing: dict[str, tuple[str, str]] = {}
        """Resource → its delivery whose reload has not succeeded yet, and how the last run of it ended."""
        self._unconfirmed: dict[str, tuple[str, ...]] = {}
        """Resource → its deliveries since its reload last succeeded, where a reload may take them back."""
        self._undoes: dict[str, tuple[str, ...]] = {}
        """Resource → the deliveries that the one under way takes back."""

    def note(self, delivered: Delivered, groups: Sequence[Group]) -> None:
        """Take the reports of a batch of these groups, before its resources are told of them."""
        changed = {report.resource: report for report in delivered.reports if report.outcome == "changed"}
        if not changed:
            return
        batch = f"{int(self._step.wall * 1000):x}-{delivered.batch:x}"
        for number, group in enumerate(groups):
            for candidate in group.candidates:
                report = changed.get(candidate.resource.name)
                if report is not None:
                    self._note(f"{batch}-{number:x}", group, candidate, report)

    def _note(self, delivery: str, group: Group, candidate: Candidate, report: Report) -> None:
        resource, config = candidate.resource, self._config
        state = self._resources.states.get(resource.name)
        keys = state.changes_in_flight if state is not None else ()
        undoes = self._undoes.pop(resource.name, ()) if self._undoes else ()
        place = self._step.wall, delivery, group.id
        checks = not config.sync_only
        entry = entry_of(place, candidate, report, keys, checks=checks, reloads=config.reloads, undoes=undoes)
        self._add(entry)
        if entry.owes:
            self._owing[resource.name] = delivery, ""
            if resource.on_reload_failure == "rollback":
                self._unconfirmed[resource.name] = (*self._unconfirmed.get(resource.name, ()), delivery)

    def _add(self, entry: HistoryEntry) -> None:
        self._entries.append(entry)
        if entry.previous is not None and entry.previous.content is not None:
            self._bytes += len(entry.previous.content)
        self._schedule()

    def _schedule(self) -> None:
        is_full = self._bytes > MOST_BYTES or len(self._entries) >= MOST_ENTRIES
        soon = self._step.now if is_full else max(self._step.now + DELAY, self._written_at + INTERVAL)
        self.writes_at = min(self.writes_at, soon)

    def note_undo(self, undoes: tuple[str, ...], resources: Collection[str]) -> None:
        """Take it that the next deliveries of these take back earlier ones."""
        for name in resources:
            self._undoes[name] = undoes

    def note_reload(self, reloaded: Reloaded, names: Collection[str]) -> None:
        """Take how the reload of these ended."""
        error = reloaded.error.message if reloaded.error is not None else ""
        ended = [name for name in names if name in self._owing and self._owing[name][1] != (error or "succeeded")]
        if not ended:
            return
        of = tuple((self._owing[name][0], name) for name in ended)
        for name in ended:
            if error:
                self._owing[name] = self._owing[name][0], error
            else:
                del self._owing[name]
                self._unconfirmed.pop(name, None)
        self._reloads.append(ReloadEnd(of, error, round(reloaded.took, 4), reloaded.avoided is not None))
        self._schedule()

    def note_rollback(self, restored: Restored) -> None:
        """Take it that previous files are back since a reload failed: what was delivered since is not undone again."""
        for report in restored.reports:
            name, state = report.resource, self._resources.states.get(report.resource)
            if report.error is not None or state is None or (undoes := self._unconfirmed.pop(name, ())) == ():
                continue
            self._owing.pop(name, None)
            delivery, target = f"{undoes[-1]}-back", state.resource.dest
            self._add(HistoryEntry(self._step.wall, delivery, "", name, target, None, "", ROLLBACK, undoes=undoes))

    def take(self, *, at_end: bool = False) -> WriteHistory:
        """Return what is to be written, which is no longer waited for."""
        written = WriteHistory(tuple(self._entries), tuple(self._reloads), at_end)
        self._entries, self._reloads, self._bytes = [], [], 0
        self.writes_at, self._written_at = NEVER, self._step.now
        return written

    def write_if_due(self, *, at_end: bool = False) -> Iterator[WriteHistory]:
        """Yield what is to be written now."""
        if self._step.now >= self.writes_at or (at_end and self.writes_at < NEVER):
            yield self.take(at_end=at_end)


def entry_of(
    place: tuple[float, str, str],
    candidate: Candidate,
    report: Report,
    keys: Collection[str],
    *,
    checks: bool,
    reloads: bool,
    undoes: tuple[str, ...] = (),
) -> HistoryEntry:
    """Return the entry of a target that has changed.

    ``place``: its time, delivery and group; ``keys``: those that had changed; ``checks``, ``reloads``: whether confpy
    runs them; ``undoes``: the deliveries that it takes back.
    """
    resource = candidate.resource
    named = first_names(keys, MOST_KEYS)
    is_checked = resource.output_format is not None or (checks and resource.check_cmd is not None)
    return HistoryEntry(
        *place,
        resource.name,
        resource.dest,
        report.previous,
        report.known.digest.hex() if report.known is not None and not resource.sensitive else "",
        candidate.trigger,
        candidate.revision,
        tuple(named),
        len(keys) - len(named),
        "passed" if is_checked else "",
        round(report.took, 4),
        resource.reload_cmd is not None and reloads,
        undoes=undoes,
        keeps=resource.keeps_content,
    )
