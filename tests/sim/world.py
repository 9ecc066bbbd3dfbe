"""A store with revisions, its watches and its faults, on a simulated clock: what drives the real mirror.

Every choice comes from one seeded ``Random``: a seed that fails, fails again in the same way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from random import Random

from confpy.errors import AccessDenied, StoreError
from confpy.events import LogEvent
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot
from confpy.keys.tree import covers
from confpy.messages import (
    Action,
    Changed,
    Listed,
    Lost,
    Message,
    Opened,
    Poll,
    Polled,
    Read,
    Unwatch,
    Watch,
    Woken,
)
from confpy.mirror.mirror import Mirror, MirrorResult


class Server:
    """An etcd as far as the mirror can see it."""

    def __init__(self) -> None:
        self.life = 0
        self.identity = "a"
        self.revision = 1
        self.compacted = 1
        self.keys: dict[str, tuple[int, str]] = {}
        self.history: list[tuple[int, str, str | None]] = []
        self.drops: set[int] = set()
        """The revisions in which a folder went, with all that it held."""
        self.denied: set[str] = set()
        """What may not be read: no prefix that has a part in it is answered."""

    def put(self, key: str) -> None:
        self.revision += 1
        value = f"{self.life}:{self.revision}"
        self.keys[key] = (self.revision, value)
        self.history.append((self.revision, key, value))

    def delete(self, key: str) -> None:
        if key in self.keys:
            self.revision += 1
            del self.keys[key]
            self.history.append((self.revision, key, None))

    def drop(self, folder: str) -> None:
        self.revision += 1
        self.drops.add(self.revision)
        self.keys = {key: kept for key, kept in self.keys.items() if not covers(folder, key)}
        self.history.append((self.revision, folder, None))

    def restore(self, random: Random, *, other_identity: bool) -> None:
        """Come back from an older backup: some of the newest history never was."""
        kept = random.randint(0, len(self.history))
        self.life += 1
        self.history = self.history[:kept]
        self.revision = self.history[-1][0] if self.history else 1
        self.compacted = min(self.compacted, self.revision)
        self.keys = {}
        for revision, key, value in self.history:
            if value is not None:
                self.keys[key] = (revision, value)
            else:
                self.keys.pop(key, None)
                if revision in self.drops:
                    self.keys = {one: kept for one, kept in self.keys.items() if not covers(key, one)}
        self.drops = {revision for revision in self.drops if revision <= self.revision}
        if other_identity:
            self.identity += "'"

    def refusal(self, prefix: str) -> AccessDenied | None:
        """Return what the server says to who reads the prefix, None where it gives it."""
        if any(covers(prefix, one) or covers(one, prefix) for one in self.denied):
            return AccessDenied("permission denied", prefix=prefix)
        return None

    def below(self, prefix: str) -> Iterator[tuple[str, tuple[int, str]]]:
        return ((key, kept) for key, kept in self.keys.items() if covers(prefix, key))

    def snapshot(self, action: Read) -> Snapshot:
        listings = {
            prefix: Listing(self.revision, {key: value for key, (_, value) in self.below(prefix)})
            if self.refusal(prefix) is None
            else Listing(0, error=self.refusal(prefix))
            for prefix in action.prefixes
        }
        return Snapshot(listings, self.identity, {cover: len(list(self.below(cover))) for cover in action.covers})

    def status(self, action: Poll) -> PrefixStatus:
        """Answer; raises ``AccessDenied`` for all where one is denied, as etcd does."""
        for prefix in action.prefixes:
            if (refusal := self.refusal(prefix)) is not None:
                raise refusal
        newest = {
            prefix: max((revision for _, (revision, _) in self.below(prefix)), default=0) for prefix in action.prefixes
        }
        counts = {prefix: len(list(self.below(prefix))) for prefix in action.prefixes}
        return PrefixStatus(self.identity, self.revision, newest, counts)


class Stream:
    """One stream: each of its watches at its own place in the history."""

    def __init__(self, number: int, cursors: Mapping[str, int], life: int) -> None:
        self.number = number
        self.places = dict(cursors)
        self.life = life
        self.stalled = False
        self.idle = False
        """It waits for the store to change."""


class World:
    """The mirror, its server, and the messages on their way between them."""

    def __init__(self, seed: int, *, follows: bool = True, period: float = 60.0) -> None:
        self.random = Random(seed)
        self.server = Server()
        self.now = 0.0
        self.mirror = Mirror(Random(seed), follows=follows, period=period)
        self.streams: dict[int, Stream] = {}
        self.calm = False
        self.slowest = 0.3
        """Seconds that a stream may take from one delivery to the next."""
        self.stalls = 0.005
        """The chance that a stream falls silent, without a word, at a delivery."""
        self.said: list[str] = []
        self.reads = 0
        self.asks = 0
        self.opened = 0
        self._queue: list[tuple[float, int, object]] = []
        self._count = 0
        self._newest: dict[str, tuple[int, int]] = {}

    # --- the mirror's side -------------------------------------------------------------------------------------------

    def take(self, turn: MirrorResult) -> None:
        for action in turn.actions:
            self._carry_out(action)
        for path in turn.changed:
            self._never_goes_back(path)

    def tell(self, message: Message) -> None:
        self.take(self.mirror.step(message, self.now))

    def _never_goes_back(self, path: str) -> None:
        """Within one life of the server, a key never shows an older value after a newer one."""
        value = self.mirror.tree.get(path)
        if value is not None:
            life, _, revision = value.partition(":")
            seen = (int(life), int(revision))
            assert seen >= self._newest.get(path, seen) or self.server.life > 0, f"{path} went back to {value}"
            self._newest[path] = max(seen, self._newest.get(path, seen))

    def _carry_out(self, action: Action) -> None:
        soon = self.random.uniform(0.001, 0.5)
        match action:
            case Read():
                self.reads += 1
                self.later(soon, ("read", action))
            case Poll():
                self.asks += 1
                self.later(soon, ("ask", action))
            case Watch():
                self.later(soon, ("open", action))
            case Unwatch():
                self.streams.pop(action.stream, None)
            case LogEvent():
                self.said.append(action.event)

    def wakes(self) -> float:
        """When the mind wants to be woken."""
        return self.mirror.wake_at()

    # --- time --------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, what: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, what))

    def run(self, seconds: float) -> None:
        """Let time pass, everything in its order."""
        end = self.now + seconds
        while True:
            arrives = self._queue[0][0] if self._queue else float("inf")
            wakes = self.wakes()
            moment = min(arrives, wakes)
            if moment > end:
                self.now = end
                return
            self.now = max(self.now, moment)
            if wakes <= arrives:
                self.tell(Woken())
                assert self.wakes() > self.now, "it would spin"
            else:
                self._arrive(heapq.heappop(self._queue)[2])

    def _arrive(self, what: object) -> None:
        match what:
            case ("read", Read() as action):
                # The answer is as of now; it takes some time to arrive, and things go on meanwhile.
                if self._fails(0.1):
                    self.later(0.1, Listed(action.read, None, StoreError("the read failed")))
                else:
                    self.later(self.random.uniform(0, 0.5), Listed(action.read, self.server.snapshot(action)))
            case ("ask", Poll() as action):
                if self._fails(0.1):
                    self.later(0.1, Polled(action.poll, None, StoreError("the ask failed")))
                else:
                    self.later(self.random.uniform(0, 0.2), self._standing(action))
            case ("open", Watch() as action):
                self._open(action)
            case ("stream", int(number)):
                self._advance(number)
            case _:
                self.tell(what)  # type: ignore[arg-type]

    def _standing(self, action: Poll) -> Polled:
        try:
            return Polled(action.poll, self.server.status(action))
        except AccessDenied as refusal:
            return Polled(action.poll, None, refusal)

    def _fails(self, chance: float) -> bool:
        return not self.calm and self.random.random() < chance

    # --- streams -----------------------------------------------------------------------------------------------------

    def _open(self, action: Watch) -> None:
        if self.stalls and self._fails(0.1):
            self.tell(Lost(action.stream, StoreError("refused")))
        elif (refusal := self._refused(action.cursors)) is not None:
            self.tell(Lost(action.stream, refusal))
        elif action.identity != self.server.identity or any(
            not self.server.compacted - 1 <= cursor <= self.server.revision for cursor in action.cursors.values()
        ):
            self.tell(Lost(action.stream, StoreError("compacted, or ahead"), relist=True))
        else:
            self.opened += 1
            self.streams[action.stream] = Stream(action.stream, action.cursors, self.server.life)
            self.later(0.0, Opened(action.stream))
            self.later(0.01, ("stream", action.stream))

    def _refused(self, prefixes: Iterable[str]) -> AccessDenied | None:
        return next((found for prefix in prefixes if (found := self.server.refusal(prefix)) is not None), None)

    def _advance(self, number: int) -> None:
        """Deliver a part of what a stream has not delivered yet: any watch may be ahead of any other."""
        stream = self.streams.get(number)
        if stream is None:
            return
        if stream.life != self.server.life or self._fails(0.01):
            del self.streams[number]
            self.tell(Lost(number, StoreError("reset")))
            return
        # A right that was taken away ends a stream sooner or later; what was seen until then is true.
        if (refusal := self._refused(stream.places)) is not None and self.random.random() < 0.2:
            del self.streams[number]
            self.tell(Lost(number, refusal))
            return
        if self._fails(self.stalls):
            stream.stalled = True
        if not stream.stalled:
            for prefix, place in stream.places.items():
                if self.random.random() < 0.5 or self.calm:
                    self._deliver(stream, prefix, place)
        if number in self.streams:
            self._again(stream)

    def _again(self, stream: Stream) -> None:
        """Let a stream deliver again some time later."""
        self.later(self.random.uniform(0.01, self.slowest), ("stream", stream.number))

    def _deliver(self, stream: Stream, prefix: str, place: int) -> None:
        drops = self.server.drops
        events = [
            one
            for one in self.server.history
            if one[0] > place and (covers(prefix, one[1]) or (one[0] in drops and covers(one[1], prefix)))
        ]
        if not events:
            return
        some = events if self.calm else events[: self.random.randint(1, len(events))]
        stream.places[prefix] = some[-1][0]
        keys: dict[str, tuple[int, str | None]] = {}
        gone: dict[str, int] = {}
        for revision, key, value in some:
            if revision in drops:
                keys = {one: change for one, change in keys.items() if not covers(key, one)}
                gone[key if covers(prefix, key) else prefix] = revision
            else:
                keys[key] = (revision, value)
        self.tell(Changed(stream.number, Changes(prefix, some[-1][0], keys, gone)))
