"""The owner's mind: what is dirty, when to pass, what is owed, when to end. Pure: no I/O, no thread, no clock.

``step`` takes messages and the time and returns actions. One-shot, polling and watching are the same mind; they
differ in when it ends and in how often it asks.

A resource is *dirty* from the first sign that its target might be wrong until a delivery succeeded; a failure leaves
it dirty and waiting. A *debt* is a reload that a commit owes: it is keyed by its command, so that many resources
with one command are paid by one run, and it is paid only by a run that began after the commit.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Literal, Protocol

from confpy.agent.batches import Batch, Batches, batches, checks_shared
from confpy.agent.fallback import Fallback, Saving
from confpy.agent.key_counts import Counts
from confpy.agent.lookups import Lookups
from confpy.agent.rejections import Rejections
from confpy.agent.reloads import Commit, PendingReloads
from confpy.agent.resources import ResourceState, outcome_of, paths, view_of
from confpy.agent.restores import AT_ONCE, Restores
from confpy.agent.shrink import Guard, ShrinkSuspicion
from confpy.agent.watched_files import WatchedFiles
from confpy.agent.watched_files import lookups as watched_lookups
from confpy.clock import NEVER, Backoff, Damping, Settle, jittered
from confpy.config.resource import Loaded, Resource
from confpy.errors import (
    CheckError,
    ConfpyError,
    ReloadError,
    StoreError,
    TemplateError,
    UsageError,
    bug,
    exit_code,
)
from confpy.events import Level, LogEvent
from confpy.frozen import frozen
from confpy.keys.prefixes import PrefixIndex
from confpy.keys.view import View
from confpy.messages import (
    Accepted,
    Action,
    Candidate,
    Delivered,
    DeliveredState,
    Edited,
    Follow,
    Group,
    Hold,
    Inspect,
    Inspected,
    Kill,
    Load,
    Message,
    Recall,
    Recalled,
    Recover,
    Recovered,
    Reject,
    Rejection,
    Release,
    Reloaded,
    Report,
    Resolved,
    Restored,
    Signalled,
    Stop,
    Sweep,
    Swept,
    Terminate,
    Touched,
    WakeAt,
    Woken,
)
from confpy.mirror.mirror import Mirror, MirrorResult, abbreviate
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered, World

LAST_WORDS = 2.0
"""Seconds between TERM and KILL for the commands that run when the time to stop is over: a part of that time."""
PUT_AWAY = 0.5
"""Seconds in which a delivery whose check was killed may remove its candidate."""
MOST_LOOKUPS = 5000
"""Questions to the world that one render may have: one that asks for something else each time would never end."""
MOST_KEYS = 10_000
"""Changed keys that are counted for the log while a resource cannot be delivered."""
MOST_SUSPICIONS = 20
"""Warnings of one resource about questions that can bring nothing."""
LOOK_FOR_ACCEPTANCE = 2.0
"""Seconds from one look whether a person accepted that keys are gone to the next."""
FIRST_TRIES = 10.0
"""Seconds for which groups wait for the first try of another one that shares their check."""
LACKING = 60.0
"""Seconds from one line that says that there are no resources yet to the next."""
FILES = {"file", "hash"}
"""The kinds of look-ups that are about watched files."""
EDITING = 0.2
"""Seconds of quiet after which edited resources and templates are read."""


REFUSED = "its reload has refused this content: the file of before stays"


class Renders(Protocol):
    """What the mind needs of ``confpy.templates.Renderer``."""

    def render(self, resource: Resource, view: View, world: World) -> Rendered: ...


@frozen
class AgentConfig:
    """How this confpy was told to behave."""

    onetime: bool = False
    period: float = 600.0
    """Seconds from one look at the targets and the world to the next."""
    noop: bool = False
    sync_only: bool = False
    no_reload: bool = False
    """Reload nothing, and owe nothing."""
    max_wait: float = 2.0
    """Seconds that deliveries may hold up a reload."""
    stop_timeout: float = 8.0
    """Seconds from the first signal to the end."""
    allow_empty: bool = False
    on_missing: Literal["error", "empty"] = "empty"
    """For resources that do not say, unless a read said it."""
    confdir: str = ""
    """For messages."""
    names_deletions: bool = True
    """The store's streams name what was deleted; otherwise it is missing from an answer."""
    saves: bool = False
    """Keep the delivered keys for a start without the store."""
    doubts: bool = True
    """The store may answer with less than there is."""
    backend: str = ""
    """The kind of store, as the setting names it."""
    prefix: str = ""
    """The setting that takes the place of the resources' own ``prefix``."""
    allow_stale: bool = False
    """One-shot may make targets from kept keys."""
    retry_for: float = 0.0
    """Seconds for which one-shot waits for a store that is not up."""
    timeout: float = NEVER
    """Seconds that one-shot has for its try, from when the store answered or was given up."""


class Agent:
    """The mind. Whoever carries it calls ``start`` once, then ``step`` with every message."""

    def __init__(
        self, config: AgentConfig, mirror: Mirror, renderer: Renders, random: Random, environ: Mapping[str, str]
    ) -> None:
        self.mirror = mirror
        self._config = config
        self._renderer = renderer
        self._random = random
        self._environ = environ
        self._tracks: dict[str, ResourceState] = {}
        self._groups: dict[tuple[bool, str], list[ResourceState]] = {}
        self._shared: dict[tuple[bool, str], frozenset[str]] = {}
        """Of groups that go on trial together: the checks that they share."""
        self._awaits_since = NEVER
        """When the first of them began to wait for another."""
        self._dirty: dict[int, ResourceState] = {}
        """Order → track, of those that are dirty: so that a change costs what it touches, not what exists."""
        self._changed: set[str] = set()
        self._inferred: set[str] = set()
        """Of the changed paths, those of which no stream said that they went."""
        self._index = PrefixIndex()
        self._lookups = Lookups()
        self._batches = Batches()
        self._debts = PendingReloads(random, longest_wait=config.max_wait, once=config.onetime)
        self._rejections = Rejections(random)
        self._watched = WatchedFiles()
        self._followed: tuple[str, ...] = ()
        """The files that changes are told of."""
        self._counts = Counts(config.backend, compares=config.doubts)
        self._lines: Mapping[str, Mapping[str, int]] = {}
        """Resource → the lines of its file that say ``keys`` and ``prefix``."""
        self._recovered = False
        self._before = Fallback(mirror.lists)
        self._saving = Saving()
        self._edited_at = NEVER
        self._began: float | None = None
        self._reached: float | None = None
        """When the store answered for the first time."""
        self._errors: list[ConfpyError] = []
        """What one-shot ends with."""
        self._invalid: Mapping[str, ConfpyError] = {}
        """Resource → why its file cannot be used; one-shot only."""
        self._loaded = False
        self._notes: Mapping[object, LogEvent] = {}
        """Of the last reading of ``conf.d``."""
        self._loading = False
        """``Loaded`` is yet to come."""
        self._load_at = NEVER
        self._lack_at = 0.0
        """When it may be said again that there are no resources."""
        self._load_backoff = Backoff(random, base=1.0, cap=30.0)
        self._load_damping = Damping()
        self._look_at = NEVER
        self._looks_next = False
        """Somebody asked for a look at everything."""
        self._inspecting = False
        self._restores = Restores(config.period)
        self._inspected: frozenset[str] = frozenset()
        """Resources whose targets are being looked at."""
        self._stopping: int | None = None
        """The first signal to stop."""
        self._terminate_at = self._stop_at = NEVER
        self._terminated = self._killed = False
        self._forced = False
        """The work in hand could not end by itself, or a second signal said that it shall not."""
        self._ended = False
        self._actions: list[Action] = []
        self._now = 0.0
        self._wall = 0.0

    def start(self) -> list[Action]:
        """Return the first actions: what an earlier confpy left is settled before anything else is looked at."""
        return [Recover()]

    def step(self, messages: Sequence[Message], now: float, wall: float) -> list[Action]:
        """Take messages at the monotonic time ``now`` (``wall``: since 1970 UTC) and return what to do."""
        self._now, self._wall, self._actions = now, wall, []
        self._began = now if self._began is None else self._began
        for message in messages or (Woken(),):
            self._take(message)
        self._mark_changed()
        if not self._ended:
            self._tick()
            if self._recovered:
                self._actions += self._debts.pay(self._now, self._batches.busy, self._batches.swapped_unchecked())
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
                    self._log("info", "stage.removed", file=file)
            case Recovered():
                self._take_over(message)
            case Restored():
                self._take_return(message)
            case Accepted():
                self._take_acceptance(message)
            case Recalled():
                self._actions += self._before.take(message)
            case Edited():
                self._edited_at = self._now + EDITING
            case Touched():
                self._ask_files()
            case Signalled():
                self._take_signal(message.number)
            case _:
                pass
        self._follow(self.mirror.step(message, self._now))

    # --- resources and keys ----------------------------------------------------------------------------------------

    def _take_over(self, recovered: Recovered) -> None:
        """Take what an earlier confpy left."""
        self._recovered = True
        self._watched.take_over(recovered.files)
        self._actions += recovered.notes
        self._counts.take_over(recovered)
        if self._config.doubts:
            self.mirror.expect(recovered.identity, recovered.revision)
        if self._stopping is not None:
            return  # what is owed stays in the ledger
        self._load()
        for owed in recovered.debts if not (self._config.noop or self._quiet) else ():
            self._debts.inherit(owed, self._now)
        if not (self._config.noop or self._quiet):
            self._actions += self._debts.take_over(recovered.runs, self._now, self._wall)
            self._rejections.take_over(recovered.rejections, recovered.in_place, self._now, self._wall)

    @property
    def _quiet(self) -> bool:
        """Whether nothing is reloaded."""
        return self._config.sync_only or self._config.no_reload

    def _load(self) -> None:
        self._loading = True
        self._do(Load())

    def _take_resources(self, loaded: Loaded) -> None:
        self._loading = False
        waits = not loaded.resources and not self._config.onetime and not self._loaded
        reasons = tuple(error.reason for error in (*loaded.all_errors, *loaded.warnings))
        if not waits or self._load_damping.admits(reasons, self._load_backoff.attempts + 1, self._now):
            notes: dict[object, LogEvent] = {(note.event, *note.fields.items()): note for note in loaded.notes}
            self._actions += [note for key, note in notes.items() if key not in self._notes]
            self._notes = notes
            for warning in loaded.warnings:
                self._log("warning", "resource.warning", **warning.fields())
            for error in loaded.all_errors:
                self._log("error", "resource.invalid", **error.fields())
        lacking = not loaded.resources and not loaded.all_errors
        if lacking:
            self._lack_resources(loaded)
        if waits:
            wait = self._now + self._load_backoff.wait()
            self._load_at = min(wait, self._lack_at) if lacking else wait
            return
        if self._loaded and not loaded.found:
            return
        if self._config.onetime:
            self._errors += loaded.all_errors
            self._invalid = loaded.errors
        if not self._config.noop:
            known = {track.resource.dest for track in self._tracks.values()}
            self._do(Sweep(tuple(one.dest for one in loaded.resources if one.dest not in known)))
        self._adopt(loaded)
        if lacking and not self._config.onetime:
            self._load_at = self._lack_at
        if not self._loaded:
            self._look_at = self._now + jittered(self._config.period, self._random)
        self._loaded = True
        self._follow(self.mirror.want({name: track.resource.prefixes for name, track in self._tracks.items()}))

    def _adopt(self, loaded: Loaded) -> None:
        """Run these resources from now on; those whose file is broken by now go on as they were."""
        before, self._tracks = self._tracks, {}
        self._lines = {**self._lines, **loaded.lines}
        self._dirty, self._groups, self._index = {}, {}, PrefixIndex()
        wanted = {resource.name: resource for resource in loaded.resources}
        broken = loaded.errors.keys() - wanted.keys()
        wanted |= {name: track.resource for name, track in before.items() if name in broken}
        for order, (name, resource) in enumerate(wanted.items()):
            track = before.pop(name, None)
            if track is None:
                track = self._new_track(resource)
                if self._loaded:
                    self._log("info", "resource.added", resource=name)
            elif track.resource != resource:
                self._renew(track, resource)
            track.order = order
            self._tracks[name] = track
            self._groups.setdefault(track.group, []).append(track)
            if track.dirty:
                self._dirty[order] = track
            for cover in paths(resource):
                self._index.add(cover, name)
        self._shared = checks_shared({key: [one.resource for one in tracks] for key, tracks in self._groups.items()})
        followed = tuple(sorted({path for track in self._tracks.values() for path in track.resource.watch_files}))
        if followed != self._followed and not self._config.onetime:
            self._followed = followed
            self._do(Follow(followed))
        for name, track in before.items():
            self._log("info", "resource.removed", resource=name, did="left its target as it is")
            self._restores.forget(name)
            if track.guard.doubt is not None:
                self._do(Release(name))

    def _new_track(self, resource: Resource) -> ResourceState:
        settle, backoff = Settle(resource.settle, resource.max_wait), Backoff(self._random)
        track = ResourceState(0, resource, settle, backoff, self._view_of(resource))
        track.guard = self._counts.guard(resource, self.mirror.store)
        return track

    def _renew(self, track: ResourceState, resource: Resource) -> None:
        """Its file was edited: everything about it may be another."""
        self._log("info", "resource.edited", resource=resource.name)
        self._restores.forget(resource.name)
        if track.resource.dest != resource.dest:
            track.known = None
        if set(track.resource.reads) != set(resource.reads):
            if track.guard.doubt is not None:
                self._do(Release(resource.name))
            track.guard, track.accepted = track.guard.after_edit(track.resource, resource), False
        track.resource = resource
        track.view = self._view_of(resource)
        track.settle = Settle(resource.settle, resource.max_wait)
        track.awaited = track.doubted = frozenset()
        track.suspicions = frozenset()
        track.dirty, track.trigger, track.retry_at = True, "edit", -NEVER

    def _view_of(self, resource: Resource) -> View:
        return view_of(resource, self.mirror.tree, self.mirror.lists, self.mirror.spells)

    def _lack_resources(self, loaded: Loaded) -> None:
        where = self._config.confdir
        what = f"no resource in {where}/conf.d" if loaded.found else f"there is no {where}/conf.d"
        if not self._config.onetime:
            if self._now >= self._lack_at:
                self._lack_at = self._now + LACKING
                self._log("warning", "resources.missing", error=what, did=f"waits for {where}/conf.d/*.toml")
        elif not self._config.allow_empty:
            error = UsageError(what, hint="name another with -confdir, or allow it with -allow-empty", file=where)
            self._errors.append(error)
            self._log("error", "resources.missing", **error.fields())

    def _follow(self, turn: MirrorResult) -> None:
        """Take what the mirror made of a message."""
        self._actions += turn.actions
        self._changed |= turn.changed
        if turn.learned or not self._config.names_deletions:
            self._inferred |= turn.changed
        if not turn.learned:
            return
        self._learn()

    def _learn(self) -> None:
        """Take what is known of the store by now: what it refuses, and whether it can be read at all."""
        if self.mirror.lost is not None:
            self._recall()
            if self._waits_for_store() or (self._config.onetime and self._before.state == "asked"):
                return
        elif self._reached is None:
            self._reached = self._now
        for track in self._tracks.values():
            error, before = self.mirror.error(track.resource.prefixes), track.error
            if error is None:
                if isinstance(before, StoreError):
                    track.retry_at = -NEVER
            elif self._config.onetime and (
                track.tried or (error is self.mirror.lost and self._before.holds(_prefixes(self._groups[track.group])))
            ):
                continue
            elif before is None or before.message != error.message:
                # Each has an error of its own: what one adds to it must not show in another's.
                own = error.copy(StoreError).at(resource=track.resource.name)
                self._fail(track, own, quiet=True)  # the mirror tells of it, once for all

    def _mark_changed(self) -> None:
        """Make dirty whom the changed paths concern. What arrived together counts as one change to each."""
        concerned: dict[str, ResourceState] = {}
        for path in self._changed:
            for name in self._index.match(path):
                track = self._tracks[name]
                if track.resource.text_prefixes and not track.view.shows(path):
                    continue
                concerned[name] = track
                if path in self._inferred:
                    track.guard.named = track.guard.named_in_flight = False
                if len(track.keys) < MOST_KEYS:
                    track.keys.add(path)
        self._changed, self._inferred = set(), set()
        for track in concerned.values():
            if track.tried:
                track.settle.note(self._now)
            self._mark(track, "change" if track.tried else "start")

    def _mark(self, track: ResourceState, trigger: str) -> None:
        """Make it dirty; the new reason goes before a wait that an older failure asked for."""
        track.dirty = True
        track.trigger = trigger
        track.retry_at = -NEVER
        self._dirty[track.order] = track

    # --- passes ----------------------------------------------------------------------------------------------------

    def _pass(self) -> None:
        """Render what is dirty and due, and send it off in batches."""
        if not self._recovered:
            return
        world = World(self._wall, self._environ, self._lookups.facts)
        ready: list[tuple[list[ResourceState], Group]] = []
        needed: set[Lookup] = set()
        keys = list(dict.fromkeys(track.group for _, track in sorted(self._dirty.items())))
        awaited = self._awaited(keys)
        for key in keys:
            tracks = self._groups[key]
            if key in self._shared and not awaited.isdisjoint(self._shared[key]):
                continue
            old = self._is_made_from_old(tracks)
            if not old and not self._due(tracks):
                continue
            candidates = self._render(tracks, world, needed, old=old)
            if candidates and not old and (until := self._refused_until(tracks, candidates)) is not None:
                self._wait_for(tracks, until)
            elif candidates:
                ready.append((tracks, Group(key[1] if key[0] else tracks[0].resource.dest, tuple(candidates))))
        self._actions += self._lookups.ask(needed)
        ready = self._with_all_that_share(ready, keys) if needed else ready
        for batch in batches([(pair, _commands(pair[0])) for pair in ready]):
            commands = frozenset(command for tracks, _ in batch for command in _commands(tracks))
            swaps = any(_swaps(tracks) for tracks, _ in batch)
            self._batches.add(Batch(tuple(group for _, group in batch), commands, swaps))
            for tracks, _ in batch:
                for track in tracks:
                    track.in_flight, track.dirty, track.drift = True, False, ""
                    track.guard.named_in_flight = True
                    track.delivering, track.keys = track.keys, set()
                    self._dirty.pop(track.order, None)
                    track.settle.done()
        self._actions += self._batches.send()

    def _awaited(self, keys: Iterable[tuple[bool, str]]) -> set[str]:
        """Return the shared checks of groups that will have their first try as soon as what they need is known.

        The others that share one wait for them: on an empty machine none may pass without all.
        """
        shared = [key for key in keys if key in self._shared] if self._shared else []
        found = {check for key in shared if self._is_to_come(self._groups[key]) for check in self._shared[key]}
        self._awaits_since = min(self._awaits_since, self._now) if found else NEVER
        return found if self._now < self._awaits_since + FIRST_TRIES else set()

    def _is_to_come(self, tracks: Sequence[ResourceState]) -> bool:
        """Say whether a group has had no try, and waits for nothing but look-ups and the first read of its keys."""
        if all(track.tried for track in tracks):
            return False
        if any(track.in_flight or track.error is not None or track.guard.doubt is not None for track in tracks):
            return False
        if any(self._lookups.awaits(track.awaited) for track in tracks):
            return True
        is_read = all(self.mirror.ready(track.resource.prefixes) for track in tracks)
        return not is_read and not self._before.holds(_prefixes(tracks))

    def _with_all_that_share(
        self, ready: list[tuple[list[ResourceState], Group]], keys: Iterable[tuple[bool, str]]
    ) -> list[tuple[list[ResourceState], Group]]:
        """Leave out those that wait for another whose render has just asked for something."""
        awaited = self._awaited(keys)
        for tracks in (tracks for tracks, _ in ready if not awaited.isdisjoint(self._checks_of(tracks))):
            for track in tracks:
                track.recalled = False
        return [(tracks, group) for tracks, group in ready if awaited.isdisjoint(self._checks_of(tracks))]

    def _checks_of(self, tracks: Sequence[ResourceState]) -> frozenset[str]:
        return self._shared.get(tracks[0].group, frozenset())

    def _due(self, tracks: Sequence[ResourceState]) -> bool:
        """Say whether a group can be rendered now: one of it should be, and nothing that it needs is amiss."""
        dirty = [track for track in tracks if track.dirty]
        return (
            any(self._now >= track.retry_at for track in dirty)
            and all(self._now >= track.settle.due() for track in dirty)
            and not any(track.in_flight or (track.tried and self._config.onetime) for track in tracks)
            and not any(self._lookups.awaits(track.awaited) for track in tracks)
            and self._are_free(tracks)
            and all(self.mirror.ready(track.resource.prefixes) for track in tracks)
        )

    def _are_free(self, tracks: Sequence[ResourceState]) -> bool:
        """Say whether no command of a group is in use: no program shall read files that are there on trial."""
        taken = self._batches.busy | self._debts.restoring() | (self._debts.reloading() if _swaps(tracks) else set())
        return taken.isdisjoint(_commands(tracks))

    def _render(
        self, tracks: Sequence[ResourceState], world: World, needed: set[Lookup], *, old: bool
    ) -> list[Candidate] | None:
        """Return the candidates of a group, or None where one of them cannot be made now."""
        if not old and not self._are_believed(tracks):
            return None
        for track in tracks:
            track.recalled = old
        candidates = []
        for track in tracks:
            try:
                content = self._render_one(track, world, old=old)
            except Needs as needs:
                track.awaited |= needs.lookups
                needed |= needs.lookups
                for one in tracks:
                    one.recalled = False
                if len(track.awaited) <= MOST_LOOKUPS:
                    return None
                track.awaited = frozenset()
                failure = TemplateError(f"the template asks for more than {MOST_LOOKUPS} names, paths or templates")
                self._fail_group(tracks, track, failure.at(resource=track.resource.name))
                return None
            except ConfpyError as error:
                self._fail_group(tracks, track, error.at(resource=track.resource.name))
                return None
            except Exception as error:  # noqa: BLE001 - a bug of ours stops this group and no other
                self._fail_group(tracks, track, bug(error).at(resource=track.resource.name))
                return None
            files = self._watched.digest(track.resource, world.facts)
            renewed = not (self._quiet or old) and self._watched.are_renewed(track.resource, files)
            delivered = track.known.digest if track.known is not None else b""
            keys = len(self._view(track, old=old))
            # Taken now: what comes while the delivery is under way is not in its content.
            revision = 0 if old else self.mirror.revision(track.resource.prefixes)
            cause = (revision, track.trigger, len(track.keys))
            more = (old, track.torn, delivered, files, renewed, *cause)
            candidates.append(Candidate(track.resource, content, keys, *more))
        return candidates

    def _refused_until(self, tracks: Sequence[ResourceState], candidates: Sequence[Candidate]) -> float | None:
        """Return the monotonic time before which a group stays as it is, since a reload refused just these contents."""
        refused = any(track.resource.name in self._rejections for track in tracks)
        if not refused or any(one.torn or one.renewed for one in candidates):
            return None
        others = {track.resource.name: track.known.digest.hex() for track in tracks if track.known is not None}
        return self._rejections.until(candidates, others, self._now)

    def _wait_for(self, tracks: Sequence[ResourceState], until: float) -> None:
        """Leave a group as it is until then, and log that at least once an hour."""
        refused = [track for track in tracks if track.resource.name in self._rejections]
        for track in refused:
            name, target = track.resource.name, track.resource.dest
            hint = "change its keys, its template or a command, or send SIGHUP to try it again now"
            if self._config.onetime:
                hint = 'change its keys, its template or a command; retry_refused = "0s" tries it again now'
            error = ReloadError(REFUSED, hint=hint, resource=name, target=target)
            self._fail(track, error, attempt=self._rejections[name].times, wait=until - self._now)
            track.retry_at = min(until, self._now + Damping.INTERVAL)
        for track in tracks:
            if track not in refused:
                self._hold_back(track, refused[0])

    def _view(self, track: ResourceState, *, old: bool) -> View:
        """Return a resource's keys: those of now, or those of before."""
        return (self._before.view(track.resource) if old else None) or track.view

    def _render_one(self, track: ResourceState, world: World, *, old: bool) -> bytes:
        """Return a resource's content; raises ``Needs`` and ``ConfpyError``."""
        resource = track.resource
        if not old and (lack := self._lack(resource)) is not None:
            raise lack
        if track.doubted:
            track.awaited, track.doubted = track.doubted, frozenset()
            raise Needs(track.awaited)
        try:
            rendered = self._renderer.render(resource, self._view(track, old=old), world)
        except TemplateError as error:
            track.awaited, track.doubted = frozenset(), error.asked
            raise
        watched = watched_lookups(resource)
        if missing := watched - world.facts.keys():
            raise Needs(missing)
        track.awaited = frozenset()
        track.asked, track.timely = rendered.asked | watched, rendered.timely
        self._tell_left_out(track, rendered)
        if rendered.outside and resource.prefixes:
            raise _outside(rendered.outside)
        self._tell_suspicions(track, rendered)
        return rendered.content

    def _fail_group(self, tracks: Sequence[ResourceState], culprit: ResourceState, error: ConfpyError) -> None:
        """Let none of a group be delivered since one of it cannot be."""
        self._fail(culprit, error)
        for track in tracks:
            if track is not culprit:
                self._hold_back(track, culprit)

    def _hold_back(self, track: ResourceState, culprit: ResourceState) -> None:
        """Keep a resource dirty until the one of its group that failed is tried again."""
        track.outcome = "held"
        track.tried = track.tried or self._config.onetime
        if track.dirty:
            track.retry_at = culprit.retry_at

    def _lack(self, resource: Resource) -> StoreError | None:
        """Return why the resource fails where a key that it asks for is not in the store, else None."""
        on_missing = resource.on_missing or self.mirror.on_missing or self._config.on_missing
        path = self.mirror.missing(resource.prefixes, resource.text_prefixes) if on_missing == "error" else None
        if path is None:
            return None
        hint = 'put it there, or write on_missing = "empty"'
        return StoreError("the key is not in the store", hint=hint, key=path, resource=resource.name)

    def _take_reports(self, delivered: Delivered) -> None:
        batch = self._batches.end(delivered.batch)
        sent = {one.resource.name: one for group in batch.groups for one in group.candidates}
        failed: dict[tuple[bool, str], ResourceState] = {}
        unchecked: dict[str, list[str]] = {}
        held: list[ResourceState] = []
        for report in delivered.reports:
            track = self._tracks.get(report.resource)
            if track is None:  # its file was removed meanwhile: what it changed is told to its program all the same
                self._take_of_removed(sent[report.resource], report)
                continue
            track.in_flight = False
            if report.error is not None or sent[report.resource].only_missing:
                track.keys |= track.delivering  # not delivered yet
            track.delivering = set()
            track.outcome = report.outcome
            track.torn = report.torn or (track.torn and report.error is not None)
            if report.unchecked:
                unchecked.setdefault(report.unchecked, []).append(report.resource)
            for note in report.notes:
                self._log("warning", "target.warning", resource=report.resource, warning=note)
            if report.outcome == "held":
                held.append(track)
            elif report.error is not None:
                newer = track.dirty
                self._fail(track, report.error, content=sent[report.resource].content)
                failed[track.group] = track
                if newer:  # it changed meanwhile: what failed is not what it wants now
                    track.retry_at = -NEVER
            else:
                self._succeed(track, report, sent[report.resource])
        for track in held:
            newer = track.dirty
            track.dirty = True
            self._dirty[track.order] = track
            self._hold_back(track, failed.get(track.group, track))
            if newer:
                track.retry_at = -NEVER
        for command, names in unchecked.items():
            reason = "not checked: it needs the file in its place"
            self._log("warning", "check.skipped", command=command, resource=abbreviate(names), reason=reason)
        self._try_again_together(failed.values())
        self._count()
        self._actions += self._watched.save()
        # Before another message changes the keys that were delivered.
        if self._now >= self._saving.at and not self._changed:
            self._save()
        self._actions += self._batches.send()

    def _try_again_together(self, failed: Iterable[ResourceState]) -> None:
        """Let groups that were refused by a check that they share be due at one time: together they may pass."""
        refused = [track for track in failed if isinstance(track.error, CheckError)]
        checks = {check for track in refused for check in self._checks_of((track,))}
        if not checks:
            return
        alike = {
            track.group: track.retry_at
            for track in self._dirty.values()
            if isinstance(track.error, CheckError) and not checks.isdisjoint(self._checks_of((track,)))
        }
        moment = min(alike.values(), default=NEVER)
        for track in (track for key in alike for track in self._groups[key]):
            track.retry_at = min(track.retry_at, moment)

    def _take_of_removed(self, candidate: Candidate, report: Report) -> None:
        resource = candidate.resource
        if report.outcome == "changed":
            self._counts.note(candidate, recorded=bool(report.record))
        if report.outcome == "changed" and resource.reload_cmd is not None and not self._quiet:
            self._owe(Commit(resource, "removed", 0, candidate.revision, report.took, report.record))

    def _owe(self, commit: Commit) -> None:
        """Note a file that is in place, and whose reload is still to come."""
        self._actions.append(commit.committed())
        self._debts.owe(commit, self._now)

    def _succeed(self, track: ResourceState, report: Report, candidate: Candidate) -> None:
        resource = candidate.resource
        if candidate.only_missing:
            self._take_from_old(track, candidate, report)
        else:
            if track.told and report.outcome == "unchanged":
                self._log("info", "resource.recovered", resource=report.resource)
            track.tried, track.told = True, False
            track.damping.reset()
            track.error = None
            track.known = report.known if track.resource.dest == resource.dest else None
            self._remember(track, candidate, recorded=bool(report.record))
            self._take_content(resource, report)
            if resource.name not in self._rejections:
                track.backoff.reset()
        cause = (candidate.trigger, candidate.changes, candidate.revision)
        commit = Commit(resource, *cause, report.took, report.record)
        if report.outcome == "would change":
            differs = ", ".join(report.differs)
            self._log("warning", "resource.would_change", resource=resource.name, target=resource.dest, differs=differs)
        elif report.outcome == "changed" and (resource.reload_cmd is None or self._quiet):
            self._actions.append(commit.tell(reloaded=False))
        elif report.outcome == "changed":
            self._owe(commit)
        else:
            self._log("debug", "resource.unchanged", resource=resource.name)

    def _take_content(self, resource: Resource, report: Report) -> None:
        """Another content than the one that was refused is in place, or that one is on trial again."""
        if resource.name in self._rejections and report.known is not None:
            owes = report.outcome == "changed" or self._debts.owes(resource.name)
            if self._rejections.commit(resource.name, report.known.digest.hex(), owes=owes):
                self._do(Reject({resource.name: None}))

    def _remember(self, track: ResourceState, candidate: Candidate, *, recorded: bool) -> None:
        """Note how many keys were delivered: what the next answer of the store is measured by."""
        # What came meanwhile has been noted, and is still to be judged.
        track.guard.believe(candidate.keys, self.mirror.store, named=track.guard.named_in_flight)
        self._counts.note(candidate, recorded=recorded)
        if not (self._quiet or self._config.noop):
            self._watched.note(candidate.resource, candidate.files)
        if self._config.saves and not self._config.onetime:
            self._saving.want(self._now, len(self.mirror.tree))

    def _count(self, *, at_end: bool = False) -> None:
        """Have the ledger note what no record of a delivery says, and which store it is."""
        if not self._config.noop:
            self._actions += self._counts.tell(self.mirror.identity, self._newest, at_end=at_end)

    def _newest(self) -> int:
        return self.mirror.revision(_prefixes(self._tracks.values()))

    # --- keys that vanished, and keys of before --------------------------------------------------------------------

    def _are_believed(self, tracks: Sequence[ResourceState]) -> bool:
        """Say whether the keys of a whole group are believed; where not, it waits as a whole."""
        doubted = [track for track in tracks if self._lack(track.resource) is None and not self._believes(track)]
        for track in tracks if doubted else ():
            if track.dirty:
                track.retry_at = min(one.retry_at for one in doubted)
        return not doubted

    def _believes(self, track: ResourceState) -> bool:
        """Say whether the keys are believed; where they are not, see to it that they will be, or that they are back."""
        guard, name, keys = track.guard, track.resource.name, len(track.view)
        before = guard.doubt
        # Asked of all resources only after another kind of store, and then answered by the first that has a key.
        others = len(self.mirror.tree) > 0 and (
            guard.made_from is None or any(len(one.view) for one in self._tracks.values())
        )
        verdict = guard.judge(track.resource, keys, self.mirror.store, self._now, self.mirror.read_at, others=others)
        doubt = guard.doubt
        if verdict == "yes" or track.accepted:
            if doubt is not None:
                why = "a person accepted it" if track.accepted else "another read says so, too"
                self._log("warning", "keys.confirmed", resource=name, keys=keys, reason=why)
                guard.believe(keys, self.mirror.store, named=True)
            elif before is not None and track.resource.on_shrink == "render" and keys <= before.keys:
                self._log("warning", "keys.confirmed", resource=name, keys=keys, reason='on_shrink = "render"')
            elif before is not None:
                self._log("info", "keys.returned", resource=name, keys=keys)
            if before is not None:
                self._do(Release(name))
                track.accepted = False
            return True
        assert doubt is not None
        if doubt != before:
            fields = {"reason": doubt.reason, "did": self._wait_of(track, doubt), **self._advice(track, doubt)}
            self._log("error", "keys.suspect", resource=name, **fields)
        self._do(Hold(name, doubt.reason if doubt != before else ""))
        if self._now >= doubt.confirm_at:
            self._follow(self.mirror.reread(self._now))
        confirm_at = doubt.confirm_at if doubt.confirm_at > self._now else NEVER
        track.retry_at = min(self._now + LOOK_FOR_ACCEPTANCE, confirm_at)
        return False

    def _wait_of(self, track: ResourceState, doubt: ShrinkSuspicion) -> str:
        """Say what becomes of a resource whose keys are not believed."""
        # Where no count is known, nothing may ever have been delivered.
        did = "delivers nothing" if track.guard.keys is None and not doubt.edited else "keeps the target"
        if self._gives_up(doubt):
            limit = self._config.timeout
            short = f": shrink_grace is {track.resource.shrink_grace:g} s, -timeout {limit:g} s"
            return f"{did}, and fails" + (short if doubt.confirm_at < NEVER else "")
        if doubt.confirm_at < NEVER:
            return f"{did}; reads again in {max(0.0, doubt.confirm_at - self._now):.0f} s"
        return did

    def _advice(self, track: ResourceState, doubt: ShrinkSuspicion) -> dict[str, str | int]:
        """Return what to do about a doubt, and where what was edited stands."""
        resource, again = track.resource, ", then this again" if self._config.onetime else ""
        if not doubt.edited:
            return {"hint": f"run confpy accept {resource.name}{again}, if they are to be gone"}
        where: dict[str, str | int] = {}
        if doubt.edited == "backend":
            wrong = "is it the right store (-backend, -node)?"
        elif doubt.edited == "prefix" and self._config.prefix:
            wrong = f"is -prefix right ({self._config.prefix})?"
        else:
            wrong = f"is {doubt.edited} right?"
            lines = self._lines.get(resource.name, {})
            where = {"file": resource.file, "key": doubt.edited}
            where |= {"line": lines[doubt.edited]} if doubt.edited in lines else {}
        accept = f"run confpy accept {resource.name}{again}"
        hint = f'{wrong} If the keys are to be gone, {accept}, or write on_shrink = "render"'
        return {**where, "hint": hint}

    def _gives_up(self, doubt: ShrinkSuspicion) -> bool:
        """Say whether one-shot ends before a doubt does."""
        return self._config.onetime and (doubt.confirm_at == NEVER or doubt.confirm_at > self._deadline())

    def _take_acceptance(self, accepted: Accepted) -> None:
        track = self._tracks.get(accepted.resource)
        doubt = track.guard.doubt if track is not None else None
        if track is None or doubt is None:
            return
        track.accepted = accepted.accepted
        if track.accepted:
            for one in self._groups[track.group]:
                one.retry_at = -NEVER
        elif self._gives_up(doubt) and not track.tried:
            advice = self._advice(track, doubt)
            hint = str(advice.pop("hint"))
            error = StoreError(f"{doubt.reason}: that is not believed", hint=hint, **advice)
            self._fail_group(self._groups[track.group], track, error.at(resource=accepted.resource))

    def _recall(self) -> None:
        """Ask for the keys of before, while the store cannot be read."""
        wanted = self._config.allow_stale if self._config.onetime else self._config.saves
        if wanted and self._before.state == "unknown":
            self._before.state = "asked"
            self._do(Recall())

    def _is_made_from_old(self, tracks: Sequence[ResourceState]) -> bool:
        """Say whether a group is to be made from the keys of before: nothing newer is known, and it was not yet."""
        return (
            self._before.holds(_prefixes(tracks))
            and not any(track.recalled or track.known is not None or track.in_flight for track in tracks)
            and not self._waits_for_store()
            and not self.mirror.ready(_prefixes(tracks))
            and not any(self._lookups.awaits(track.awaited) for track in tracks)
            and self._are_free(tracks)
        )

    def _take_from_old(self, track: ResourceState, candidate: Candidate, report: Report) -> None:
        """A target that was made from the keys of before still wants those of now."""
        if self._config.onetime:
            track.tried = True
            track.error = None
        track.dirty = True
        self._dirty[track.order] = track
        if report.outcome == "changed":
            # An empty answer would take these keys from it, too.
            track.guard = Guard(candidate.keys, self.mirror.store, named=False)
            self._counts.note(candidate, recorded=bool(report.record))
            self._log("warning", "resource.stale", resource=track.resource.name, target=track.resource.dest)

    def _save(self) -> None:
        """Keep the delivered keys, for a start without the store."""
        self._saving.at = NEVER
        delivered: list[Resource] = []
        others: list[Resource] = []
        for track in self._tracks.values():
            (delivered if self._has_delivered(track) else others).append(track.resource)
        if delivered:
            self._do(self._saving.save(self.mirror.tree, delivered, others, self._now))

    def _has_delivered(self, track: ResourceState) -> bool:
        """Say whether the keys that a resource has now are those that it was delivered with."""
        waits = track.dirty or track.in_flight or track.guard.doubt is not None
        return track.tried and track.error is None and not waits

    # --- failures ----------------------------------------------------------------------------------------------------

    def _fail(
        self,
        track: ResourceState,
        error: ConfpyError,
        *,
        quiet: bool = False,
        content: bytes | None = None,
        attempt: int = 0,
        wait: float = 0.0,
    ) -> None:
        """Keep a resource dirty, and log why, unless the same was logged lately (``Damping``).

        ``content``: what could not be delivered. ``quiet``: somebody else logs it. ``attempt``, ``wait``: how many
        times it was tried, and the seconds to the next, where nothing was tried now; else the backoff says so.
        """
        track.error = error
        track.outcome = "failed"
        track.tried = track.dirty = True
        self._dirty[track.order] = track
        tries = 0 if attempt else track.backoff.attempts + 1
        if not attempt:
            attempt, wait = tries, track.backoff.wait()
        track.retry_at = self._now + wait
        once = self._config.onetime
        if once:
            self._errors.append(error)
        if not quiet and (once or track.damping.admits(error.reason, tries, self._now, content)):
            track.told = True
            again = {} if once else {"attempt": attempt, "retry_in": round(wait, 1)}
            self._log("error", "resource.failed", **error.fields(), **again)

    def _tell_left_out(self, track: ResourceState, rendered: Rendered) -> None:
        left_out = frozenset(rendered.left_out)
        for one in rendered.left_out:
            if one not in track.left_out:
                self._log("warning", "value.skipped", resource=track.resource.name, key=one.key, reason=one.reason)
        track.left_out = left_out

    def _tell_suspicions(self, track: ResourceState, rendered: Rendered) -> None:
        """Say once what the template asks for in vain: of what it computes there could be ever more."""
        resource = track.resource
        for one in rendered.suspicions:
            if one not in track.suspicions and len(track.suspicions) < MOST_SUSPICIONS:
                track.suspicions |= {one}
                where = {"resource": resource.name, "template": resource.src}
                self._log("warning", "template.suspicious", **where, asked=one.asked, hint=one.hint)

    def _take_reload(self, reloaded: Reloaded) -> None:
        if not self._debts.is_inherited(reloaded.key):
            if reloaded.error is not None and self._config.onetime:
                self._errors.append(reloaded.error)
            for name in self._debts.paying(reloaded.key) & self._tracks.keys():
                self._tracks[name].unread = reloaded.error
        if reloaded.error is None and self._rejections:
            self._rejections.accept(self._debts.paying(reloaded.key))
        self._actions += self._debts.take(reloaded, self._now)

    def _take_return(self, restored: Restored) -> None:
        """The old files are back: what the store wants is tried again later, as a failure is."""
        rejections: dict[str, Rejection | None] = {}
        for report in restored.reports:
            name = report.resource
            track = self._tracks.get(name)
            if refused := restored.refused.get(name):
                resource = None if track is None else track.resource
                rejections[name] = self._rejections.add(name, resource, refused, self._now, self._wall)
            if track is None:
                continue
            if report.error is None:
                track.known = report.known
            error = ReloadError("the reload refused it: the file of before is back", resource=report.resource)
            self._fail(track, report.error or error, quiet=report.error is None)
        if rejections:
            self._do(Reject(rejections))
        for owed in restored.owed:
            self._debts.inherit(owed, self._now)
        self._actions += self._debts.restored(restored.reports, restored.key, self._now)

    # --- the world and drift ---------------------------------------------------------------------------------------

    def _take_facts(self, resolved: Resolved) -> None:
        def readers(lookup: Lookup) -> list[str]:
            tracks = self._tracks.values()
            return [track.resource.name for track in tracks if lookup in track.asked or lookup in track.awaited]

        moved, said = self._lookups.take(resolved, readers)
        self._actions += said
        for track in self._tracks.values() if moved else ():
            if touched := moved & track.asked:
                kinds = {lookup.kind for lookup in touched}
                why = "template" if "template" in kinds else "file" if kinds & FILES else "world"
                self._mark(track, track.trigger if track.dirty else why)

    def _is_edited(self) -> bool:
        """Say whether the configuration is about to be another: a target may belong to nobody by then."""
        return self._loading or self._edited_at < NEVER

    def _ask_files(self) -> None:
        """Ask again for the files of resources that have some."""
        tracks = (track for track in self._tracks.values() if track.resource.watch_files)
        asked = {lookup for track in tracks for lookup in (*track.asked, *track.doubted) if lookup.kind in FILES}
        self._actions += self._lookups.ask(asked)

    def _look(self) -> None:
        """Look at every target, and ask the world again for those who asked it."""
        self._look_at = self._now + jittered(self._config.period, self._random)
        self._looks_next = self._looks_next and bool(self._batches or self._inspecting)
        idle = [track for track in self._tracks.values() if not track.dirty and not track.in_flight]
        targets = tuple((track.resource, track.known) for track in idle if track.known is not None)
        if targets and not self._inspecting and not self._config.noop:
            self._inspecting = True
            self._inspected = frozenset(resource.name for resource, _ in targets)
            self._do(Inspect(targets))
        for track in idle:
            if track.timely:
                self._mark(track, "time")
        tracks = self._tracks.values()
        used = {lookup for track in tracks for lookup in (*track.asked, *track.awaited, *track.doubted)}
        self._lookups.keep(used)
        asked = {lookup for track in tracks for lookup in track.asked if lookup.kind != "template"}
        self._actions += self._lookups.ask(asked)

    def _take_drift(self, inspected: Inspected) -> None:
        self._inspecting = False
        # Judged by the configuration that is about to be read: the target may be gone because its resource is.
        self._looks_next = self._looks_next or bool(inspected.drifted and self._is_edited())
        for name, stamp in inspected.stamps.items():
            track = self._tracks.get(name)
            if track is None:
                continue
            track.drift = ""
            if track.known is not None:
                track.known = DeliveredState(track.known.digest, stamp)
        self._restores.end(self._inspected - inspected.drifted.keys())
        for name, what in inspected.drifted.items() if not self._is_edited() else ():
            track = self._tracks.get(name)
            if track is None or track.dirty or track.in_flight:
                continue  # gone, or on its way to being right
            warns = track.resource.on_drift == "warn"
            if not warns and not self._restores.may_restore(name, what, self._now):
                continue
            if not warns or track.drift != what:
                did = "leaves it (on_drift)" if warns else "delivers it again"
                where = {"resource": name, "target": track.resource.dest, "template": track.resource.src}
                self._log("warning", "target.drifted", **where, drift=what, did=did)
            track.drift = what
            if not warns:
                self._tell_of_fight(track, what)
                self._mark(track, "drift")

    def _tell_of_fight(self, track: ResourceState, what: str) -> None:
        """Warn, once, that some other program makes the same change after each restore."""
        name = track.resource.name
        if not self._restores.is_new_fight(name):
            return
        wait = self._restores.wait(name, self._now)
        did = f"will restore it again in {wait:.0f} s at the earliest, then less often, at least hourly"
        hint = 'on_drift = "warn" leaves it as that program wants it'
        if what != "missing":
            hint += "; write_once = true makes it where it is missing, and never touches it again"
        fields = {"resource": name, "target": track.resource.dest, "drift": what, "restored": AT_ONCE}
        self._log("warning", "target.contested", **fields, did=did, hint=hint)

    # --- time and the end ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._stopping is not None:
            return
        if self._now >= self._load_at:
            self._load_at = NEVER
            self._load()
        if self._now >= self._edited_at:
            self._reload_configuration()
        # A look that was asked for sees every target: it waits for those that are being written or looked at.
        wanted = self._now >= self._look_at or (self._looks_next and not self._batches and not self._inspecting)
        if wanted and not self._is_edited():
            self._look()
        if self._now >= self._saving.at:
            self._save()
        if self._config.onetime and self._loaded:
            if self.mirror.lost is not None:
                self._learn()
            if self._now >= self._deadline():
                self._give_up()

    def _reload_configuration(self) -> None:
        """Read resources and templates again."""
        self._edited_at = NEVER
        if self._loaded:
            self._load()
        for track in self._tracks.values():
            if isinstance(track.error, TemplateError):
                track.retry_at = -NEVER
        used = {lookup for track in self._tracks.values() for lookup in (*track.asked, *track.awaited, *track.doubted)}
        # What nobody uses may be another by the time that somebody does.
        self._lookups.keep(used)
        self._actions += self._lookups.ask({lookup for lookup in used if lookup.kind == "template"})

    def _waits_for_store(self) -> bool:
        """Say whether one-shot goes on waiting for a store that cannot be read."""
        return self._config.onetime and self._now < (self._began or 0.0) + self._config.retry_for

    def _deadline(self) -> float:
        """Return the monotonic time at which one-shot gives up what has no outcome."""
        given_up = (self._began or 0.0) + self._config.retry_for
        return (given_up if self._reached is None else self._reached) + self._config.timeout

    def _give_up(self) -> None:
        for track in self._tracks.values():
            if not track.tried and not track.in_flight:
                error = self.mirror.error(track.resource.prefixes) or StoreError("no outcome in time (timeout)")
                self._fail(track, error.copy(StoreError).at(resource=track.resource.name))

    def _wake_at(self) -> float:
        moments = [self.mirror.wake_at(), self._debts.wake_at(self._now), self._terminate_at, self._stop_at]
        if self._stopping is None:
            look_at = NEVER if self._is_edited() else self._look_at
            moments += (self._load_at, look_at, self._edited_at, self._saving.at)
            if self._now < self._awaits_since + FIRST_TRIES:
                moments.append(self._awaits_since + FIRST_TRIES)
            if self._config.onetime:
                began = self._began or 0.0
                moments += (one for one in (began + self._config.retry_for, self._deadline()) if one > self._now)
            for track in self._dirty.values():
                if not track.in_flight:
                    moment = max(track.retry_at, track.settle.due())
                    if moment > self._now:
                        moments.append(moment)
        return min(moments)

    def _take_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stopping is not None:
            if number != signal.SIGHUP:
                self._hurry(name)
        elif number == signal.SIGHUP:
            self._log("info", "signal.received", signal=name, did="reads and looks at everything again")
            self.mirror.resync(self._now)
            self._restores.allow_all()
            self._edited_at = self._now
            self._looks_next = True
            self._debts.hurry()
            for name, moment in self._rejections.lift(self._now):
                if name in self._tracks:
                    self._tracks[name].retry_at = moment
        else:
            self._stopping = number
            self._stop_at = self._now + self._config.stop_timeout
            self._terminate_at = self._stop_at - min(LAST_WORDS, self._config.stop_timeout / 2)
            self._batches.drop_waiting()
            self._log("info", "signal.received", signal=name, did="ends what is in hand, then stops")

    def _hurry(self, name: str) -> None:
        """Take another signal to stop: it ends the wait for the work in hand, the next one that for its commands."""
        self._forced = True
        if self._killed:
            return
        if self._terminated:
            self._stop_at = self._now
        else:
            self._terminate_at, self._stop_at = self._now, min(self._stop_at, self._now + LAST_WORDS)
        self._log("info", "signal.received", signal=name, did="ends the commands that run, then stops")

    def _end(self) -> None:
        """Stop where there is nothing left to do, or no time left to do it."""
        if self._stopping is not None:
            # What an earlier confpy left half done is not left so: it would stay until somebody starts the next.
            working = not self._recovered or self._batches or self._debts.running()
            if not working or (self._killed and self._now >= self._stop_at):
                self._stop(self._stopped_code())
            elif self._now >= self._stop_at:
                self._killed = True
                self._stop_at = self._now + PUT_AWAY
                self._end_commands(Kill())
            elif self._now >= self._terminate_at:
                if not self._forced:
                    did = "asks the commands that still run to end"
                    hint = "raise stop_timeout if they need longer"
                    self._log("warning", "stop.late", did=did, hint=hint)
                self._end_commands(Terminate())
        elif self._config.onetime and self._loaded and not self._batches and self._settled():
            self._tell_end()
            self._stop(exit_code(self._errors))

    def _end_commands(self, action: Terminate | Kill) -> None:
        self._do(action)
        self._debts.stop()
        self._terminated = self._forced = True
        self._terminate_at = NEVER

    def _stopped_code(self) -> int:
        """Return the exit code of a confpy that a signal stopped. A daemon that did as it was asked has not failed."""
        assert self._stopping is not None
        if self._config.onetime:
            return 128 + self._stopping
        if not self._forced:
            return 0
        return 128 + (signal.SIGINT if self._stopping == signal.SIGINT else signal.SIGTERM)

    def _settled(self) -> bool:
        """Say whether everything had its one try."""
        return all(track.tried for track in self._tracks.values()) and not self._debts

    def _tell_end(self) -> None:
        """List at the end what failed, so that nobody has to look for it; what failed alike, together.

        Where there was nothing to do, say so: else nothing shows what was looked at.
        """
        tracks = self._tracks.values()
        if not self._errors and all(track.outcome == "unchanged" for track in tracks):
            count = len(tracks)
            took = round(self._now - (self._began or 0.0), 3)
            fields = {"resources": count, "changed": 0, "unchanged": count, "took": took}
            self._do(LogEvent("info", "onetime.done", fields, last=True))
        if len(self._errors) > 1:
            alike: dict[str, list[str]] = {}
            for error in self._errors:
                alike.setdefault(error.message, []).append(str(error.where.get("resource", "?")))
            each = "; ".join(f"{abbreviate(names)}: {message}" for message, names in alike.items())
            self._log("error", "onetime.failed", failures=len(self._errors), each=each)

    def outcomes(self) -> list[dict[str, object]]:
        """Return what became of each resource, those included whose file could not be read."""
        found = [
            outcome_of(name, track.resource.dest, track.outcome or "not tried", track.error or track.unread)
            for name, track in self._tracks.items()
        ]
        return found + [outcome_of(name, "", "failed", error) for name, error in self._invalid.items()]

    def _stop(self, code: int) -> None:
        self._ended = True
        if self._saving.wanted:
            self._save()
        self._count(at_end=True)
        for command, names in self._debts.owed().items():
            self._log("warning", "reload.owed", command=command, resource=names, did="stops without it")
        self._do(Stop(code))

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _log(self, level: Level, event: str, **fields: object) -> None:
        self._actions.append(LogEvent(level, event, fields))


def _prefixes(tracks: Iterable[ResourceState]) -> list[str]:
    return [prefix for track in tracks for prefix in track.resource.prefixes]


def _commands(tracks: Sequence[ResourceState]) -> list[str]:
    """Return what ties a group to others in a batch."""
    return [command for track in tracks for command in track.commands]


def _outside(lists: Sequence[str]) -> TemplateError:
    """Return the error of a template that lists only what its resource does not ask for: its file would be empty."""
    hint = "that is not below any of the resource's keys: see keys and prefix in its file"
    return TemplateError(f"what the template lists can only be empty: {abbreviate(lists)}", hint=hint)


def _swaps(tracks: Sequence[ResourceState]) -> bool:
    """Say whether a group is put in place before it is checked."""
    return any(track.resource.check_mode == "swap" and track.resource.check_cmd is not None for track in tracks)
