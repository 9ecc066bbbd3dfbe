"""The resources: what the agent holds of each, their groups, which are dirty, which a path concerns. Pure.

What a step needs is found by an index, never by a walk over all of them: they may be ten thousand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from confpy.agent.batches import checks_in_place
from confpy.agent.runqueue import RunQueue
from confpy.agent.shrink import Guard
from confpy.agent.step import Step
from confpy.candidates import DeliveredState, Outcome, OwnedFile
from confpy.clock import NEVER, Backoff, Damping, Settle
from confpy.config.resource import Resource, commands_of
from confpy.errors import ConfpyError, StoreError
from confpy.frozen import define, field
from confpy.history.records import Previous
from confpy.keys.prefixes import PrefixIndex, normalise
from confpy.keys.view import View
from confpy.mirror.mirror import Mirror
from confpy.templates.lookup import Lookup

if TYPE_CHECKING:
    from confpy.keys.each import Matches
    from confpy.mirror.mirrors import Mirrors

NO_COMMANDS = ""
"""What resources with neither check nor reload share instead of a command."""


class GroupKey(NamedTuple):
    """Whom the agent renders and delivers together: a group, or one resource that is in none."""

    name: str
    """The group's, or the resource's."""
    is_lone: bool = False


class Plan(NamedTuple):
    """What items wait for: the resource that they are of is about to say which of them there are."""

    name: str


@define
class ResourceState:
    """What the agent holds of one resource.

    It is *dirty* from the first sign that its target might be wrong until a delivery of it begins; a failure makes it
    dirty again, and due at ``retry_at``.
    """

    order: int
    """Its place among the resources: passes keep it."""
    resource: Resource
    settle: Settle
    backoff: Backoff
    view: View
    dirty: bool = True
    trigger: str = "start"
    """What made it dirty."""
    changes: set[str] = field(default_factory=set)
    """Paths that changed since its content was last rendered for a delivery."""
    changes_in_flight: set[str] = field(default_factory=set)
    """Paths whose changes are in the delivery under way."""
    retry_at: float = -NEVER
    in_flight: bool = False
    tried: bool = False
    """It had an outcome: what one-shot waits for."""
    error: ConfpyError | None = None
    damping: Damping = field(default_factory=Damping)
    logged: bool = False
    """A failure was logged since it was right last."""
    known: DeliveredState | None = None
    asked: frozenset[Lookup] = frozenset()
    timely: bool = False
    """It printed the time: every look renders it anew."""
    awaited: frozenset[Lookup] = frozenset()
    """Look-ups without which it cannot be rendered: all that this render has met so far."""
    stale: frozenset[Lookup] = frozenset()
    """What a failed render rested on: asked again before the next."""
    skipped: frozenset[object] = frozenset()
    """The values that the last render skipped: each is logged once."""
    suspicions: frozenset[object] = frozenset()
    """Those of its template that were logged: each is logged once."""
    drift: str = ""
    """The drift that was logged last."""
    guard: Guard = field(default_factory=Guard)
    torn: bool = False
    """Its group was left half new: it is checked and reloaded even where nothing is to be written any more."""
    accepted: bool = False
    """A person accepted that its keys are gone."""
    outcome: Outcome | None = None
    """Of its last delivery."""
    cached: bool = False
    """It was made from cached keys, or could not be."""
    unread: ConfpyError | None = None
    """Why its program has not read it."""
    reload_avoided: bool = False
    """Its running program was told of its last change."""
    wrong_since: float = 0.0
    """Monotonic time since which it is not as it should be, where it is not."""
    failed_since: float = 0.0
    """And since which it fails."""
    sent_at: float = 0.0
    """When its last delivery began."""
    right_since: float = 0.0
    """And since which it is as it should be."""
    changed_at: float | None = None
    """When its target was last changed by this process."""
    loaded_at: float | None = None
    """When it was last changed and, where it has a reload, its program has loaded it."""
    revision: int = 0
    """The store's revision that its target was last delivered or compared with."""
    undone: str = ""
    """Why it is held, where ``confpy undo`` has put back, or is to, what it was; empty: it is not held so."""
    undone_at: float = 0.0
    """Monotonic time since which it is held so."""
    to_restore: Previous | None = None
    """What is to be put back now."""
    matches: Matches | None = None
    """Of a resource with ``for_each``: the items that are there."""
    plan: ResourceState | None = None
    """Of an item: the resource that it is an item of."""
    gone: bool = False
    """It is an item that is no more: its target is to be removed."""
    twin: str = ""
    """The target of another item whose name differs in case only; empty: there is none, or this one came first."""
    owned: OwnedFile | None = None
    """Of an item: what was delivered last, by this process or an earlier one, where that is known."""
    ties: tuple[Resource, tuple[str, ...]] | None = None
    """Its ``commands``, and the resource that they are of: asked for in each pass."""

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def size(self) -> int:
        """How many keys it has, or items: what a loss is measured by."""
        return len(self.view) if self.matches is None else len(self.matches)

    @property
    def group(self) -> GroupKey:
        """What it is delivered with: a group, or itself alone."""
        return GroupKey(self.resource.group) if self.resource.group else GroupKey(self.resource.name, is_lone=True)

    @property
    def commands(self) -> tuple[str, ...]:
        """Return what ties it to others in a batch: its check and reload commands, as written and as run."""
        if self.ties is None or self.ties[0] is not self.resource:
            self.ties = self.resource, commands_of(self.resource) or (NO_COMMANDS,)
        return self.ties[1]


class Resources:
    """The resources that are run now."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.states: dict[str, ResourceState] = {}
        self.groups: dict[GroupKey, list[ResourceState]] = {}
        self.queue: RunQueue[GroupKey] = RunQueue()
        """Which groups the next pass looks at, and what the other dirty ones wait for."""
        self.untried: dict[str, ResourceState] = {}
        """Those that had no outcome, and of which no delivery is under way."""
        self.failed: dict[str, ResourceState] = {}
        """Those that have an error."""
        self.failed_by_store: dict[str, ResourceState] = {}
        """Those whose error is one of the store."""
        self.first_deliveries: set[str] = set()
        """Those whose first delivery is under way."""
        self.version = 0
        """How often they were replaced."""
        self.with_watched_files: dict[str, ResourceState] = {}
        self._checks: dict[GroupKey, tuple[str, ...]] = {}
        """Of groups that are put in place before they are checked: their checks."""
        self._having: dict[str, dict[GroupKey, None]] = {}
        """Such a check → the groups that have it: where there are several, these are swapped in together."""
        self._orders = 0
        self._dirty: dict[int, ResourceState] = {}
        """By order, those that are dirty."""
        self._index = PrefixIndex()

    def __iter__(self) -> Iterator[ResourceState]:
        return iter(self.states.values())

    def adopt(self, states: Sequence[ResourceState]) -> None:
        """Run these from now on, in this order."""
        self.version += 1
        self.states = {state.name: state for state in states}
        self.groups, self._dirty, self._index = {}, {}, PrefixIndex()
        self.untried = {state.name: state for state in states if not (state.tried or state.in_flight)}
        self.failed_by_store = {state.name: state for state in states if isinstance(state.error, StoreError)}
        self.first_deliveries = {state.name for state in states if state.in_flight and not state.tried}
        self.failed = {state.name: state for state in states if state.error is not None}
        self.with_watched_files = {state.name: state for state in states if state.resource.watch_files}
        self.queue.clear()
        self._checks, self._having = {}, {}
        self._orders = len(states)
        for order, state in enumerate(states):
            state.order = order
            self.groups.setdefault(state.group, []).append(state)
            if state.dirty:
                self.mark(state)
            for path in paths(state.resource) if state.plan is None else ():
                self._index.add(path, state.name)
        for key, group in self.groups.items():
            self._note_checks(key, group)

    def add(self, state: ResourceState) -> None:
        """Run one more from now on: an item, whose keys nobody is to be told of but its plan."""
        state.order = self._orders
        self._orders += 1
        self.states[state.name] = state
        self.groups[state.group] = [state]
        self._note_checks(state.group, [state])
        if state.resource.watch_files:
            self.with_watched_files[state.name] = state
        if not state.tried:
            self.untried[state.name] = state
        if state.dirty:
            self.mark(state)

    def remove(self, state: ResourceState) -> None:
        """Run an item no more."""
        del self.states[state.name]
        del self.groups[state.group]
        for check in self._checks.pop(state.group, ()):
            del self._having[check][state.group]
        self._dirty.pop(state.order, None)
        self.queue.forget(state.group)
        for index in (self.untried, self.failed, self.failed_by_store, self.with_watched_files):
            index.pop(state.name, None)
        self.first_deliveries.discard(state.name)

    def _note_checks(self, key: GroupKey, group: Iterable[ResourceState]) -> None:
        if checks := checks_in_place(state.resource for state in group if state.matches is None):
            self._checks[key] = checks
            for check in checks:
                self._having.setdefault(check, {})[key] = None

    def end_plan(self, state: ResourceState) -> None:
        """Take it that the items of a resource with ``for_each`` are those that its keys want."""
        self.note_try(state)
        self.set_error(state, None)
        state.dirty, state.changes = False, set()
        state.settle.done()
        self._dirty.pop(state.order, None)
        self.queue.forget(state.group)
        self.queue.wake_for(Plan(state.name))

    def mark(self, state: ResourceState, trigger: str = "") -> None:
        """Make it dirty. A new trigger replaces the old one, and the wait that an older failure asked for."""
        if not (state.dirty or state.in_flight) and state.error is None:
            state.wrong_since = self._step.now
        state.dirty = True
        self._dirty[state.order] = state
        if trigger:
            state.trigger, state.retry_at = trigger, -NEVER
        self.queue.wake(state.group)

    def retry(self, state: ResourceState, moment: float) -> None:
        """Let it be due no sooner, and no later, than at this monotonic time."""
        state.retry_at = moment
        if state.dirty:
            self.queue.wake(state.group)

    def note_try(self, state: ResourceState) -> None:
        """Take it that it had an outcome."""
        state.tried = True
        self.untried.pop(state.name, None)

    def set_error(self, state: ResourceState, error: ConfpyError | None) -> None:
        """Take why it could not be delivered, None where it could."""
        if error is None:
            self.failed.pop(state.name, None)
        else:
            if state.error is None:
                state.failed_since = self._step.now
            self.failed[state.name] = state
        state.error = error
        if isinstance(error, StoreError):
            self.failed_by_store[state.name] = state
        else:
            self.failed_by_store.pop(state.name, None)

    def send(self, state: ResourceState) -> None:
        """Take it that a delivery of what it wants now begins, which ``land`` ends: it is no more dirty."""
        state.in_flight, state.dirty, state.drift = True, False, ""
        state.sent_at = self._step.now
        state.guard.begin_delivery()
        state.changes_in_flight, state.changes = state.changes, set()
        state.settle.done()
        self._dirty.pop(state.order, None)
        self.untried.pop(state.name, None)
        if not state.tried:
            self.first_deliveries.add(state.name)
        self.queue.forget(state.group)

    def land(self, state: ResourceState) -> None:
        """Take it that its delivery has ended."""
        state.in_flight = False
        self.first_deliveries.discard(state.name)  # it may have had an outcome meanwhile: the store denies its keys
        if not state.tried:
            self.untried[state.name] = state
        self.queue.wake(state.group)

    @property
    def dirty(self) -> Collection[ResourceState]:
        """Those that are dirty."""
        return self._dirty.values()

    def wake_dirty(self) -> None:
        """Have all that is dirty looked at: what has changed may concern each of them."""
        for state in self._dirty.values():
            self.queue.wake(state.group)

    def in_order(self, groups: Iterable[GroupKey]) -> list[GroupKey]:
        """Return those of the groups that have a dirty resource, by the first of these."""
        firsts = ((next((one.order for one in self.groups[key] if one.dirty), None), key) for key in groups)
        return [key for _, key in sorted((order, key) for order, key in firsts if order is not None)]

    def concerned(self, paths: Iterable[str]) -> Iterator[tuple[str, ResourceState]]:
        """Yield each path together with those that a change of it concerns."""
        states = self.states
        for path, names in self._index.matches(paths):
            for name in names:
                state = states[name]
                if not state.resource.text_prefixes or state.view.shows(path):
                    yield path, state

    def shared_checks(self, group: GroupKey) -> frozenset[str]:
        """Return the checks over swapped in files that a group shares with another."""
        return frozenset(check for check in self._checks.get(group, ()) if len(self._having[check]) > 1)

    def groups_sharing(self, checks: Iterable[str]) -> list[GroupKey]:
        """Return the groups that share one of these checks."""
        return list(dict.fromkeys(key for check in checks for key in self._having[check]))

    def prefixes(self) -> Mapping[str, Sequence[str]]:
        """Return what each resource reads."""
        return {name: state.resource.prefixes for name, state in self.states.items() if state.plan is None}


def prefixes_of(states: Iterable[ResourceState]) -> list[str]:
    return [prefix for state in states for prefix in state.resource.prefixes]


def all_commands(states: Iterable[ResourceState]) -> list[str]:
    """Return what ties a group to others in a batch."""
    return [command for state in states for command in state.commands]


def swaps(states: Iterable[ResourceState]) -> bool:
    """Say whether a group is put in place before it is checked."""
    return any(state.resource.check_mode == "swap" and state.resource.check_cmd is not None for state in states)


def paths(resource: Resource) -> tuple[str, ...]:
    """Return the paths that a resource covers."""
    return tuple(dict.fromkeys(normalise(prefix) for prefix in resource.prefixes))


def view_of(resource: Resource, mirror: Mirror | Mirrors) -> View:
    """Return what a resource sees of the keys."""
    return View.over(mirror.sources(resource.seen, resource.text_prefixes), resource.strip, resource.base)
