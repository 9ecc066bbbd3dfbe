"""Rendering: a resource, what it sees of its store, and what is known of the world become bytes. Pure.

What a template asks of the world outside its store (other templates, names, files) it finds in ``World.facts``. What is
not there is asked for with ``Needs``; ``resolve.Resolver`` answers it on a worker, and the render is made again.
This face stays cheap: jinja2 is imported with the first template that is there to be rendered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confpy.config.resource import Resource
from confpy.templates.results import LeftOut, Needs, Rendered, World, template_lookup

if TYPE_CHECKING:
    from confpy.keys.view import View
    from confpy.templates.engine import Engine

__all__ = ["LeftOut", "Needs", "Rendered", "Renderer", "World"]


class Renderer:
    """Renders templates. For one thread: the owner's."""

    def __init__(self, *, sandbox: bool = False) -> None:
        """``sandbox``: templates may be of somebody who is not trusted."""
        self._sandbox = sandbox
        self._engine: Engine | None = None

    def render(self, resource: Resource, view: View, world: World) -> Rendered:
        """Render the resource's template; raises ``Needs``, or ``TemplateError`` with the place and without a value."""
        source = template_lookup(resource.src, resource.engine, resource.delimiters)
        if source not in world.facts:
            raise Needs(frozenset({source}))
        if self._engine is None:
            from confpy.templates.engine import Engine  # brings jinja2

            self._engine = Engine(sandbox=self._sandbox)
        return self._engine.render(resource, view, world)
