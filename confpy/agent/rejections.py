"""Contents that a reload rejected and that were rolled back: which they are, and until when none is tried again. Pure.

To try one costs the program an outage, so it is tried again when the keys, the template or a command have changed, when
a person asks for it, or when its wait is over. The wait doubles each time that the same content is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from random import Random

from confpy.candidates import Candidate
from confpy.clock import NEVER, jittered
from confpy.config.resource import Resource
from confpy.reload.spec import Rejection

LONGEST = 86400.0
"""Seconds to which the wait doubles; one that was set longer stays as it is."""
SOON = 1.0
"""Seconds from a person's request to the next try: what was edited along with it is read by then."""


class _Held:
    # No dataclass: to make one costs a start half a millisecond.
    __slots__ = ("rejection", "share", "since", "swapped_unchecked", "until")

    def __init__(self, rejection: Rejection, since: float, share: float, swapped_unchecked: bool = False) -> None:
        self.rejection = rejection
        self.since = since
        """Monotonic time of the rejection."""
        self.share = share
        """Of the wait: contents that were rejected together are tried apart, so that the one at fault shows."""
        self.swapped_unchecked = swapped_unchecked
        """It is in place again, and its reload is still to come."""
        self.until = NEVER
        """Monotonic time of the next try that a person asked for."""


class Rejections:
    """The rejections in force, by resource."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._all: dict[str, _Held] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def __getitem__(self, name: str) -> Rejection:
        return self._all[name].rejection

    def take_over(self, found: Mapping[str, Rejection], in_place: Iterable[str], now: float, wall: float) -> None:
        """Take what an earlier run has noted. ``in_place``: what of it is swapped in again, and still owes its reload.

        ``now``: monotonic seconds; ``wall``: seconds since 1970. After a step back of that clock the wait begins anew.
        """
        swapped = set(in_place)
        for name, rejection in found.items():
            since = now - max(0.0, wall - rejection.at)
            self._all[name] = _Held(rejection, since, jittered(1.0, self._random), name in swapped)

    def add(
        self, name: str, resource: Resource | None, rejected: tuple[str, str, str | None], now: float, wall: float
    ) -> Rejection:
        """Note that a content was rejected, and that the previous one is back (``Restored.rejected``).

        ``resource``: None where it is not loaded yet.
        """
        digest, path, back = rejected
        before = self._all.get(name)
        times = before.rejection.times + 1 if before is not None and before.rejection.digest == digest else 1
        by = "" if resource is None else _commands(resource)
        rejection = Rejection(digest, path, back, by, wall, times)
        self._all[name] = _Held(rejection, now, jittered(1.0, self._random))
        return rejection

    def commit(self, name: str, digest: str, *, owes: bool) -> bool:
        """Take what is in place now, and whether its reload is to come; returns whether the rejection is over."""
        held = self._all.get(name)
        if held is None:
            return False
        held.swapped_unchecked = owes and held.rejection.digest == digest
        return not held.swapped_unchecked and self._all.pop(name) is held

    def accept(self, names: Iterable[str]) -> list[str]:
        """Forget those of these that are in their places, and return them: their reload has succeeded."""
        accepted = [name for name in names if name in self._all and self._all[name].swapped_unchecked]
        for name in accepted:
            del self._all[name]
        return accepted

    def lift(self, now: float) -> Iterator[tuple[str, float]]:
        """Let all be tried again soon; yields which, and from when on."""
        for name, held in self._all.items():
            held.until = now + SOON
            yield name, held.until

    def until(self, candidates: Iterable[Candidate], others: Mapping[str, str], now: float) -> float | None:
        """Return the monotonic time before which a group is not to be delivered, None where it may be now.

        ``others``: of those whose contents were not rejected, the digest of what is in place, where it is known. Where
        one of these has changed, the group is another one.
        """
        until = -NEVER
        for one in candidates:
            held = self._all.get(one.resource.name)
            known = others.get(one.resource.name) if held is None else held.rejection.digest
            if known is not None and known != ("" if one.gone else sha256(one.content).hexdigest()):
                return None
            if held is not None:
                if held.swapped_unchecked or held.rejection.by not in {"", _commands(one.resource)}:
                    return None
                until = max(until, min(held.until, held.since + _wait(one.resource, held)))
        return until if until > now else None


def _wait(resource: Resource, held: _Held) -> float:
    longest = max(LONGEST, resource.retry_refused)
    return held.share * min(longest, resource.retry_refused * 2.0 ** min(held.rejection.times - 1, 64))


def _commands(resource: Resource) -> str:
    """Return a mark of the target and the commands that a content has to pass: with another one it is tried again."""
    commands = repr((resource.dest, resource.check_cmd, resource.reload_cmd, resource.verify_cmd))
    return sha256(commands.encode("utf-8", "surrogateescape")).hexdigest()[:16]
