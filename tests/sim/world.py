"""A store and the network to it, on simulated time: what smaller simulations have in common."""

from __future__ import annotations

from confpy.messages import Message
from tests.sim.network import Network
from tests.sim.store import Server
from tests.sim.timeline import Chance, Timeline


class World:
    """Subclasses bring what takes messages, and what is woken."""

    def __init__(self, seed: int) -> None:
        self.random = Chance(seed)
        self.server = Server()
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.random, self.server, self.tell)

    @property
    def now(self) -> float:
        return self.timeline.now

    def tell(self, message: Message) -> None:
        raise NotImplementedError

    def wakes_at(self) -> float:
        raise NotImplementedError

    def run(self, seconds: float) -> None:
        """Let time pass, everything in its order."""
        end = self.now + seconds
        self.timeline.run(self, lambda: end)
