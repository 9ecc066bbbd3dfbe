"""The agent: what is dirty, when to pass, what is owed, when to end. Pure: no I/O, no thread, no clock.

``step`` takes messages and the time and returns actions, which the daemon carries out. One-shot, polling and watching
are the same agent; they differ in when it ends (``onetime``) and in how often it asks the store.

A resource is *dirty* from the first sign that its target might be wrong until a delivery succeeded; a failure leaves
it dirty and waiting. A *pending reload* is one that a commit owes: it is keyed by its command, so that one run serves
many resources with one command, and only a run that began after the commit clears it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from confpy.agent.adoption import Adoption
from confpy.agent.batches import Batches
from confpy.agent.changed_keys import ChangedKeys
from confpy.agent.config import AgentConfig
from confpy.agent.core import Core, ItemsOnDemand
from confpy.agent.deliveries import Deliveries
from confpy.agent.drift import Drift
from confpy.agent.fallback import Fallback
from confpy.agent.history import DeliveryHistory
from confpy.agent.loading import Loading
from confpy.agent.passes import Passes
from confpy.agent.rejections import Rejections
from confpy.agent.reloads import PendingReloads
from confpy.agent.rendering import Rendering, Renders
from confpy.agent.shrink import KeyCounts
from confpy.agent.shutdown import Shutdown
from confpy.agent.started import Started
from confpy.agent.store_status import StoreStatus
from confpy.agent.supervisor import Supervisor
from confpy.agent.suspect_keys import SuspectKeys
from confpy.agent.undone import Undone
from confpy.agent.watched_files import WatchedFiles
from confpy.clock import NEVER
from confpy.config.resource import Loaded
from confpy.errors import TemplateError
from confpy.history.records import Accept, Undo, UndoFound
from confpy.messages import (
    Accepted,
    Action,
    Delivered,
    Edited,
    FoundTargets,
    Inspected,
    Message,
    Recalled,
    Recover,
    Recovered,
    Reloaded,
    Resolved,
    Restored,
    Signalled,
    Stop,
    Sweep,
    Swept,
    Touched,
    WakeAt,
    Woken,
)
from confpy.mirror.mirror import Mirror
from confpy.mirror.result import MirrorResult
from confpy.reload.supervised import ChildEnded

if TYPE_CHECKING:
    from confpy.agent.items import Items
    from confpy.agent.review import Review
    from confpy.agent.status import Parts
    from confpy.mirror.mirrors import Mirrors
    from confpy.status.model import Status
    from confpy.templates.lookup import Lookup


class Agent:
    """Decides for all resources. The daemon calls ``start`` once, then ``step`` with every message."""

    def __init__(
        self,
        config: AgentConfig,
        mirror: Mirror | Mirrors,
        renderer: Renders,
        random: Random,
        environ: Mapping[str, str],
        *,
        own: Callable[[str], Mirror] | None = None,
    ) -> None:
        core = Core(config, mirror, random, own)
        self.resources = core.resources
        self._core = core
        self._config = config
        self._step = core.step
        self._end = core.end
        self._failures = core.failures
        self.rejections = rejections = Rejections(random)
        self.reloads = reloads = PendingReloads(random, longest_wait=config.max_wait, is_final=core.end.is_final)
        self._batches = batches = Batches()
        self._counts = counts = KeyCounts(config.backend, may_lose_keys=config.may_lose_keys)
        self._watched = watched = WatchedFiles()
        self.loading = Loading(core)
        self._started = Started(core, self.loading, config.ready_timeout)
        self._drift = Drift(core)
        self._child = Supervisor(core.step, config, reloads)
        self._shutdown = Shutdown(core.step, config.stop_timeout, self._child)
        self._suspect_keys = suspect_keys = SuspectKeys(core)
        self._fallback = fallback = Fallback(core)
        self._history = history = DeliveryHistory(core)
        self._undone = undone = Undone(core, history)
        self._store_status = StoreStatus(core, fallback)
        self._rendering = rendering = Rendering(
            core, renderer, environ, suspect_keys=suspect_keys, fallback=fallback, watched=watched
        )
        self._items: ItemsOnDemand[Items] = ItemsOnDemand()
        self._passes = Passes(
            core,
            rendering=rendering,
            fallback=fallback,
            items=self._items,
            batches=batches,
            reloads=reloads,
            rejections=rejections,
            undone=undone,
        )
        self._deliveries = Deliveries(
            core,
            fallback=fallback,
            batches=batches,
            reloads=reloads,
            rejections=rejections,
            counts=counts,
            watched=watched,
            history=history,
            items=self._items,
            undone=undone,
        )
        self._adoption = Adoption(
            core,
            counts=counts,
            drift=self._drift,
            passes=self._passes,
            rendering=rendering,
            suspect_keys=suspect_keys,
            undone=undone,
        )
        self._changed = ChangedKeys(core)
        self._recovered = False
        """What an earlier run has left is settled."""
        self._ended = False

    def start(self) -> list[Action]:
        """Return the first actions: what an earlier run has left is settled before anything else is looked at."""
        return [Recover()]

    def step(self, messages: Sequence[Message], now: float, wall: float) -> list[Action]:
        """Take messages at the monotonic time ``now`` (``wall``: since 1970 UTC) and return what to do."""
        self._step.begin(now, wall)
        self._end.begin(now)
        for message in messages or (Woken(),):
            self._take(message)
        self._changed.mark()
        if not self._ended:
            self._do_what_is_due()
            if self._recovered:
                freed, swapped = self._batches.take_freed(), self._batches.swapped_unchecked()
                self.reloads.end_deliveries(freed)
                self._step.actions += self.reloads.start(now, self._batches.busy, swapped)
                freed += self.reloads.take_freed()
                if not self._shutdown.has_begun:
                    self._passes.run(freed)
            if self._started.at is None:
                self._started.evaluate()
            if now >= self._history.writes_at:
                self._step.actions += self._history.write_if_due()
            if self._child.is_waiting and self._child.start_if(is_started=self.is_started):
                self._step.actions += self.reloads.start(now, self._batches.busy, self._batches.swapped_unchecked())
            self._stop_if_done()
            self._step.do(WakeAt(self._wake_at()))
        return self._step.actions

    def _take(self, message: Message) -> None:
        match message:
            case Loaded():
                self._take_resources(message)
            case Resolved():
                self._rendering.take(message)
            case Delivered():
                # Before another message changes the keys that were delivered.
                self._deliveries.take(message, saves=not self._changed)
            case Reloaded():
                self._deliveries.take_reload(message)
            case Inspected():
                self._drift.take(message, is_edited=self.loading.is_changing)
            case Swept():
                for file in message.files:
                    self._step.log("info", "stage.removed", file=file)
            case Recovered():
                self._take_over(message)
            case Restored():
                self._deliveries.take_rollback(message)
            case Accepted():
                self._suspect_keys.take_acceptance(message)
                self._undone.take_acceptance(message)
            case Accept():
                self._suspect_keys.look(message.resource)
                self._undone.look_if_due(is_asked=True)
            case Undo():
                self._undone.begin(message, stops=self._shutdown.has_begun)
            case UndoFound():
                self._undone.take_found(message)
            case Recalled():
                self._fallback.take(message)
                self._passes.note_store()
            case FoundTargets():
                self._started.take(message)
            case Edited():
                self.loading.note_edit()
            case Touched():
                self._rendering.ask_files()
            case Signalled():
                self._take_signal(message.number)
            case ChildEnded():
                self._shutdown.take_end(message)
                self._batches.drop_waiting()
            case _:
                pass
        self._take_result(self._core.mirror.step(message, self._step.now))

    @property
    def mirror(self) -> Mirror | Mirrors:
        """As ``Core.mirror``."""
        return self._core.mirror

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._shutdown.has_begun

    # --- resources ---------------------------------------------------------------------------------------------------

    def _take_over(self, recovered: Recovered) -> None:
        """Take what an earlier run has left."""
        now, wall = self._step.now, self._step.wall
        self._recovered = True
        self._watched.take_over(recovered.files)
        self._undone.take_over(recovered.undone)
        self._step.actions += recovered.notes
        self._counts.take_over(recovered)
        self._items.owned += recovered.owned
        if self._config.may_lose_keys:
            self._core.expect(recovered)
        if self._shutdown.has_begun:
            return  # what is owed stays in the ledger
        self.loading.load()
        if self._config.reloads and not self._config.noop:
            for owed in recovered.reloads:
                self.reloads.inherit(owed, now)
            self._step.actions += self.reloads.take_over(recovered.runs, now, wall)
            self.rejections.take_over(recovered.rejections, recovered.in_place, now, wall)

    def _take_resources(self, loaded: Loaded) -> None:
        is_first = not self.loading.is_done
        if not self.loading.take(loaded):
            if is_first:
                self.reloads.know(())
            return
        if not self._config.noop:
            known = {state.resource.dest for state in self.resources}
            self._step.do(Sweep(tuple(one.dest for one in loaded.resources if one.dest not in known)))
        self._adoption.adopt(loaded, is_first=is_first)
        self.reloads.know(state.resource for state in self.resources)
        if is_first:
            self._drift.schedule()
            self._look_at_programs()
        self._take_result(self._core.mirror.want(self.resources.prefixes()))
        self._rendering.ask_first()

    # --- keys --------------------------------------------------------------------------------------------------------

    def _take_result(self, result: MirrorResult) -> None:
        """Take what the mirror made of a message."""
        self._step.actions += result.actions
        self._changed.take(result)
        if result.learned:
            self._passes.note_store()
            self._store_status.take()

    # --- time --------------------------------------------------------------------------------------------------------

    def _do_what_is_due(self) -> None:
        if self._shutdown.has_begun:
            return
        self.loading.load_if_due()
        if self.loading.is_edit_due():
            self.loading.load_edit()
            for state in self.resources:
                if isinstance(state.error, TemplateError):
                    self.resources.retry(state, -NEVER)
            self._rendering.ask_templates()
        if self._drift.is_due(delivering=bool(self._batches)) and not self.loading.is_changing:
            self._look()
        self._undone.act()
        self._undone.look_if_due()
        self._fallback.save_if_due()
        self._step.actions += self._watched.save(self._step.now)
        if self._end.is_final and self.loading.is_done:
            self._store_status.take_loss()
            if self._step.now >= self._end.deadline():
                self._store_status.fail_untried()

    def _look(self) -> None:
        """Look at every target and at the programs that can be told of changes, and ask the world again."""
        for state in self._drift.look(delivering=bool(self._batches)):
            if state.timely:
                self.resources.mark(state, "time")
        self._rendering.ask_again()
        self._look_at_programs()

    def _look_at_programs(self) -> None:
        """Compare running programs with their files: somebody may have restarted or changed them."""
        if self._config.reloads and not (self._config.noop or self._end.is_final):
            self.reloads.look(self._step.now)

    def _wake_at(self) -> float:
        now = self._step.now
        moments = [self._core.mirror.wake_at(), self.reloads.wake_at(now), self._shutdown.next_at()]
        if not self._shutdown.has_begun:
            if not self.loading.is_changing:
                moments.append(self._drift.look_at)
            moments += (self.loading.next_at(), self._fallback.saves_at, self._watched.save_at, self._passes.next_at())
            moments += self._end.moments(now)
            if self._started.at is None:
                moments.append(self._started.next_at())
            moments += (self._history.writes_at, self._undone.looks_at)
        return min(moments)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _take_signal(self, number: int) -> None:
        if self._child.forwards(number):
            return
        name = self._shutdown.signal_name(number)
        if self._shutdown.has_begun:
            if number != signal.SIGHUP:
                self._shutdown.hurry(name)
        elif number == signal.SIGHUP:
            self._step.log("info", "signal.received", signal=name, did="reads and looks at everything again")
            self._try_all()
        else:
            self._shutdown.begin(number, name)
            self._batches.drop_waiting()

    def _try_all(self) -> None:
        """Read and look at everything again, and try again what waits after a failure."""
        now = self._step.now
        self._core.mirror.resync(now)
        self._drift.request()
        self.loading.note_edit(0.0)
        self.reloads.hurry()
        for name, moment in self.rejections.lift(now):
            if name in self.resources.states:
                self.resources.retry(self.resources.states[name], moment)

    def _stop_if_done(self) -> None:
        """Stop where there is nothing left to do, or no time left to do it."""
        if self._shutdown.stopped_by is not None:
            # What an earlier run has left half done is settled first: it would stay so until the next start.
            working = not self._recovered or bool(self._batches) or self.reloads.running()
            if self._shutdown.is_over(working=working):
                code = self._end.stopped_code(self._shutdown.stopped_by, forced=self._shutdown.was_forced)
                self._stop(self._child.exit_code(code))
            elif self._shutdown.end_commands():
                self.reloads.stop()
        elif not self.loading.is_done or self._batches:
            pass
        elif self._end.has_ended(waits=bool(self.resources.untried), owes=bool(self.reloads)):
            self._step.actions += self._end.report(self.resources.states.values(), self._step.now)
            self._stop(self._end.exit_code())

    def _stop(self, code: int) -> None:
        self._ended = True
        self._fallback.save_at_end()
        self._step.actions += self._history.write_if_due(at_end=True)
        self._step.actions += self._watched.save(self._step.now, at_end=True)
        self._deliveries.count(at_end=True)
        for command, names in self.reloads.owed().items():
            self._step.log("warning", "reload.owed", command=command, resource=names, did="stops without it")
        self._step.do(Stop(code))

    # --- what it tells others ----------------------------------------------------------------------------------------

    @property
    def is_started(self) -> bool:
        """Whether it has started: see ``started``."""
        return self._started.at is not None

    def is_literal(self, lookup: Lookup) -> bool:
        """As ``Rendering.is_literal``."""
        return self._rendering.is_literal(lookup)

    def status(self) -> Status:
        """Return how all is now. Called between two steps, on request: it looks at every resource."""
        from confpy.agent.status import make_status  # most runs are never asked

        return make_status(self._parts(), self._started, is_stopping=self._shutdown.has_begun)

    def review(self, asked_at: float) -> Review:
        """Return what has come of a SIGHUP at that monotonic time. Called between two steps, on request."""
        from confpy.agent.review import review

        return review(self._parts(), asked_at)

    def _parts(self) -> Parts:
        from confpy.agent.status import Parts

        parts = (self._core, self.loading, self._batches, self.reloads, self.rejections, self._drift, self._fallback)
        return Parts(*parts, self._rendering, self._items.now)

    def outcomes(self) -> list[dict[str, object]]:
        """Return the outcome of each resource, including those whose file could not be read."""
        return self._end.outcomes(self.resources)

    def held_by_people(self) -> dict[str, str]:
        """Return why resources are held that a person has undone: resource → reason."""
        return {state.name: state.undone for state in self.resources if state.undone}
