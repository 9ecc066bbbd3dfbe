"""What all parts of the agent share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar

from confpy.agent.config import AgentConfig
from confpy.agent.failures import Failures
from confpy.agent.onetime import end_policy
from confpy.agent.resources import Resources
from confpy.agent.step import Step
from confpy.candidates import OwnedFile
from confpy.config.resource import Resource
from confpy.frozen import NOTHING, define
from confpy.messages import Recovered
from confpy.mirror.mirror import Mirror

if TYPE_CHECKING:
    from confpy.mirror.mirrors import Mirrors


T = TypeVar("T")


class ItemsOnDemand(Generic[T]):
    """A place for the items of resources with ``for_each``, whose module is loaded for the first of these."""

    __slots__ = ("now", "owned")

    def __init__(self) -> None:
        self.now: T | None = None
        """The items; None as long as no resource has some."""
        self.owned: list[OwnedFile] = []
        """The files that were made of items by then."""


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

    __slots__ = ("_known", "_own", "config", "end", "failures", "mirror", "random", "resources", "step", "totals")

    def __init__(
        self, config: AgentConfig, mirror: Mirror | Mirrors, random: Random, own: Callable[[str], Mirror] | None = None
    ) -> None:
        """``own`` makes the mirror of a store that a resource has for itself, of where that is."""
        self._own = own
        self._known: Mapping[str, tuple[str, int]] = NOTHING
        """What the ledger has of mounted stores."""
        self.config = config
        self.mirror = mirror
        self.random = random
        self.step = Step()
        self.totals = Totals()
        self.resources = Resources(self.step)
        self.end = end_policy(config)
        self.failures = Failures(self.step, self.resources, self.end)

    def expect(self, recovered: Recovered) -> None:
        """Take which stores the ledger knows, and their revisions then: another one will be noticed."""
        self._known = recovered.stores
        self.mirror.expect(recovered.identity, recovered.revision)
        for key, (identity, revision) in recovered.stores.items():
            self.mirror.expect(identity, revision, key)

    def add_stores(self, resources: Iterable[Resource]) -> None:
        """Add the mirrors of the stores that resources have for themselves, as far as there are none yet."""
        bases = dict.fromkeys(one.base for one in resources if one.base)
        if not bases or self._own is None:
            return
        from confpy.mirror.mirrors import Mirrors  # most runs have one store

        mirrors = self.mirror if isinstance(self.mirror, Mirrors) else Mirrors((self.mirror,))
        new = [self._own(base) for base in bases if not mirrors.has(base)]
        for one in new:
            identity, revision = self._known.get(one.key, ("", 0))
            one.expect(identity, revision, one.key)
        mirrors.add(new)
        self.mirror = mirrors
