"""The mirror alone, over a simulated store."""

from __future__ import annotations

from random import Random

from confpy.events import LogEvent
from confpy.messages import Action, Message
from confpy.mirror.mirror import Mirror
from confpy.mirror.result import MirrorResult
from tests.sim.network import Network
from tests.sim.store import Server
from tests.sim.timeline import Chance, Timeline


class World:
    """The mirror, its server, and the messages on their way between them."""

    def __init__(self, seed: int, *, follows: bool = True, period: float = 60.0) -> None:
        self.random = Chance(seed)
        self.server = Server()
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.random, self.server, self.tell)
        self.mirror = Mirror(Random(seed), follows=follows, period=period)
        self.said: list[str] = []
        self._newest: dict[str, tuple[int, int]] = {}

    @property
    def now(self) -> float:
        return self.timeline.now

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
        self.network.carry_out(action)
        if isinstance(action, LogEvent):
            self.said.append(action.event)

    def wakes_at(self) -> float:
        return self.mirror.wake_at()

    def run(self, seconds: float) -> None:
        """Let time pass, everything in its order."""
        end = self.now + seconds
        self.timeline.run(self, lambda: end)
