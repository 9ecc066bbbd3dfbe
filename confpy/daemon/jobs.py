"""What each action of the agent does: at once, or as a job that answers with a message.

The simulator and the agent's tests run these jobs, too: they bring other ports, and start jobs at simulated times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from confpy.candidates import Own, Report
from confpy.clock import NEVER, Clock
from confpy.config.resource import Loaded
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.errors import ConfpyError, StoreError, TemplateError, UsageError
from confpy.events import LogEvent, abbreviate
from confpy.frozen import NOTHING, define, fields, replace
from confpy.history.records import Answer, FindUndo, HistoryEntry, ReloadEnd, UndoFound, WriteHistory
from confpy.ledger.cached_keys import CachedKeys
from confpy.ledger.history import History
from confpy.ledger.holds import Holds
from confpy.ledger.ledger import Ledger
from confpy.messages import (
    Accepted,
    Action,
    ClearPending,
    Count,
    Deliver,
    Delivered,
    FindTargets,
    Follow,
    FoundTargets,
    Hold,
    Inspect,
    Inspected,
    Kill,
    Listed,
    Load,
    Message,
    Poll,
    Polled,
    Read,
    Recall,
    Recalled,
    Recover,
    Recovered,
    Reject,
    Release,
    Reload,
    Reloaded,
    Remember,
    Resolve,
    Resolved,
    Restore,
    Restored,
    Save,
    Stop,
    Sweep,
    Swept,
    Terminate,
    Unwatch,
    WakeAt,
    Watch,
)
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.sweep import sweep
from confpy.templates.lookup import Lookup

if TYPE_CHECKING:
    from confpy.keys.snapshot import PrefixStatus, Snapshot
    from confpy.reload.runtime_ports import RuntimePorts
    from confpy.system.child import Child


def no_runtime() -> RuntimePorts:
    """Stand for what no resource needs."""
    raise AssertionError("there is no running program to tell")


Job: TypeAlias = Callable[[], Message | None]
Failed: TypeAlias = Callable[[ConfpyError], Message | None]
Start: TypeAlias = Callable[[str, Job, Failed], None]


class ReadsKeys(Protocol):
    """The part of a store that jobs use: as in ``Store``."""

    def read(self, prefixes: Sequence[str], covers: Sequence[str] = ()) -> Snapshot: ...

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None: ...


class FollowsStreams(Protocol):
    """The streams of a store."""

    def open(self, action: Watch) -> None:
        """Follow one to its end; posts ``Opened``, ``Changed`` …, and ``Lost``."""

    def close(self, stream: int) -> None:
        """End one; one that has ended is ignored."""


class Resolves(Protocol):
    """Answers the lookups of templates."""

    def resolve_all(self, lookups: Sequence[Lookup]) -> Iterable[Mapping[Lookup, object]]:
        """Yield the answers, or the errors that stand for them: those that are ready together."""


@define
class Ports:
    """All that jobs touch."""

    disk: Disk
    shell: Shell
    clock: Clock
    store: ReadsKeys
    streams: FollowsStreams
    ledger: Ledger
    cached_keys: CachedKeys
    holds: Holds
    resolver: Resolves
    load: Callable[[], Loaded]
    """Read ``conf.d``."""
    follow: Callable[[tuple[str, ...]], None]
    """Post ``Touched`` when one of these files changes; files of earlier calls are no longer followed."""
    post: Callable[[Message], None]
    start: Start
    """Run a job of this name beside the loop, and post the message that it returns. If it raises an error, post what
    ``Failed`` makes of it."""
    log: Callable[[LogEvent], None]
    guard: AbstractContextManager[object]
    """Keeps jobs apart."""
    answer: Callable[[Answer], None] = lambda _: None
    """Answer a person's request."""
    child: Child | None = None
    """The program to supervise."""
    runtime: Callable[[], RuntimePorts] = no_runtime
    """What running programs are told of changes with; one and the same for the life of the process."""
    mounted: Mapping[str, ReadsKeys] = NOTHING
    """Further stores, by where they are mounted."""


class Jobs:
    """Carries out actions. Called by the main thread only."""

    def __init__(self, ports: Ports, rules: Rules) -> None:
        self._ports = ports
        self._rules = rules
        self._wake_at = NEVER
        self._held: list[Hold] = []
        self._unsaved: Save | None = None
        """The newest keys that no job has saved yet."""
        self._unwritten: deque[WriteHistory] = deque()
        """What no job has written to the history yet."""
        self._does: dict[type[Action], Callable[[Any], None]] = {
            WakeAt: self._set_wake_at,
            LogEvent: ports.log,
            # At once, not as jobs: they are quick, and must be done in their order.
            ClearPending: lambda action: ports.ledger.clear(action.key, action.records),
            Reject: lambda action: ports.ledger.rejected(action.rejections),
            Own: lambda action: ports.ledger.own(action.files, action.dests),
            Count: lambda action: ports.ledger.counted(**fields(action)),
            Release: lambda action: ports.holds.release(action.resource),
            Remember: lambda action: ports.cached_keys.save_files(action.files),
            Follow: lambda action: ports.follow(action.files),
            Watch: ports.streams.open,
            Unwatch: lambda action: ports.streams.close(action.stream),
            Terminate: lambda _: ports.shell.terminate_all(),
            Kill: lambda _: ports.shell.kill_all(),
            StartChild: self._start_child,
            SignalChild: lambda action: self._child().signal(action.number),
            Stop: lambda _: None,
            Hold: self._held.append,
            Answer: ports.answer,
            WriteHistory: self._write_history,
            FindUndo: self._start_find_undo,
            Save: self._save,
            Recover: self._start_recover,
            Restore: self._start_restore,
            Recall: self._start_recall,
            Load: self._start_load,
            Read: self._start_read,
            Poll: self._start_poll,
            Resolve: self._start_resolve,
            Deliver: self._start_deliver,
            Reload: self._start_reload,
            Inspect: self._start_inspect,
            FindTargets: self._start_find_targets,
            Sweep: self._start_sweep,
        }

    def carry_out(self, actions: Sequence[Action]) -> float:
        """Carry out the actions of one step, in order. Returns the monotonic time at which to wake the agent."""
        self._wake_at = NEVER
        for action in actions:
            self._does[type(action)](action)
        if self._held:
            self._start_hold(tuple(self._held))
            self._held.clear()
        return self._wake_at

    def _set_wake_at(self, action: WakeAt) -> None:
        self._wake_at = action.moment

    # --- the store ---------------------------------------------------------------------------------------------------

    def _start_read(self, action: Read) -> None:
        self._ports.start(
            "read",
            lambda: Listed(action.read, self._store(action.store).read(action.prefixes, action.counted)),
            lambda error: Listed(action.read, None, store_error(error)),
        )

    def _store(self, mount: str) -> ReadsKeys:
        return self._ports.mounted[mount] if mount else self._ports.store

    def _start_poll(self, action: Poll) -> None:
        self._ports.start(
            "poll",
            lambda: Polled(action.poll, self._store(action.store).poll(action.prefixes)),
            lambda error: Polled(action.poll, None, store_error(error)),
        )

    # --- configuration and lookups -----------------------------------------------------------------------------------

    def _start_load(self, _: Load) -> None:
        self._ports.start("load", self._ports.load, lambda error: Loaded((), other_errors=(error,)))

    def _start_resolve(self, action: Resolve) -> None:
        """Post the answers as they come: those that are ready together in one message."""
        left = set(action.lookups)

        def resolve() -> None:
            for facts in self._ports.resolver.resolve_all(action.lookups):
                left.difference_update(facts)
                self._ports.post(Resolved(action.resolve, facts))

        def failed(error: ConfpyError) -> Message:
            return Resolved(action.resolve, {lookup: error.copy(TemplateError) for lookup in left})

        self._ports.start("resolve", resolve, failed)

    # --- targets -----------------------------------------------------------------------------------------------------

    def _start_deliver(self, action: Deliver) -> None:
        def failed(error: ConfpyError) -> Message:
            candidates = (one for group in action.groups for one in group.candidates)
            reports = (Report(one.resource.name, "failed", error.copy(ConfpyError)) for one in candidates)
            return Delivered(action.batch, tuple(reports))

        self._ports.start(f"deliver-{action.batch}", lambda: self.deliver(action), failed)

    def deliver(self, action: Deliver) -> Delivered:
        ports = self._ports
        reports = deliver(action.groups, self._rules, ports.disk, ports.shell, ports.ledger)
        return Delivered(action.batch, reports)

    def _start_inspect(self, action: Inspect) -> None:
        self._ports.start("inspect", lambda: self.inspect(action), lambda _: Inspected({}, {}))

    def inspect(self, action: Inspect) -> Inspected:
        from confpy.target import drift  # a one-shot inspects nothing

        return drift.inspect(action.targets, self._ports.disk, self._rules.root)

    def _start_find_targets(self, action: FindTargets) -> None:
        self._ports.start("find", lambda: self.find_targets(action), lambda _: FoundTargets(action.targets))

    def find_targets(self, action: FindTargets) -> FoundTargets:
        return FoundTargets(tuple(path for path in action.targets if not self._is_there(path)))

    def _is_there(self, path: str) -> bool:
        try:
            return self._ports.disk.stat(path) is not None
        except OSError:
            return False

    def _start_sweep(self, action: Sweep) -> None:
        self._ports.start("sweep", lambda: self.sweep(action), lambda _: Swept(()))

    def sweep(self, action: Sweep) -> Swept:
        return Swept(sweep(action.targets, self._ports.disk, self._rules.root))

    def _start_recover(self, _: Recover) -> None:
        self._ports.start("recover", self.recover, lambda error: Recovered(notes=(ledger_unusable(error),)))

    def recover(self) -> Recovered:
        ports = self._ports
        return replace(ports.ledger.recover(), files=ports.cached_keys.files(), undone=ports.holds.undone())

    def _start_restore(self, action: Restore) -> None:
        self._ports.start("restore", lambda: self.restore(action), lambda _: Restored(action.key, ()))

    def restore(self, action: Restore) -> Restored:
        from confpy.delivery import rollback  # most runs do not need it

        return rollback.restore(action.key, self._ports.ledger, self._ports.disk)

    # --- reloads -----------------------------------------------------------------------------------------------------

    def _start_reload(self, action: Reload) -> None:
        began = self._ports.clock.monotonic()

        def failed(error: ConfpyError) -> Message:
            return Reloaded(action.key, error, self._ports.clock.monotonic() - began, by=action.by)

        if action.by == "reload":
            names = abbreviate(action.environment.get("CONFPY_RESOURCE", "").split("\n"))
            self._ports.log(LogEvent("info", "reload.started", {"command": action.key, "resource": names}))
            self._ports.ledger.runs(action.key, action.failures + 1, action.spec.interval)
        self._ports.start("reload", lambda: self.reload(action), failed)

    def reload(self, action: Reload) -> Reloaded:
        from confpy.reload.run import reload  # brings socket, which a run that reloads nothing does not need

        ports = self._ports
        if action.spec.runtime is None:
            return Reloaded(action.key, **fields(reload(action.spec, action.environment, ports.shell, ports.child)))
        from confpy.haproxy.values import ReloadNeeded
        from confpy.reload import runtime

        if action.by == "reload":
            act = partial(reload, action.spec, action.environment, ports.shell, ports.child)
            result, repaired = runtime.reload(action.spec, act, action.dests, ports.runtime())
            needed = repaired if isinstance(repaired, ReloadNeeded) else None
            return Reloaded(action.key, **fields(result), needed=needed)
        began = ports.clock.monotonic()
        tell = runtime.follow if action.by == "runtime" else runtime.look
        told = tell(action.spec, action.dests, ports.runtime())
        took = ports.clock.monotonic() - began
        if isinstance(told, ReloadNeeded):
            return Reloaded(action.key, None, took, by=action.by, needed=told)
        return Reloaded(action.key, None, took, by=action.by, avoided=told)

    # --- the supervised program --------------------------------------------------------------------------------------

    def _start_child(self, _: StartChild) -> None:
        child = self._child()
        self._ports.start("exec", lambda: ChildEnded(**fields(child.run())), lambda _: ChildEnded(1))

    def _child(self) -> Child:
        assert self._ports.child is not None
        return self._ports.child

    # --- the history -------------------------------------------------------------------------------------------------

    def _write_history(self, action: WriteHistory) -> None:
        if self._ports.ledger.history is None:
            return
        self._unwritten.append(action)
        if action.at_end:
            self.write_history()
        else:
            self._ports.start("history", self.write_history, lambda _: None)

    def write_history(self) -> None:
        """Write what the history lacks. When it returns, all that there was is written, by whatever thread."""
        if (history := self._ports.ledger.history) is None:
            return
        with self._ports.guard:
            entries: list[HistoryEntry] = []
            reloads: list[ReloadEnd] = []
            while self._unwritten:
                action = self._unwritten.popleft()
                entries += action.entries
                reloads += action.reloads
            if entries or reloads:
                history.write(entries, reloads)

    def _start_find_undo(self, action: FindUndo) -> None:
        self._unwritten.append(action.unwritten)
        failed = partial(self._undo_failed, action.request)
        self._ports.start("undo", lambda: self.find_undo(action), failed)

    def find_undo(self, action: FindUndo) -> UndoFound:
        """Find what is to be put back, and record that it is held: before it is in place."""
        from confpy.ledger import undo  # most runs do not need it

        ports = self._ports
        self.write_history()
        resource = next(one for one in action.group if one.name == action.resource)
        try:
            history = ports.ledger.history or History()
            previous, undoes = undo.find(history, resource, action.group, ports.disk, self._rules.root)
        except OSError as error:
            raise UsageError(f"the history cannot be read: {error.strerror}", target=resource.dest) from error
        if not ports.holds.hold_undone([one.name for one in action.group], action.reason):
            raise UsageError("that it is held cannot be saved in the state folder", target=resource.dest)
        return UndoFound(action.request, previous, undoes)

    @staticmethod
    def _undo_failed(request: int, error: ConfpyError) -> UndoFound:
        return UndoFound(request, error=error)

    # --- cached keys -------------------------------------------------------------------------------------------------

    def _start_hold(self, holds: Sequence[Hold]) -> None:
        """Record the holds and check which are accepted, in one job: an emptied store may hold back a thousand."""
        records = not self._rules.noop

        def look() -> None:
            hold = self._ports.holds.hold
            found = [Accepted(one.resource, accepted=records and hold(one.resource, one.reason)) for one in holds]
            # Posted in a row: the agent takes them in one step.
            for accepted in found:
                self._ports.post(accepted)

        self._ports.start("hold", look, lambda _: Accepted(holds[0].resource, accepted=False))

    def _start_recall(self, _: Recall) -> None:
        self._ports.start("recall", self._ports.cached_keys.recall, lambda _: Recalled({}))

    def _save(self, action: Save) -> None:
        self._unsaved = action
        if action.at_end:
            self.save()
        else:
            self._ports.start("save", self.save, lambda _: None)

    def save(self) -> None:
        """Save the keys that are still to be saved. When it returns, no thread is saving keys any more."""
        with self._ports.guard:
            action, self._unsaved = self._unsaved, None
            if action is not None:
                self._ports.cached_keys.save(action.keys, action.prefixes, action.carried)
                self._ports.ledger.save_stamps()


def ledger_unusable(error: ConfpyError) -> LogEvent:
    """Return the log event for a ledger that cannot be read or written."""
    return LogEvent("warning", "ledger.unusable", error.fields())


def store_error(error: ConfpyError) -> StoreError:
    """Return the error as a ``StoreError``."""
    return error if isinstance(error, StoreError) else error.copy(StoreError)
