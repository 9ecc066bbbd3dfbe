"""The owner's mind: what is dirty, when to pass, what is owed, when to end. Pure: no I/O, no thread, no clock.

``step`` takes messages and the time and returns actions. One-shot, polling and watching are the same mind; they
differ in when it ends and in how often it asks.

A resource is *dirty* from the first sign that its target might be wrong until a delivery succeeded; a failure leaves
it dirty and waiting. A *debt* is a reload that a commit owes: it is keyed by its command, so that many resources
with one command are paid by one run, and it is paid only by a run that began after the commit.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol

from confpy.clock import Backoff, Settle, jittered, rarely
from confpy.debts import Commit, Debts
from confpy.errors import ConfpyError, StoreError, TemplateError, UsageError, bug, exit_code
from confpy.keytree import PrefixIndex, View, normalise
from confpy.mirror import NEVER, Mirror, Turn
from confpy.model import (
    Action,
    Candidate,
    Deliver,
    Delivered,
    Group,
    Inspect,
    Inspected,
    Kill,
    Known,
    Level,
    Load,
    Loaded,
    Lookup,
    Message,
    Reloaded,
    Report,
    Resolve,
    Resolved,
    Resource,
    Say,
    Signalled,
    Stop,
    Sweep,
    Swept,
    WakeAt,
    Woken,
)
from confpy.placeholders import show
from confpy.templates import Needs, Rendered, World

BATCHES_AT_ONCE = 32
"""Deliveries that run beside each other; more wait for a worker."""
PUT_AWAY = 0.5
"""Seconds in which a delivery whose check was killed may remove its candidate."""
MOST_LOOKUPS = 5000
"""Questions to the world that one render may have: one that asks for something else each time would never end."""
MOST_KEYS = 10_000
"""Changed keys that are counted for the log while a resource cannot be delivered."""
NO_COMMANDS = ""
"""What resources with neither check nor reload share instead of a command."""


class Renders(Protocol):
    """What the mind needs of ``confpy.templates.Renderer``."""

    def render(self, resource: Resource, view: View, world: World) -> Rendered: ...


@dataclass(frozen=True, slots=True)
class Manners:
    """How this confpy was told to behave."""

    onetime: bool = False
    period: float = 600.0
    """Seconds from one look at the targets and the world to the next."""
    noop: bool = False
    sync_only: bool = False
    settle: float = 0.1
    """Seconds of quiet after which a burst is delivered."""
    max_wait: float = 2.0
    """Seconds that a burst may hold up a delivery, and deliveries a reload."""
    stop_timeout: float = 8.0
    """Seconds from the first signal to the end."""
    allow_empty: bool = False
    on_missing: Literal["error", "empty"] = "empty"
    """For resources that do not say, unless a read said it."""
    confdir: str = ""
    """For messages."""


@dataclass(slots=True)
class Track:
    """What the mind knows of one resource."""

    order: int
    """Its place among the resources: passes keep it."""
    resource: Resource
    settle: Settle
    backoff: Backoff
    view: View
    dirty: bool = True
    trigger: str = "start"
    keys: set[str] = field(default_factory=set)
    """Paths that changed since the last delivery."""
    retry_at: float = float("-inf")
    in_flight: bool = False
    tried: bool = False
    """It had an outcome: what one-shot waits for."""
    error: ConfpyError | None = None
    told: bool = False
    """A line has told of a failure since it was right last."""
    known: Known | None = None
    asked: frozenset[Lookup] = frozenset()
    timely: bool = False
    """It printed the time: every look renders it anew."""
    awaited: frozenset[Lookup] = frozenset()
    """Look-ups without which it cannot be rendered: all that this render has met so far."""
    doubted: frozenset[Lookup] = frozenset()
    """What a failed render rested on: asked again before the next."""
    left_out: frozenset[object] = frozenset()
    """What the last render left out: said once."""
    drift: str = ""
    """The drift that was last told of."""

    @property
    def commands(self) -> tuple[str, ...]:
        """Return what ties it to others in a batch: its check and reload commands as written."""
        resource = self.resource
        found = tuple(show(command) for command in (resource.check_cmd, resource.reload_cmd) if command is not None)
        return found or (NO_COMMANDS,)


class Agent:
    """The mind. Whoever carries it calls ``start`` once, then ``step`` with every message."""

    def __init__(
        self, manners: Manners, mirror: Mirror, renderer: Renders, random: Random, environ: Mapping[str, str]
    ) -> None:
        self.mirror = mirror
        self._manners = manners
        self._renderer = renderer
        self._random = random
        self._environ = environ
        self._tracks: dict[str, Track] = {}
        self._dirty: dict[int, Track] = {}
        """Order → track, of those that are dirty: so that a change costs what it touches, not what exists."""
        self._changed: set[str] = set()
        self._index = PrefixIndex()
        self._facts: dict[Lookup, object] = {}
        self._asked: set[Lookup] = set()
        """Look-ups that are being answered."""
        self._batches: dict[int, tuple[Candidate, ...]] = {}
        self._in_flight: set[int] = set()
        self._waiting: deque[int] = deque()
        self._busy: set[str] = set()
        self._debts = Debts(random, longest_wait=manners.max_wait)
        self._number = 0
        self._errors: list[ConfpyError] = []
        self._loaded = False
        self._load_at = NEVER
        self._load_backoff = Backoff(random, base=1.0, cap=30.0)
        self._look_at = NEVER
        self._inspecting = False
        self._stopping: int | None = None
        self._stop_at = NEVER
        self._killed = False
        self._ended = False
        self._actions: list[Action] = []
        self._now = 0.0
        self._wall = 0.0

    def start(self) -> list[Action]:
        """Return the first actions."""
        return [Load()]

    def step(self, messages: Sequence[Message], now: float, wall: float) -> list[Action]:
        """Take messages at the monotonic time ``now`` (``wall``: since 1970 UTC) and return what to do."""
        self._now, self._wall, self._actions = now, wall, []
        for message in messages or (Woken(),):
            self._take(message)
        self._mark_changed()
        if not self._ended:
            self._tick()
            self._actions += self._debts.pay(self._now, self._busy)
            if self._stopping is None:
                self._pass()
            self._end()
            self._actions.append(WakeAt(self._wake_at()))
        return self._actions

    def _take(self, message: Message) -> None:
        match message:
            case Loaded():
                self._take_resources(message)
            case Resolved():
                self._take_facts(message)
            case Delivered():
                self._take_reports(message)
            case Reloaded():
                self._take_reload(message)
            case Inspected():
                self._take_drift(message)
            case Swept():
                for file in message.files:
                    self._say("info", "stage.swept", file=file)
            case Signalled():
                self._take_signal(message.number)
            case _:
                pass
        self._follow(self.mirror.step(message, self._now))

    # --- resources and keys ----------------------------------------------------------------------------------------

    def _take_resources(self, loaded: Loaded) -> None:
        waits = not loaded.resources and not self._manners.onetime
        if not waits or rarely(self._load_backoff.attempts + 1):
            for warning in loaded.warnings:
                self._say("warning", "resource.warning", **warning.fields())
            for error in loaded.errors:
                self._say("error", "resource.refused", **error.fields())
            if not loaded.resources and not loaded.errors:
                self._lack_resources(loaded)
        if waits:
            self._load_at = self._now + self._load_backoff.wait()
            return
        self._errors += loaded.errors
        self._loaded = True
        for resource in loaded.resources:
            covers = tuple(dict.fromkeys(normalise(prefix) for prefix in resource.prefixes))
            view = View(self.mirror.tree, covers, resource.strip)
            settle = Settle(self._manners.settle, self._manners.max_wait)
            track = Track(len(self._tracks), resource, settle, Backoff(self._random), view)
            self._tracks[resource.name] = self._dirty[track.order] = track
            for cover in covers:
                self._index.add(cover, resource.name)
        if not self._manners.noop:
            self._do(Sweep(tuple(resource.dest for resource in loaded.resources)))
        self._look_at = self._now + jittered(self._manners.period, self._random)
        self._follow(self.mirror.want({resource.name: resource.prefixes for resource in loaded.resources}))

    def _lack_resources(self, loaded: Loaded) -> None:
        where = self._manners.confdir
        what = f"no resource in {where}/conf.d" if loaded.found else f"there is no {where}/conf.d"
        error = UsageError(what, hint="name another with -confdir, or allow it with -allow-empty", file=where)
        if not self._manners.onetime:
            self._say("warning", "resources.missing", error=what, did="waits for them")
            return
        if not self._manners.allow_empty:
            self._errors.append(error)
            self._say("error", "resources.missing", **error.fields())

    def _follow(self, turn: Turn) -> None:
        """Take what the mirror made of a message."""
        self._actions += turn.actions
        self._changed |= turn.changed
        if not turn.learned:
            return
        for track in self._tracks.values():
            error, before = self.mirror.error(track.resource.prefixes), track.error
            if error is None:
                if isinstance(before, StoreError):
                    track.retry_at = float("-inf")
            elif (before is None or before.message != error.message) and not (track.tried and self._manners.onetime):
                # Each has an error of its own: what one adds to it must not show in another's.
                own = StoreError(error.message, hint=error.hint, **error.where).at(resource=track.resource.name)
                # The mirror tells of it, once for all; a store that is away, in one-shot, it leaves to us.
                self._fail(track, own, quiet=not (self._manners.onetime and error is self.mirror.lost))

    def _mark_changed(self) -> None:
        """Make dirty whom the changed paths concern. What arrived together counts as one change to each."""
        concerned: dict[str, Track] = {}
        for path in self._changed:
            for name in self._index.match(path):
                track = concerned[name] = self._tracks[name]
                if len(track.keys) < MOST_KEYS:
                    track.keys.add(path)
        self._changed = set()
        for track in concerned.values():
            if track.tried:
                track.settle.note(self._now)
            self._mark(track, "change" if track.tried else "start")

    def _mark(self, track: Track, trigger: str) -> None:
        """Make it dirty; the new reason goes before a wait that an older failure asked for."""
        track.dirty = True
        track.trigger = trigger
        track.retry_at = float("-inf")
        self._dirty[track.order] = track

    # --- passes ----------------------------------------------------------------------------------------------------

    def _pass(self) -> None:
        """Render what is dirty and due, and send it off in batches."""
        world = World(self._wall, self._environ, self._facts)
        candidates: list[tuple[Track, Candidate]] = []
        needed: set[Lookup] = set()
        for _, track in sorted(self._dirty.items()):
            if not self._due(track):
                continue
            if lack := self._lack(track.resource):
                self._fail(track, lack)
                continue
            if track.doubted:
                needed |= track.doubted
                track.awaited, track.doubted = track.doubted, frozenset()
                continue
            try:
                rendered = self._renderer.render(track.resource, track.view, world)
            except Needs as needs:
                track.awaited |= needs.lookups
                needed |= needs.lookups
                if len(track.awaited) > MOST_LOOKUPS:
                    track.awaited = frozenset()
                    error = TemplateError(f"the template asks for more than {MOST_LOOKUPS} names, paths or templates")
                    self._fail(track, error.at(resource=track.resource.name))
                continue
            except TemplateError as error:
                track.awaited, track.doubted = frozenset(), error.asked
                self._fail(track, error.at(resource=track.resource.name))
                continue
            except Exception as error:  # noqa: BLE001 - a bug of ours stops this resource and no other
                self._fail(track, bug(error).at(resource=track.resource.name))
                continue
            track.awaited = frozenset()
            track.asked, track.timely = rendered.asked, rendered.timely
            self._tell_left_out(track, rendered)
            candidates.append((track, Candidate(track.resource, rendered.content)))
        self._resolve(needed)
        for batch in _batches(candidates):
            self._number += 1
            self._batches[self._number] = tuple(candidate for _, candidate in batch)
            self._waiting.append(self._number)
            for track, _ in batch:
                track.in_flight, track.dirty, track.drift = True, False, ""
                del self._dirty[track.order]
                track.settle.done()
                self._busy.update(track.commands)
        self._send()

    def _due(self, track: Track) -> bool:
        return (
            not track.in_flight
            and not (track.tried and self._manners.onetime)
            and self._now >= track.retry_at
            and self._now >= track.settle.due()
            and self._asked.isdisjoint(track.awaited)
            and self._busy.isdisjoint(track.commands)
            and self.mirror.ready(track.resource.prefixes)
        )

    def _lack(self, resource: Resource) -> StoreError | None:
        """Return why the resource fails where a key that it asks for is not in the store, else None."""
        on_missing = resource.on_missing or self.mirror.on_missing or self._manners.on_missing
        path = self.mirror.missing(resource.prefixes) if on_missing == "error" else None
        if path is None:
            return None
        hint = 'put it there, or write on_missing = "empty"'
        return StoreError("the key is not in the store", hint=hint, key=path, resource=resource.name)

    def _send(self) -> None:
        while self._waiting and len(self._in_flight) < BATCHES_AT_ONCE:
            number = self._waiting.popleft()
            self._in_flight.add(number)
            self._do(Deliver(number, tuple(Group(one.resource.name, (one,)) for one in self._batches[number])))

    def _take_reports(self, delivered: Delivered) -> None:
        self._in_flight.discard(delivered.batch)
        for candidate in self._batches.pop(delivered.batch):
            track = self._tracks[candidate.resource.name]
            track.in_flight = False
            self._busy.difference_update(track.commands)
        for report in delivered.reports:
            track = self._tracks[report.resource]
            for note in report.notes if report.outcome != "would change" else ():
                self._say("warning", "target.warning", resource=report.resource, warning=note)
            if report.error is not None:
                newer = track.dirty
                self._fail(track, report.error)
                if newer:  # it changed meanwhile: what failed is not what it wants now
                    track.retry_at = float("-inf")
            else:
                self._succeed(track, report)
        self._send()

    def _succeed(self, track: Track, report: Report) -> None:
        if track.told and report.outcome == "unchanged":
            self._say("info", "resource.recovered", resource=report.resource)
        track.tried, track.told = True, False
        track.error = None
        track.backoff.reset()
        track.known = report.known
        resource = track.resource
        commit = Commit(resource, track.trigger, len(track.keys), self.mirror.revision(resource.prefixes), report.took)
        if not track.dirty:
            track.keys.clear()
        if report.outcome == "would change":
            self._say("warning", "resource.would_change", resource=resource.name, target=resource.dest)
        elif report.outcome == "changed" and (resource.reload_cmd is None or self._manners.sync_only):
            self._actions.append(commit.tell(reloaded=False))
        elif report.outcome == "changed":
            self._debts.owe(commit, self._now)
        else:
            self._say("debug", "resource.unchanged", resource=resource.name)

    def _fail(self, track: Track, error: ConfpyError, *, quiet: bool = False) -> None:
        """Keep a resource dirty, and say why: at first, when the reason is another, then ever more rarely."""
        before, track.error = track.error, error
        track.tried = track.dirty = True
        self._dirty[track.order] = track
        attempt = track.backoff.attempts + 1
        wait = track.backoff.wait()
        track.retry_at = self._now + wait
        once = self._manners.onetime
        if once:
            self._errors.append(error)
        if not quiet and (once or before is None or before.message != error.message or rarely(attempt)):
            track.told = True
            again = {} if once else {"retry_in": round(wait, 1)}
            self._say("error", "resource.failed", **error.fields(), **again)

    def _tell_left_out(self, track: Track, rendered: Rendered) -> None:
        left_out = frozenset(rendered.left_out)
        for one in rendered.left_out:
            if one not in track.left_out:
                self._say("warning", "value.left_out", resource=track.resource.name, key=one.key, reason=one.reason)
        track.left_out = left_out

    def _take_reload(self, reloaded: Reloaded) -> None:
        self._actions += self._debts.take(reloaded, self._now, once=self._manners.onetime)
        if reloaded.error is not None and self._manners.onetime:
            self._errors.append(reloaded.error)

    # --- the world and drift ---------------------------------------------------------------------------------------

    def _resolve(self, lookups: set[Lookup]) -> None:
        new = tuple(sorted(lookups - self._asked, key=lambda lookup: (lookup.kind, lookup.name)))
        if new:
            self._number += 1
            self._asked.update(new)
            self._do(Resolve(self._number, new))

    def _take_facts(self, resolved: Resolved) -> None:
        self._asked.difference_update(resolved.facts)
        moved = set()
        for lookup, answer in resolved.facts.items():
            before = self._facts.get(lookup)
            if isinstance(answer, ConfpyError) and lookup.kind != "template":
                kept = before is not None and not isinstance(before, ConfpyError)
                did = "kept the answer from before" if kept else "the template sees no answer"
                if kept or not isinstance(before, ConfpyError) or before.message != answer.message:
                    names = sorted(
                        track.resource.name
                        for track in self._tracks.values()
                        if lookup in track.asked or lookup in track.awaited
                    )
                    self._say("warning", "lookup.failed", **answer.at(resource=", ".join(names)).fields(), did=did)
                if kept:
                    continue
            if lookup in self._facts and before != answer:
                moved.add(lookup)
            self._facts[lookup] = answer
        for track in self._tracks.values() if moved else ():
            if not moved.isdisjoint(track.asked):
                self._mark(track, track.trigger if track.dirty else "world")

    def _look(self) -> None:
        """Look at every target, and ask the world again for those who asked it."""
        self._look_at = self._now + jittered(self._manners.period, self._random)
        idle = [track for track in self._tracks.values() if not track.dirty and not track.in_flight]
        targets = tuple((track.resource, track.known) for track in idle if track.known is not None)
        if targets and not self._inspecting and not self._manners.noop:
            self._inspecting = True
            self._do(Inspect(targets))
        for track in idle:
            if track.timely:
                self._mark(track, "time")
        tracks = self._tracks.values()
        used = {lookup for track in tracks for lookup in (*track.asked, *track.awaited, *track.doubted)}
        self._facts = {lookup: answer for lookup, answer in self._facts.items() if lookup in used}
        self._resolve({lookup for track in tracks for lookup in track.asked if lookup.kind != "template"})

    def _take_drift(self, inspected: Inspected) -> None:
        self._inspecting = False
        for name, stamp in inspected.stamps.items():
            track = self._tracks[name]
            track.drift = ""
            if track.known is not None:
                track.known = Known(track.known.digest, stamp)
        for name, what in inspected.drifted.items():
            track = self._tracks[name]
            if track.dirty or track.in_flight:
                continue  # it is on its way to being right
            restores = track.resource.on_drift == "restore"
            if restores or track.drift != what:
                did = "delivers it again" if restores else "leaves it (on_drift)"
                self._say("warning", "target.drifted", resource=name, target=track.resource.dest, drift=what, did=did)
            track.drift = what
            if restores:
                self._mark(track, "drift")

    # --- time and the end ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._stopping is not None:
            return
        if self._now >= self._load_at:
            self._load_at = NEVER
            self._do(Load())
        if self._now >= self._look_at:
            self._look()

    def _wake_at(self) -> float:
        moments = [self.mirror.wake_at(), self._debts.wake_at(), self._stop_at]
        if self._stopping is None:
            moments += (self._load_at, self._look_at)
            for track in self._dirty.values():
                if not track.in_flight:
                    moment = max(track.retry_at, track.settle.due())
                    if moment > self._now:
                        moments.append(moment)
        return min(moments)

    def _take_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._say("info", "signal.received", signal="SIGHUP", did="reads and looks at everything again")
            self.mirror.resync(self._now)
            self._look_at = self._now
        elif self._stopping is None:
            self._stopping = 128 + number
            self._stop_at = self._now + self._manners.stop_timeout
            self._waiting.clear()
            self._say(
                "info", "signal.received", signal=signal.Signals(number).name, did="ends what is in hand, then stops"
            )
        else:
            self._stop_at = self._now

    def _end(self) -> None:
        """Stop where there is nothing left to do, or no time left to do it."""
        if self._stopping is not None:
            working = bool(self._in_flight) or self._debts.running()
            late = self._now >= self._stop_at
            if working and late:
                self._do(Kill())
            if working and late and not self._killed:
                self._killed, self._stop_at = True, self._now + PUT_AWAY
            elif late or not working:
                self._stop(self._stopping)
        elif self._manners.onetime and self._loaded and not self._in_flight and self._settled():
            self._stop(exit_code(self._errors))

    def _settled(self) -> bool:
        """Say whether everything had its one try."""
        return all(track.tried for track in self._tracks.values()) and not self._debts

    def _stop(self, code: int) -> None:
        self._ended = True
        for command, names in self._debts.owed().items():
            self._say("warning", "reload.owed", command=command, resource=names, did="stops without it")
        self._do(Stop(code))

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _say(self, level: Level, event: str, **fields: object) -> None:
        self._actions.append(Say(level, event, fields))


def _batches(candidates: list[tuple[Track, Candidate]]) -> list[list[tuple[Track, Candidate]]]:
    """Put candidates that share a check or reload command into one batch, and those without commands into one."""
    batches: list[list[tuple[Track, Candidate]]] = []
    home: dict[str, int] = {}
    for pair in candidates:
        commands = pair[0].commands
        # A resource whose check is one batch's and whose reload is another's ties the two together.
        joined = sorted({home[command] for command in commands if command in home}) or [len(batches)]
        first = joined[0]
        if first == len(batches):
            batches.append([])
        for other in joined[1:]:
            for member in batches[other]:
                home.update(dict.fromkeys(member[0].commands, first))
            batches[first] += batches[other]
            batches[other] = []
        batches[first].append(pair)
        home.update(dict.fromkeys(commands, first))
    return [batch for batch in batches if batch]
