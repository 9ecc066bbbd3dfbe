"""Rendering: a resource, what it sees of its store, and what is known of the world become bytes. Pure.

What a template asks of the world outside its store (other templates, names, files) it finds in ``World.facts``. What is
not there is asked for with ``Needs``; ``resolve.Resolver`` answers it on a worker, and the render is made again.
This face stays cheap: jinja2 is imported with the first template that is there to be rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confpy.model import Lookup, Resource
from confpy.templates.facts import template_lookup

if TYPE_CHECKING:
    from confpy.keytree import View
    from confpy.templates.engine import Engine

__all__ = ["LeftOut", "Needs", "Rendered", "Renderer", "World"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry that a template dropped so that the others can be delivered."""

    key: str
    reason: str
    """What is wrong with it; never the value."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one render made, and what it rests on."""

    content: bytes
    asked: frozenset[Lookup]
    """The facts that it used: another answer to one of them can make another content."""
    timely: bool
    """It asked for the time."""
    left_out: tuple[LeftOut, ...] = ()


class Needs(Exception):  # not an error: the render goes on when these are answered
    """Facts that are not in the ``World`` yet: what the template asked for, and what it is known to ask for next."""

    def __init__(self, lookups: frozenset[Lookup]) -> None:
        super().__init__(lookups)
        self.lookups = lookups


@dataclass(frozen=True, slots=True)
class World:
    """What is known of everything outside the store."""

    now: float
    """Seconds since 1970 UTC."""
    environ: Mapping[str, str]
    facts: Mapping[Lookup, object]
    """Lookup → the answer of a ``Resolver``, or the ``ConfpyError`` that it ended in."""


class Renderer:
    """Renders templates. For one thread: the owner's."""

    def __init__(self, *, sandbox: bool = False) -> None:
        """``sandbox``: templates may be of somebody who is not trusted."""
        self._sandbox = sandbox
        self._engine: Engine | None = None

    def render(self, resource: Resource, view: View, world: World) -> Rendered:
        """Render the resource's template; raises ``Needs``, or ``TemplateError`` with the place and without a value."""
        source = template_lookup(resource.src, resource.engine)
        if source not in world.facts:
            raise Needs(frozenset({source}))
        if self._engine is None:
            from confpy.templates.engine import Engine  # brings jinja2

            self._engine = Engine(sandbox=self._sandbox)
        return self._engine.render(resource, view, world)
