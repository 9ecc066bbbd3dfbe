"""The running programs that are told of changes instead of being reloaded: what they read, how changes settle. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from confpy.agent.commits import Commit, Owing, Unowed
from confpy.clock import NEVER, Settle
from confpy.events import LogEvent, abbreviate
from confpy.frozen import replace

if TYPE_CHECKING:
    from confpy.config.resource import Resource
    from confpy.messages import By, Reloaded
    from confpy.reload.runtime_target import RuntimeTarget
    from confpy.reload.spec import ReloadSpec

START = "start"
"""The trigger of first deliveries, which wait for nothing."""


class _Burst(NamedTuple):
    quiet: float
    longest: float
    settle: Settle


class RuntimeTargets:
    """Of resources that say how their running program is told."""

    def __init__(self) -> None:
        self.is_known = False
        """The resources were read: before that, nothing can be compared with their targets."""
        self.failed: set[str] = set()
        """Reloads whose last run has failed, and was left so: what they have started may be about to take over."""
        self._dests: dict[RuntimeTarget, tuple[str, ...]] = {}
        self._runtimes: dict[str, dict[RuntimeTarget, None]] = {}
        """By reload, the running programs of all resources that have it."""
        self._looks: dict[str, tuple[ReloadSpec, dict[str, Owing]]] = {}
        """By reload, what it is compared with."""
        self._bursts: dict[str, _Burst] = {}
        """By reload, when its commits are quiet."""
        self._by_hand: dict[str, tuple[str, ...]] = {}
        """By reload, what somebody has set in its program by hand, as it was logged."""

    def know(self, resources: Iterable[Resource]) -> None:
        """Take which resources are run now."""
        self.is_known = True
        self._dests, self._looks, self._runtimes = {}, {}, {}
        for resource in resources:
            if (runtime := resource.reload_haproxy) is None or (spec := resource.reload_spec) is None:
                continue
            self._runtimes.setdefault(spec.key, {})[runtime] = None
            self._dests[runtime] = (*self._dests.get(runtime, ()), resource.dest)
            _, owed = self._looks.setdefault(spec.key, (spec, {}))
            owed[resource.name] = Unowed(resource.name, resource.dest)

    def complete(self, spec: ReloadSpec, by: By) -> tuple[ReloadSpec, tuple[str, ...]]:
        """Return how a run is made, and the targets of all resources whose running program is that of it.

        A reload concerns the programs of all resources that have it, also of those that do not owe it now: what they
        are told next is for the one that it starts.
        """
        runtimes = [spec.runtime] if spec.runtime is not None else []
        if by == "reload":
            runtimes += [one for one in self._runtimes.get(spec.key, ()) if one not in runtimes]
        if not runtimes:
            return spec, ()
        sockets = tuple(dict.fromkeys(socket for one in runtimes for socket in one.sockets))
        dests = dict.fromkeys(dest for one in runtimes for dest in self._dests.get(one, ()))
        return replace(spec, runtime=replace(runtimes[0], sockets=sockets)), tuple(dests)

    def looks(self) -> Iterator[tuple[ReloadSpec, Mapping[str, Owing]]]:
        """Yield each reload whose running program can be compared with its files, and the resources of these."""
        yield from self._looks.values()

    def note(self, key: str, commit: Commit, now: float) -> None:
        """Take a commit: the reload waits until they are quiet, as the delivery of changes does elsewhere."""
        resource = commit.resource
        if resource.reload_haproxy is None or commit.trigger == START:
            return
        burst = self._bursts.get(key)
        if burst is None or burst[:2] != (resource.settle, resource.max_wait):
            settle = Settle(resource.settle, resource.max_wait)
            burst = self._bursts[key] = _Burst(resource.settle, resource.max_wait, settle)
        burst.settle.note(now)

    def quiet_at(self, key: str) -> float:
        """Return the monotonic time at which the commits of a reload have been quiet for long enough."""
        burst = self._bursts.get(key)
        return -NEVER if burst is None else burst.settle.due()

    def tell_by_hand(self, reloaded: Reloaded) -> Iterator[LogEvent]:
        """Yield a line for what somebody has set in the running program and was left so, once."""
        if (avoided := reloaded.avoided) is None or avoided.by_hand == self._by_hand.get(reloaded.key, ()):
            return
        self._by_hand[reloaded.key] = avoided.by_hand
        if avoided.by_hand:
            what = {"command": reloaded.key, "servers": abbreviate(avoided.by_hand), "did": "leaves them so"}
            yield LogEvent("info", "runtime.set_by_hand", what)

    def end_burst(self, key: str) -> None:
        """Take it that what was committed is being reloaded, or was told."""
        if (burst := self._bursts.get(key)) is not None:
            burst.settle.done()
