"""The owner's body: the inbox, the threads and the signals. It carries out what the minds decide.

One thread, the main one, owns all that changes and reads one queue. Each other thread does one job and posts what
came of it; none of them touches what the owner holds. A job that meets a bug of ours still answers, with an error:
nobody waits for a message that will not come.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from confpy.agent.agent import Agent
from confpy.agent.config import AgentConfig
from confpy.clock import NEVER, Clock, SystemClock
from confpy.config.load import load_resources
from confpy.config.resource import Loaded
from confpy.config.settings import SECRET_VARIABLES, Settings
from confpy.daemon.report import write_report
from confpy.daemon.signals import signal_handlers
from confpy.delivery import batch as delivery
from confpy.delivery.context import Rules
from confpy.errors import ConfpyError, StoreError, TemplateError, WatchLost, bug
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.ledger import expiry
from confpy.ledger.cached_keys import Kept
from confpy.ledger.folder import StateFolder
from confpy.ledger.ledger import Ledger
from confpy.log import Log
from confpy.messages import (
    Accepted,
    Action,
    Changed,
    ClearPending,
    Count,
    Deliver,
    Delivered,
    Edited,
    Follow,
    Hold,
    Inspect,
    Inspected,
    Kill,
    Listed,
    Load,
    Lost,
    Message,
    Opened,
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
    Report,
    Resolve,
    Resolved,
    Restore,
    Restored,
    Save,
    Stop,
    Sweep,
    Swept,
    Terminate,
    Touched,
    Unwatch,
    WakeAt,
    Watch,
)
from confpy.mirror.mirror import Mirror
from confpy.stores import Store, WatchStream, open_store
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.sweep import sweep
from confpy.templates.keymatch import match_keys
from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver

if TYPE_CHECKING:
    from confpy.system.watching import Folder


UNREAD = 256
"""Deliveries of streams that may wait in the inbox; then the streams wait, and the server with them."""
RESOLVERS = 8
"""Questions to the world that are asked at once."""
SAVE_WITHIN = 5.0
"""Seconds that the end waits for keys that are being kept."""
LONGEST_SLEEP = 3600.0
LONGEST_WAIT, EAGER = 60.0, 3.0
"""Seconds from one try to read the store to the next, at most; in one-shot there is somebody who waits."""


def run(settings: Settings, warnings: Sequence[ConfpyError] = ()) -> int:
    """Run confpy as the settings say, to its end. Returns the exit code; raises ``UsageError``."""
    log = Log(settings.log_level, settings.log_format)
    for warning in warnings:
        log.write("warning", "settings.warning", warning.fields())
    if settings.left_alone:
        hint = "they count where the store is named as in confd's fork (confpy STORE); CONFPY_* variables always count"
        log.write("info", "settings.ignored", {"variables": ", ".join(settings.left_alone), "hint": hint})
    daemon = Daemon(settings, open_store(settings.backend, settings), log)
    if not settings.onetime:
        # Loaded later, they could be of another version: the package may be upgraded while a daemon runs.
        from confpy.delivery import check, rollback  # noqa: F401
        from confpy.reload import run as reload  # noqa: F401
        from confpy.target import drift  # noqa: F401

        # The command turned it off for start-up. What start-up made stays: it need not be looked through again.
        gc.freeze()
        gc.enable()
    return daemon.run()


@dataclass(slots=True)
class _StreamHandle:
    """What the owner and a stream's thread share: each writes its own field, then reads the other's."""

    stream: WatchStream | None = None
    cut: bool = False


class Daemon:
    """Everything that does something: made for one run."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        log: Log,
        *,
        disk: Disk | None = None,
        shell: Shell | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._log = log
        self._disk = disk or Disk()
        self._shell = shell or Shell(hidden=SECRET_VARIABLES)
        self._clock = clock or SystemClock()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(UNREAD)
        self._lines: dict[int, _StreamHandle] = {}
        state = StateFolder.of(settings, self._tell)
        self._kept = Kept(state, self._clock, threading.Lock(), settings.backend)
        self._state_dir = os.path.dirname(state.path)
        self._in_use = None
        if not settings.noop:
            self._in_use = expiry.InUse.enter(state.path, os.path.realpath(settings.confdir), self._disk)
        self._ledger = Ledger.open(
            None if settings.noop else state.path,
            self._disk,
            threading.Lock(),
            backend=settings.backend,
            root=os.path.abspath(settings.root) if settings.root else "",
        )
        if self._ledger.warning is not None:
            self._tell(_unusable(self._ledger.warning))
        self._edits: Folder | None = None
        self._files: Folder | None = None
        """What is followed beside them (``watch_files``)."""
        self._ended = False
        self._saved = threading.Event()
        """Whether the keys that were to be kept last are."""
        self._saved.set()
        # What cannot change while confpy runs says the same when it is read again.
        self._compares = store.capabilities.remote or store.capabilities.watches
        self._rules = Rules(
            settings.noop, settings.sync_only, settings.keep_stage_file, settings.no_reload, settings.root or ""
        )
        self._templates = os.path.join(settings.confdir, "templates")
        self._resolver = Resolver(folder=self._templates, cache_dir=settings.cache_dir, sandbox=settings.sandbox)
        random = random or Random()
        follows = settings.watch and not settings.onetime and store.capabilities.watches
        period = settings.resync if settings.watch else settings.interval
        self._agent = Agent(
            AgentConfig(
                onetime=settings.onetime,
                period=period,
                noop=settings.noop,
                sync_only=settings.sync_only,
                no_reload=settings.no_reload,
                max_wait=settings.max_wait,
                stop_timeout=settings.stop_timeout,
                allow_empty=settings.allow_empty,
                on_missing=store.capabilities.missing,
                confdir=settings.confdir,
                names_deletions=store.capabilities.names_deletions,
                may_lose_keys=self._compares,
                backend=settings.backend,
                prefix=settings.prefix or "",
                saves_keys=store.capabilities.remote and not settings.noop,
                allow_stale=settings.allow_stale,
                retry_for=settings.retry_for,
                timeout=settings.timeout,
            ),
            Mirror(
                random,
                follows=follows,
                period=period,
                once=settings.onetime and not settings.retry_for,
                patience=EAGER if settings.onetime else LONGEST_WAIT,
                binary=store.capabilities.binary_values,
                lists=store.capabilities.lists,
                spells=store.capabilities.spells,
            ),
            Renderer(sandbox=settings.sandbox),
            random,
            {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES},
        )

    def run(self) -> int:
        """Carry the mind until it says stop. Returns the exit code."""
        with signal_handlers(self._inbox.put, self._settings.stop_signals):
            try:
                return self._run()
            finally:
                self._store.close()
                self._ledger.close(compares=self._compares)
                if self._in_use is not None:
                    self._in_use.leave()

    def _run(self) -> int:
        if not self._settings.onetime:
            self._log.write(
                "info",
                "confpy.started",
                {
                    "backend": self._settings.backend,
                    "confdir": self._settings.confdir,
                    "mode": "watch" if self._settings.watch else "poll",
                },
            )
        if not self._settings.onetime:
            self._start("edits", self._follow_edits, self._unwatched)
        if not self._settings.noop and expiry.is_due(self._state_dir, self._clock.time()):
            self._start("expire", self._remove_unused, lambda _: None)
        try:
            return self._live()
        finally:
            self._ended = True
            self._saved.wait(SAVE_WITHIN)
            for followed in (self._edits, self._files):
                if followed is not None:
                    followed.close()

    def _live(self) -> int:
        wake_at = self._carry_out(self._agent.start())
        while True:
            messages = self._receive(wake_at)
            actions = self._agent.step(messages, self._clock.monotonic(), self._clock.time())
            for message in messages:
                if isinstance(message, Changed):
                    self._room.release()
                elif isinstance(message, Lost):
                    self._lines.pop(message.stream, None)
            wake_at = self._carry_out(actions)
            for action in actions:
                if isinstance(action, Stop):
                    if self._settings.report:
                        write_report(self._settings.report, self._agent.outcomes(), self._disk)
                    return action.code

    def _receive(self, wake_at: float) -> list[Message]:
        """Return all that waits in the inbox, or nothing at ``wake_at``."""
        messages: list[Message] = []
        wait = min(wake_at - self._clock.monotonic(), LONGEST_SLEEP)
        with contextlib.suppress(queue.Empty):
            messages.append(self._inbox.get(timeout=max(wait, 0.0)))
            while True:
                messages.append(self._inbox.get_nowait())
        return messages

    # --- actions ---------------------------------------------------------------------------------------------------

    def _carry_out(self, actions: Sequence[Action]) -> float:
        wake_at = NEVER
        holds: list[Hold] = []
        for action in actions:
            match action:
                case WakeAt():
                    wake_at = action.moment
                case LogEvent():
                    self._log.write(action.level, action.event, action.fields, last=action.last)
                case Unwatch():
                    self._unwatch(action.stream)
                case Watch():
                    self._watch(action)
                case Terminate():
                    self._shell.terminate_all()
                case Kill():
                    self._shell.kill_all()
                case Recover():
                    self._start("recover", self._recover, lambda error: Recovered(notes=(_unusable(error),)))
                case Restore():
                    self._restore(action)
                case ClearPending():
                    self._ledger.paid(action.key, action.records)
                case Reject():
                    self._ledger.rejected(action.rejections)
                case Count():
                    self._ledger.counted(action.counts, action.identity, action.revision)
                case Hold():
                    holds.append(action)
                case Release():
                    self._kept.release(action.resource)
                case Save():
                    self._save(action, at_end=isinstance(actions[-1], Stop))
                case Remember():
                    # Here, not on a thread: it is rare, and the newest has to be the last.
                    self._kept.save_files(action.files)
                case Follow():
                    self._follow_files(action.files)
                case Recall():
                    self._start("recall", self._kept.recall, lambda _: Recalled({}))
                case Stop():
                    pass
                case Load():
                    self._start("load", self._load, lambda error: Loaded((), other_errors=(error,)))
                case Read():
                    self._read(action)
                case Poll():
                    self._poll(action)
                case Resolve():
                    self._resolve(action)
                case Deliver():
                    self._deliver(action)
                case Reload():
                    self._reload(action)
                case Inspect():
                    self._inspect(action)
                case Sweep():
                    self._sweep(action)
        if holds:
            self._hold(holds)
        return wake_at

    def _start(
        self, name: str, job: Callable[[], Message | None], failed: Callable[[ConfpyError], Message | None]
    ) -> None:
        """Do a job on a thread of its own, and post what it returns, or what stands for its failure.

        The thread dies with the process: what it must not leave half done, it owns.
        """

        def work() -> None:
            try:
                message = job()
            except ConfpyError as error:
                message = failed(error)
            except Exception as error:  # noqa: BLE001 - a bug of ours stays inside its job, and is told
                message = failed(bug(error))
            if message is not None:
                self._inbox.put(message)

        try:
            threading.Thread(target=work, name=f"confpy-{name}", daemon=True).start()
        except RuntimeError:
            hint = "raise the limit of threads (ulimit -u, TasksMax, pids.max), or give it memory"
            message = failed(ConfpyError("no thread can be started", hint=hint))
            if message is not None:
                self._inbox.put(message)

    def _recover(self) -> Message:
        return replace(self._ledger.recover(), files=self._kept.files())

    def _load(self) -> Message:
        undoes = self._settings.noop or bool(self._ledger.folder)
        loaded = load_resources(self._settings.confdir, self._settings, self._store.prefixes, undoes=undoes)
        return match_keys(loaded, self._templates, in_text_store=self._store.capabilities.text_prefixes)

    def _hold(self, holds: Sequence[Hold]) -> None:
        """Look who is accepted: on one thread, since a store that is wiped out may hold back a thousand."""

        def look() -> None:
            keeps = not self._settings.noop
            found = [
                Accepted(one.resource, accepted=keeps and self._kept.hold(one.resource, one.reason)) for one in holds
            ]
            # In a row: each that comes alone costs the owner a look at all that waits.
            for accepted in found:
                self._inbox.put(accepted)

        self._start("hold", look, lambda _: Accepted(holds[0].resource, accepted=False))

    def _restore(self, action: Restore) -> None:
        def restore() -> Message:
            from confpy.delivery import rollback  # few runs need it

            return rollback.restore(action.key, self._ledger, self._disk)

        self._start("restore", restore, lambda _: Restored(action.key, ()))

    def _save(self, action: Save, *, at_end: bool) -> None:
        saved = self._saved = threading.Event()

        def save() -> None:
            try:
                self._kept.save(action.keys, action.prefixes, action.carried)
            finally:
                saved.set()

        if at_end:
            save()
        else:
            self._start("save", save, lambda _: saved.set())

    def _tell(self, say: LogEvent) -> None:
        self._log.write(say.level, say.event, say.fields)

    def _follow_edits(self) -> None:
        """Tell of what is edited in the confdir, as long as confpy runs."""
        folders = [os.path.join(self._settings.confdir, name) for name in ("conf.d", "templates")]
        self._edits = self._folder(folders)
        self._tell_of(self._edits, Edited())

    def _follow_files(self, files: tuple[str, ...]) -> None:
        """Tell of changes to these files, until others are to be followed."""
        if self._files is not None:
            self._files.close()
            self._files = None
        if files:

            def follow() -> None:
                self._tell_of(followed, Touched())

            self._files = followed = self._folder(files)
            self._start("files", follow, self._unwatched)

    def _folder(self, paths: Sequence[str]) -> Folder:
        from confpy.system.watching import SLOW_LOOK, Folder, why_unwatched

        def unwatched(error: OSError) -> None:
            failure = ConfpyError(f"edits cannot be watched for: {error.strerror}", hint=why_unwatched(error))
            self._unwatched(failure.at(file=paths[0]), f"looks every {SLOW_LOOK:g} s")

        return Folder(paths, unwatched)

    def _tell_of(self, folder: Folder, message: Message) -> None:
        """Post a message whenever something in a folder changes, until it is closed."""
        try:
            while not (self._ended or folder.is_closed):
                if folder.wait(LONGEST_SLEEP):
                    self._inbox.put(message)
        finally:
            folder.close()

    def _unwatched(self, error: ConfpyError, did: str = "looks at SIGHUP and at each resync only") -> None:
        self._tell(LogEvent("warning", "edits.unwatched", {**error.fields(), "did": did}))

    def _remove_unused(self) -> None:
        """Remove the state and the compiled templates of confdirs that are gone."""
        expiry.sweep(self._state_dir, self._settings.cache_dir or "", self._disk, self._clock.time())

    def _read(self, action: Read) -> None:
        self._start(
            "read",
            lambda: Listed(action.read, self._store.read(action.prefixes, action.counted)),
            lambda error: Listed(action.read, None, _store_error(error)),
        )

    def _poll(self, action: Poll) -> None:
        self._start(
            "poll",
            lambda: Polled(action.poll, self._store.poll(action.prefixes)),
            lambda error: Polled(action.poll, None, _store_error(error)),
        )

    def _watch(self, action: Watch) -> None:
        """Follow one stream to its end."""
        line = self._lines[action.stream] = _StreamHandle()

        def follow() -> Message:
            try:
                line.stream = self._store.watch(action.cursors, action.identity)
                if not line.cut:
                    self._inbox.put(Opened(action.stream))
                    for changes in line.stream:
                        self._room.acquire()
                        self._inbox.put(Changed(action.stream, changes))
                raise StoreError("the stream ended")
            finally:
                if line.stream is not None:
                    line.stream.close()

        self._start(
            f"watch-{action.stream}",
            follow,
            lambda error: Lost(action.stream, _store_error(error), isinstance(error, WatchLost)),
        )

    def _unwatch(self, number: int) -> None:
        line = self._lines.pop(number, None)
        if line is None:  # its end has come by itself
            return
        line.cut = True
        if line.stream is not None:
            line.stream.close()

    def _resolve(self, action: Resolve) -> None:
        """Answer the lookups, some at once, and tell of each as it comes: one that hangs holds up no other."""
        waiting: queue.SimpleQueue[Lookup] = queue.SimpleQueue()
        for lookup in action.lookups:
            waiting.put(lookup)

        def left() -> Iterator[Lookup]:
            with contextlib.suppress(queue.Empty):
                while True:
                    yield waiting.get_nowait()

        def work() -> None:
            for lookup in left():
                self._inbox.put(Resolved(action.resolve, {lookup: self._resolver.resolve(lookup)}))

        def failed(error: ConfpyError) -> Message:
            return Resolved(action.resolve, {lookup: error.copy(TemplateError) for lookup in left()})

        for number in range(min(RESOLVERS, len(action.lookups))):
            self._start(f"resolve-{number}", work, failed)

    def _deliver(self, action: Deliver) -> None:
        def failed(error: ConfpyError) -> Message:
            candidates = (one for group in action.groups for one in group.candidates)
            return Delivered(action.batch, tuple(Report(one.resource.name, "failed", own(error)) for one in candidates))

        def own(error: ConfpyError) -> ConfpyError:
            return error.copy(ConfpyError)

        def deliver() -> Message:
            reports = delivery.deliver(action.groups, self._rules, self._disk, self._shell, self._ledger)
            return Delivered(action.batch, reports)

        self._start(f"deliver-{action.batch}", deliver, failed)

    def _reload(self, action: Reload) -> None:
        began = time.monotonic()
        self._ledger.runs(action.key, action.failures + 1, action.interval)

        def run() -> Message:
            from confpy.reload.run import reload  # brings socket, which a run that reloads nothing can do without

            return reload(action, self._shell)

        self._start("reload", run, lambda error: Reloaded(action.key, error, time.monotonic() - began))

    def _inspect(self, action: Inspect) -> None:
        def inspect() -> Message:
            from confpy.target import drift  # a one-shot never looks again

            return drift.inspect(action.targets, self._disk, self._rules.root)

        self._start("inspect", inspect, lambda _: Inspected({}, {}))

    def _sweep(self, action: Sweep) -> None:
        self._start(
            "sweep",
            lambda: Swept(sweep(action.targets, self._disk, self._rules.root)),
            lambda _: Swept(()),
        )


def _unusable(error: ConfpyError) -> LogEvent:
    return LogEvent("warning", "ledger.unusable", error.fields())


def _store_error(error: ConfpyError) -> StoreError:
    return error if isinstance(error, StoreError) else error.copy(StoreError)
