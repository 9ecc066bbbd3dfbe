"""The stream that follows what was read: opening it, handing over to the next, its loss and the wait after it. Pure.

Two streams are open while one takes over from another; repeats are dropped by the positions of the copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Literal

from confpy.clock import NEVER, Backoff, Damping
from confpy.keys.prefixes import minimal
from confpy.messages import Lost, Unwatch, Watch
from confpy.mirror.copy import LocalCopy
from confpy.mirror.result import MirrorResult
from confpy.mirror.wants import Wants

STEADY = 30.0
"""Seconds after which a stream that breaks off was a good one: something on the way ends quiet connections."""


class Streams:
    """The open stream, and the one that is being opened."""

    def __init__(
        self, copy: LocalCopy, wants: Wants, random: Random, numbers: Iterator[int], *, used: bool, mount: str = ""
    ) -> None:
        """``numbers``: the next number of what is in flight. ``used``: whether streams are opened at all.

        ``mount``: where the store is mounted.
        """
        self._mount = mount
        self._copy = copy
        self._wants = wants
        self._numbers = numbers
        self._used = used
        self.watched: tuple[str, ...] = ()
        self.open_at = NEVER
        """Monotonic time at which the next is opened."""
        self.counts: Mapping[str, int] = {}
        """How many keys there are below prefixes that might be watched in place of several."""
        self.brought_at: float | None = None
        """Monotonic time at which a stream last brought something."""
        self._current: int | None = None
        self._opening: int | None = None
        self._chosen: tuple[str, ...] = ()
        """What to watch, as it was last chosen."""
        self._chosen_for: tuple[int, int] | None = None
        """The versions of what was wanted then, and of what had been read."""
        self._opened_at = 0.0
        self._lost_at: float | None = None
        """When a loss was logged, until a stream is open again."""
        self._backoff = Backoff(random)
        self._damping = Damping()

    def has(self, stream: int) -> bool:
        return stream in (self._current, self._opening)

    def is_opening(self, stream: int) -> bool:
        return stream == self._opening

    @property
    def is_open(self) -> bool:
        return self._current is not None

    @property
    def state(self) -> Literal["", "open", "opening", "waiting"]:
        """In a word: whether one is open; empty where none is used."""
        if self._current is not None:
            return "open"
        if self._opening is not None:
            return "opening"
        return "waiting" if self._used else ""

    def candidates(self) -> tuple[str, ...]:
        """Return the prefixes that a read is to count, to choose what is watched."""
        return self._wants.parents() if self._used else ()

    def follow(self, now: float, *, anew: bool = True) -> None:
        """See to it that a stream follows what was read, and no more.

        Unless ``anew``, only where other prefixes are wanted or were read than at the last choice.
        """
        if self._used and (anew or self._chosen_for != self._versions()) and self._choose() != self.watched:
            self.open_at = min(self.open_at, now)

    def _versions(self) -> tuple[int, int]:
        return self._wants.version, self._copy.positions.version

    def _choose(self) -> tuple[str, ...]:
        """Return what to watch: several prefixes as one where that brings at most as many other keys."""
        self._chosen_for = self._versions()
        self._chosen = self._choice()
        return self._chosen

    def _choice(self) -> tuple[str, ...]:
        chosen = [prefix for prefix in self._wants.prefixes if prefix in self._copy.positions]
        wanted = len(chosen)
        parents = self.counts.keys() & set(self._wants.parents())
        for parent, below in self._copy.below(parents).items():
            if self.counts[parent] <= 2 * sum(map(self._copy.tree.raw_count, below)):
                chosen.append(parent)
        # What is wanted is minimal itself.
        return minimal(chosen, self._copy.lists) if len(chosen) > wanted else tuple(chosen)

    def open(self, result: MirrorResult, identity: str) -> None:
        """Open a stream for what is to be followed now; the current one stays until that is open."""
        self.open_at = NEVER
        self.watched = self._chosen if self._chosen_for == self._versions() else self._choose()
        if not self.watched:
            self.close(result)
            return
        if self._opening is not None:
            result.actions.append(Unwatch(self._opening))
        self._opening = next(self._numbers)
        positions, below = self._copy.positions.all(), self._copy.below(set(self.watched))
        cursors = {cover: min(positions[prefix] for prefix in prefixes) for cover, prefixes in below.items()}
        result.actions.append(Watch(self._opening, cursors, identity, self._mount))

    def hand_over(self, result: MirrorResult, now: float) -> None:
        """Take it that the stream that was being opened is open: the one before is closed."""
        if self._current is not None:
            result.actions.append(Unwatch(self._current))
        self._current, self._opening = self._opening, None
        self._opened_at = now

    def log_recovery(self, result: MirrorResult, now: float) -> None:
        if self._lost_at is not None:
            result.log("info", "watch.recovered", after=round(now - self._lost_at, 1))
            self._lost_at = None

    def note_change(self, now: float) -> None:
        """Take it that a stream delivered."""
        self.brought_at = now
        self._backoff.reset()
        self._damping.reset()

    def drop(self, lost: Lost, now: float) -> bool:
        """Take it that a stream ended; says whether another one is on its way to take its place."""
        if lost.stream == self._opening:
            self._opening = None
            return False
        self._current = None
        if now - self._opened_at > STEADY:
            self._backoff.reset()
            self._damping.reset()
        return self._opening is not None and not lost.relist

    def fail(self, result: MirrorResult, lost: Lost, now: float) -> float:
        """Log that a stream was lost, and close the others where it cannot be resumed; returns when to try again."""
        wait = self._backoff.wait()
        attempt = self._backoff.attempts
        if self._damping.admits("", attempt, now):
            result.log("warning", "watch.lost", **lost.error.fields(), attempt=attempt, retry_in=round(wait, 1))
            if self._lost_at is None:
                self._lost_at = now
        if lost.relist:
            self.close(result)
        else:
            self.open_at = now + wait
        return now + wait

    def close(self, result: MirrorResult) -> None:
        result.actions += [Unwatch(stream) for stream in (self._current, self._opening) if stream is not None]
        self._current = self._opening = None
        self.watched = ()
        self.open_at = NEVER
