"""What lies between confpy and the store: answers take time, reads fail, streams are late, stall, and break."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from confpy.errors import AccessDenied, StoreError
from confpy.frozen import replace
from confpy.keys.capabilities import Capabilities
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot
from confpy.messages import Changed, Lost, Message, Opened, Watch
from confpy.stores.mounted import MountedStore
from tests.sim.store import Server, Stream
from tests.sim.stores import StorePlan
from tests.sim.timeline import NEVER, Chance, Timeline

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class Network:
    """The store as jobs have it: what it answers, and its streams."""

    def __init__(self, timeline: Timeline, random: Chance, server: Server, tell: Callable[[Message], None]) -> None:
        self.random = random
        self.server = server
        self.streams: dict[int, Stream] = {}
        self.slowest = 0.3
        """Seconds that a stream may take from one delivery to the next."""
        self.stalls = 0.005
        """The chance that a stream falls silent, without a word, at a delivery."""
        self.reads = 0
        self.polls = 0
        self.opened = 0
        self._timeline = timeline
        self._tell = tell

    def read(self, prefixes: Sequence[str], covers: Sequence[str] = ()) -> Snapshot:
        """As ``Store.read``."""
        self.reads += 1
        if self.random.fails(0.1):
            raise StoreError("the read failed")
        return self.server.snapshot(prefixes, covers)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        """As ``Store.poll``."""
        self.polls += 1
        if self.random.fails(0.1):
            raise StoreError("the poll failed")
        return self.server.status(prefixes)

    def open(self, action: Watch) -> None:
        """As ``FollowsStreams.open``."""
        self._timeline.later(self.random.uniform(0.001, 0.5), lambda: self._open(action))

    def close(self, stream: int) -> None:
        """As ``FollowsStreams.close``."""
        self.streams.pop(stream, None)

    # --- streams -----------------------------------------------------------------------------------------------------

    def _open(self, action: Watch) -> None:
        if self.stalls and self.random.fails(0.1):
            self._tell(Lost(action.stream, StoreError("refused")))
        elif (denied := self._denied(action.cursors)) is not None:
            self._tell(Lost(action.stream, denied))
        elif action.identity != self.server.identity or any(
            not self.server.compacted - 1 <= cursor <= self.server.revision for cursor in action.cursors.values()
        ):
            self._tell(Lost(action.stream, StoreError("compacted, or ahead"), relist=True))
        else:
            self.opened += 1
            self.streams[action.stream] = Stream(action.stream, action.cursors, self.server.incarnation)
            self._timeline.later(0.0, lambda: self._tell(Opened(action.stream)))
            self._timeline.later(0.01, lambda: self._advance(action.stream))

    def _denied(self, prefixes: Iterable[str]) -> AccessDenied | None:
        return next((found for prefix in prefixes if (found := self.server.denial(prefix)) is not None), None)

    def _advance(self, number: int) -> None:
        """Deliver a part of what a stream has not delivered yet: any watch may be ahead of any other."""
        stream = self.streams.get(number)
        if stream is None:
            return
        if stream.incarnation != self.server.incarnation or self.random.fails(0.01):
            del self.streams[number]
            self._tell(Lost(number, StoreError("reset")))
            return
        # A right that was taken away ends a stream sooner or later; what was seen until then is true.
        if (denied := self._denied(stream.places)) is not None and self.random.random() < 0.2:
            del self.streams[number]
            self._tell(Lost(number, denied))
            return
        if self.random.fails(self.stalls):
            stream.stalled = True
        if not stream.stalled:
            for prefix, place in stream.places.items():
                if self.random.random() < 0.5 or self.random.calm:
                    self._deliver(stream, prefix, place)
        if number in self.streams:
            self._again(stream)

    def _again(self, stream: Stream) -> None:
        """Let a stream deliver again some time later."""
        self._timeline.later(self.random.uniform(0.01, self.slowest), lambda: self._advance(stream.number))

    def _deliver(self, stream: Stream, prefix: str, place: int) -> None:
        drops = self.server.drops
        events = [
            one
            for one in self.server.history
            if one[0] > place and (covers(prefix, one[1]) or (one[0] in drops and covers(one[1], prefix)))
        ]
        if not events:
            return
        some = events if self.random.calm else events[: self.random.randint(1, len(events))]
        stream.places[prefix] = some[-1][0]
        keys: dict[str, tuple[int, str | None]] = {}
        gone: dict[str, int] = {}
        for revision, key, value in some:
            if revision in drops:
                keys = {one: change for one, change in keys.items() if not covers(key, one)}
                gone[key if covers(prefix, key) else prefix] = revision
            else:
                keys[key] = (revision, value)
        self._tell(Changed(stream.number, Changes(prefix, some[-1][0], keys, gone)))


class FaultyNetwork(Network):
    """A network whose store answers wrongly, too, or not at all for long, and whose quiet streams cost nothing."""

    def __init__(self, simulation: Simulation, plan: StorePlan) -> None:
        super().__init__(simulation.machine.timeline, simulation.random, Server(), self._say)
        self.slowest = 0.1
        self.stalls = plan.stalls
        self.plan = plan
        self.capabilities = Capabilities(watches=plan.watches, remote=True, names_deletions=plan.names_deletions)
        self.adapter: MountedStore | None = None
        """What puts the mount before all that the store says, of the process that runs."""
        self.answers = 0
        """Reads and polls that were answered, of the process that runs."""
        self.hidden = Mounts(
            one.mount
            for one in simulation.plan.stores
            if one.mount != plan.mount and covers(plan.mount or "/", one.mount)
        )
        self._simulation = simulation
        self._wrong_at = -NEVER
        self._tree: dict[str, str] = {}
        self._tree_of = (0, 0)
        """The store's incarnation and revision for which that is its tree."""
        self._away_until = -NEVER
        self._is_gone = False

    def forget_process(self) -> None:
        """Another process starts."""
        self.streams.clear()
        self.answers = 0

    def tree(self) -> dict[str, str]:
        """Return the keys that the store has in the one tree."""
        state = self.server.incarnation, self.server.revision
        if state != self._tree_of:
            outer = self.plan.outer
            found = {outer(key): value for key, (_, value) in self.server.keys.items()}
            self._tree = {key: value for key, value in found.items() if not self.hidden.point_of(key)}
            self._tree_of = state
        return self._tree

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        self._be_there()
        snapshot = super().read(prefixes, counted)
        self.answers += 1
        if self.plan.wrong_answers and self.random.fails(0.15) and self._timeline.now > self._wrong_at + 200:
            self._wrong_at = self._timeline.now
            snapshot = self._without_keys(snapshot)
        if self.streams and self.random.fails(0.3):  # what the answer does not have yet overtakes it
            self._simulation.note("put during a read")
            self.server.put(self.random.choice(self.plan.keys))
            self.stir()
        return snapshot

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        self._be_there()
        status = super().poll(prefixes)
        self.answers += 1
        return status

    # --- being away ----------------------------------------------------------------------------------------------

    @property
    def is_away(self) -> bool:
        return self._is_gone or (self._timeline.now < self._away_until and not self.random.calm)

    def leave(self, seconds: float) -> None:
        """Answer nothing for so long."""
        self._simulation.note("a store goes away", {"mount": self.plan.mount, "seconds": seconds})
        self._away_until = self._timeline.now + seconds
        self.cut_streams()

    def stay_away(self) -> None:
        """Answer nothing until ``come_back``."""
        self._simulation.note("a store stays away", {"mount": self.plan.mount})
        self._is_gone = True
        self.cut_streams()
        self.stir()

    def come_back(self) -> None:
        self._is_gone = False

    def cut_streams(self) -> None:
        """Let all streams end at their next delivery."""
        for stream in self.streams.values():
            stream.incarnation = -1

    def _be_there(self) -> None:
        if self.is_away:
            raise StoreError("nobody answers")

    # --- in the one tree -----------------------------------------------------------------------------------------

    def open(self, action: Watch) -> None:
        if self.adapter is not None:
            cursors = {self.adapter._inner(prefix): cursor for prefix, cursor in action.cursors.items()}
            action = replace(action, cursors=cursors)
        super().open(action)

    def _open(self, action: Watch) -> None:
        if self.is_away:
            self._say(Lost(action.stream, StoreError("nobody answers")))
        else:
            super()._open(action)

    def _say(self, message: Message) -> None:
        if self.adapter is not None:
            if isinstance(message, Changed):
                message = replace(message, changes=self.adapter.changes(message.changes))
            elif isinstance(message, Lost):
                message = replace(message, error=self.adapter.failure(message.error))
        self._simulation.tell(message)

    def _without_keys(self, snapshot: Snapshot) -> Snapshot:
        """Answer without keys that are there."""
        empty = self.random.random() < 0.6
        self._simulation.note("store answers empty" if empty else "store answers in part")
        listings = {}
        for prefix, listing in snapshot.listings.items():
            keys = {} if empty else {key: it for key, it in listing.keys.items() if self.random.random() < 0.5}
            listings[prefix] = Listing(listing.revision, keys, listing.error)
        return Snapshot(listings, snapshot.identity, snapshot.counts)

    def _again(self, stream: Stream) -> None:
        """A stream that has delivered all waits until there is more: most of a run is quiet."""
        if stream.incarnation != self.server.incarnation or self._is_behind(stream):
            super()._again(stream)
        else:
            stream.idle = True

    def _is_behind(self, stream: Stream) -> bool:
        if stream.stalled:
            return False
        least = min(stream.places.values(), default=0)
        drops = self.server.drops
        for revision, key, _ in reversed(self.server.history):
            if revision <= least:
                break
            for prefix, place in stream.places.items():
                if revision > place and (covers(prefix, key) or (revision in drops and covers(key, prefix))):
                    return True
        return any(self.server.denial(prefix) for prefix in stream.places) if self.server.denied else False

    def stir(self) -> None:
        """Let streams go on: something changed in the store."""
        for stream in self.streams.values():
            if stream.idle:
                stream.idle = False
                self._timeline.later(self.random.random() * 0.05, partial(self._advance, stream.number))
        self._simulation.invariants.keys.look_for_empty(self.plan.mount)


class Networks:
    """As ``FollowsStreams``, of all stores."""

    def __init__(self, networks: Mapping[str, FaultyNetwork]) -> None:
        """``networks``: by mount."""
        self._networks = networks

    def open(self, action: Watch) -> None:
        self._networks[action.store].open(action)

    def close(self, stream: int) -> None:
        for network in self._networks.values():
            network.close(stream)
