"""What the mind knows of one resource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from confpy.agent.shrink import Guard
from confpy.clock import NEVER, Backoff, Damping, Settle
from confpy.config.resource import Resource, commands_of
from confpy.errors import ConfpyError
from confpy.keys.prefixes import Lists, normalise
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.messages import DeliveredState, Outcome
from confpy.templates.lookup import Lookup

NO_COMMANDS = ""
"""What resources with neither check nor reload share instead of a command."""


@dataclass(slots=True)
class ResourceState:
    """What the mind knows of one resource."""

    order: int
    """Its place among the resources: passes keep it."""
    resource: Resource
    settle: Settle
    backoff: Backoff
    view: View
    dirty: bool = True
    trigger: str = "start"
    keys: set[str] = field(default_factory=set)
    """Paths that changed since its content was last made for a delivery."""
    delivering: set[str] = field(default_factory=set)
    """Paths whose changes are in the delivery under way."""
    retry_at: float = -NEVER
    in_flight: bool = False
    tried: bool = False
    """It had an outcome: what one-shot waits for."""
    error: ConfpyError | None = None
    damping: Damping = field(default_factory=Damping)
    told: bool = False
    """A line has told of a failure since it was right last."""
    known: DeliveredState | None = None
    asked: frozenset[Lookup] = frozenset()
    timely: bool = False
    """It printed the time: every look renders it anew."""
    awaited: frozenset[Lookup] = frozenset()
    """Look-ups without which it cannot be rendered: all that this render has met so far."""
    doubted: frozenset[Lookup] = frozenset()
    """What a failed render rested on: asked again before the next."""
    left_out: frozenset[object] = frozenset()
    """What the last render left out: said once."""
    suspicions: frozenset[object] = frozenset()
    """What was said of its template's questions to the store: each once."""
    drift: str = ""
    """The drift that was last told of."""
    guard: Guard = field(default_factory=Guard)
    torn: bool = False
    """Its group was left half new: it is checked and reloaded even where nothing is to be written any more."""
    accepted: bool = False
    """A person said that its keys may be gone."""
    outcome: Outcome | None = None
    """Of its last delivery."""
    recalled: bool = False
    """It was made from the keys of before, or could not be."""
    unread: ConfpyError | None = None
    """Why its program has not read it."""
    ties: tuple[Resource, tuple[str, ...]] | None = None
    """Its ``commands``, and the resource that they are of: asked for in each pass."""

    @property
    def group(self) -> tuple[bool, str]:
        """What it is delivered with: a group, or itself alone."""
        return (True, self.resource.group) if self.resource.group else (False, self.resource.name)

    @property
    def commands(self) -> tuple[str, ...]:
        """Return what ties it to others in a batch: its check and reload commands, as written and as run."""
        if self.ties is None or self.ties[0] is not self.resource:
            self.ties = self.resource, _ties(self.resource)
        return self.ties[1]


def _ties(resource: Resource) -> tuple[str, ...]:
    return commands_of(resource) or (NO_COMMANDS,)


def paths(resource: Resource) -> tuple[str, ...]:
    """Return the paths that a resource covers."""
    return tuple(dict.fromkeys(normalise(prefix) for prefix in resource.prefixes))


def view_of(resource: Resource, tree: KeyTree, lists: Lists | None, spells: Callable[[str], str] = str) -> View:
    """Return what a resource sees of a tree; ``lists`` and ``spells`` as ``View`` takes them."""
    return View(tree, paths(resource), resource.strip, lists, spells, texts=resource.text_prefixes)


def outcome_of(name: str, target: str, outcome: str, error: ConfpyError | None) -> dict[str, object]:
    return {
        "resource": name,
        "target": target,
        "outcome": outcome,
        "changed": outcome == "changed",
        "stage": error.stage if error else "",
        "error": error.message if error else "",
    }
