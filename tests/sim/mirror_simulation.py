"""The mirror alone, over a simulated store."""

from __future__ import annotations

from random import Random
from typing import Any

from confpy.daemon.jobs import Jobs, Ports
from confpy.delivery.context import Rules
from confpy.messages import Message
from confpy.mirror.mirror import Mirror
from confpy.mirror.result import MirrorResult
from tests.sim.timeline import SimulatedThreads
from tests.sim.world import World


class MirrorSimulation(World):
    """The mirror, its server, and the messages on their way between them."""

    def __init__(self, seed: int, *, follows: bool = True, period: float = 60.0) -> None:
        super().__init__(seed)
        self.mirror = Mirror(Random(seed), follows=follows, period=period)
        self.logged: list[str] = []
        """The events."""
        self.jobs = Jobs(self._ports(), Rules())
        self._newest: dict[str, tuple[int, int]] = {}

    def _ports(self) -> Ports:
        """Return ports for what a mirror wants, and for no more."""
        absent: Any = None
        return Ports(
            disk=absent,
            shell=absent,
            clock=absent,
            store=self.network,
            streams=self.network,
            ledger=absent,
            cached_keys=absent,
            holds=absent,
            resolver=absent,
            load=absent,
            follow=absent,
            post=self.tell,
            start=SimulatedThreads(self.timeline, self.random, self.tell).start,
            log=lambda event: self.logged.append(event.event),
            guard=absent,
        )

    def take(self, result: MirrorResult) -> None:
        """Carry out what the mirror wants."""
        self.jobs.carry_out(result.actions)
        for path in result.changed:
            self._never_goes_back(path)

    def tell(self, message: Message) -> None:
        self.take(self.mirror.step(message, self.now))

    def wakes_at(self) -> float:
        return self.mirror.wake_at()

    def _never_goes_back(self, path: str) -> None:
        """Within one incarnation of the server, a key never shows an older value after a newer one."""
        value = self.mirror.tree.get(path)
        if value is not None:
            incarnation, _, revision = value.partition(":")
            seen = (int(incarnation), int(revision))
            assert seen >= self._newest.get(path, seen) or self.server.incarnation > 0, f"{path} went back to {value}"
            self._newest[path] = max(seen, self._newest.get(path, seen))
