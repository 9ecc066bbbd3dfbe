"""Renders the old and the new templates with the keys of the store, and compares the bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping

from confpy.config.load import load_resources
from confpy.config.resource import Resource
from confpy.config.settings import Settings
from confpy.convert.main import Converted
from confpy.errors import ConfpyError, TemplateError
from confpy.frozen import replace
from confpy.keys.prefixes import join, normalise
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores.tree import Stores, open_stores
from confpy.templates.keymatch import match_keys
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Needs, World, template_name

_ROUNDS = 20


def verify(converted: Converted, settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[bool, str]]:
    """Yield for each pair whether it is equal, and a line; raises ``ConfpyError`` if the store cannot be read."""
    stores = open_stores(settings)
    try:
        for old, old_folder, new, new_folder in _pairs(converted, settings, stores):
            view = _view(stores, old)
            now = time.time()
            before = _rendered(old, old_folder, view, World(now, environ, {}))
            after = _rendered(new, new_folder, view, World(now, environ, {}))
            if isinstance(before, ConfpyError):
                equal = isinstance(after, ConfpyError)
                yield equal, f"{old.src}: fails{' in both' if equal else ', but not as Jinja'}: {before}"
            elif isinstance(after, ConfpyError):
                yield False, f"{old.src}: fails as Jinja: {after}"
            else:
                yield (
                    before == after,
                    f"{old.src}: " + ("the same bytes" if before == after else _difference(before, after)),
                )
    finally:
        stores.close()


def _pairs(converted: Converted, settings: Settings, stores: Stores) -> Iterator[tuple[Resource, str, Resource, str]]:
    paths, plan = converted.paths, converted.plan

    def load(confdir: str) -> tuple[Resource, ...]:
        loaded = load_resources(confdir, settings, stores.prefixes, opens=stores.own)
        folder = os.path.join(confdir, "templates")
        texts = stores.main.capabilities.text_prefixes
        return match_keys(loaded, folder, in_text_store=texts, mounts=stores.mounts).resources

    if paths.is_confdir:
        new = {one.name: one for one in load(paths.dest)}
        folders = os.path.join(paths.source, "templates"), os.path.join(paths.dest, "templates")
        for old in load(paths.source):
            if old.name in new:
                yield old, folders[0], new[old.name], folders[1]
        return
    folder = paths.source if os.path.isdir(paths.source) else os.path.dirname(paths.source) or "."
    # If they lie in a confdir, its resources say which keys a template reads.
    known = load(os.path.dirname(os.path.abspath(folder)))
    root = join(settings.prefix, "/")
    anything = Resource("convert", "", "", "/", normalise(stores.prefixes(root)[0]), stores.prefixes(root))
    for path in plan.changed:
        origin = plan.origins[path]
        readers = [one for one in known if template_name(one.src) == template_name(origin)] or [anything]
        target = os.path.abspath(paths.target(path))
        for one in readers:
            old = replace(one, src=origin)
            new_one = replace(one, src=os.path.basename(target), engine="jinja")
            yield old, folder, new_one, os.path.dirname(target)


def _view(stores: Stores, resource: Resource) -> View:
    tree = KeyTree()
    for store, _, prefixes in stores.split(resource.prefixes):
        for listing in store.read(prefixes).listings.values():
            if listing.error is not None:
                raise listing.error
            for key, value in listing.keys.items():
                tree.set(key, value)
    sources = stores.sources(tree, resource.prefixes, resource.text_prefixes)
    return View.over([one._replace(lists=None, spells=str) for one in sources], resource.strip, resource.base)


def _rendered(resource: Resource, folder: str, view: View, world: World) -> bytes | ConfpyError:
    resolver = Resolver(folder=folder, cache_dir=None)
    renderer = Renderer()
    facts = dict(world.facts)
    for _ in range(_ROUNDS):
        try:
            return renderer.render(resource, view, World(world.now, world.environ, facts)).content
        except Needs as needs:
            facts |= {lookup: resolver.resolve(lookup) for lookup in needs.lookups}
        except ConfpyError as error:
            return error
    return TemplateError("it needs more and more look-ups")


def _difference(before: bytes, after: bytes) -> str:
    """Describe where two texts differ, without the values."""
    lines = zip(before.split(b"\n"), after.split(b"\n"), strict=False)
    line = next((number for number, (old, new) in enumerate(lines, 1) if old != new), 0)
    return f"different bytes, first on line {line} of the target" if line else "different bytes: one is longer"
