"""What all parts of the agent share. Pure."""

from __future__ import annotations

from random import Random

from confpy.agent.config import AgentConfig
from confpy.agent.failures import Failures
from confpy.agent.onetime import end_policy
from confpy.agent.resources import Resources
from confpy.agent.step import Step
from confpy.frozen import define
from confpy.mirror.mirror import Mirror
from confpy.mirror.mirrors import Mirrors


@define
class Totals:
    """As ``confpy.status.model.Totals``, which most runs never load."""

    commits: int = 0
    reloads: int = 0
    failed_reloads: int = 0
    avoided: int = 0
    renders: int = 0


class Core:
    """The configuration, the mirror of the store or of all stores, the resources and the step under way.

    The parts keep what they need.
    """

    __slots__ = ("config", "end", "failures", "mirror", "random", "resources", "step", "totals")

    def __init__(self, config: AgentConfig, mirror: Mirror | Mirrors, random: Random) -> None:
        self.config = config
        self.mirror = mirror
        self.random = random
        self.step = Step()
        self.totals = Totals()
        self.resources = Resources(self.step)
        self.end = end_policy(config)
        self.failures = Failures(self.step, self.resources, self.end)
