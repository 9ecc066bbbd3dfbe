"""Render a template as the daemon does: answer what it needs, and render again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from confpy.config.resource import Item, Resource
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Needs, Rendered, World

RENDERER = Renderer()
SANDBOXED = Renderer(sandbox=True)


def resource(
    src: str,
    engine: str = "jinja",
    delimiters: tuple[str, ...] = (),
    watch_files: tuple[str, ...] = (),
    item: Item | None = None,
) -> Resource:
    more = {"engine": engine, "delimiters": delimiters, "watch_files": watch_files, "item": item}
    return Resource("web", "conf.d/web.toml", src, "/run/web", **more)


def view_of(keys: Mapping[str, str]) -> View:
    tree = KeyTree()
    for key, value in keys.items():
        tree.set(key, value)
    return View(tree, ["/"], "/")


def render_in(
    folder: Path,
    src: str,
    keys: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    now: float = 0.0,
    facts: Mapping[Lookup, object] | None = None,
    sandbox: bool = False,
    engine: str = "jinja",
    delimiters: tuple[str, ...] = (),
    watch_files: tuple[str, ...] = (),
    item: Item | None = None,
) -> Rendered:
    """Render a template of a folder, at most ten rounds long."""
    resolver = Resolver(folder=str(folder), cache_dir=None, sandbox=sandbox)
    known = dict(facts or {})
    wanted = resource(src, engine, delimiters, watch_files, item)
    for _ in range(10):
        world = World(now, environ or {}, known)
        try:
            return (SANDBOXED if sandbox else RENDERER).render(wanted, view_of(keys or {}), world)
        except Needs as needs:
            known |= {lookup: resolver.resolve(lookup) for lookup in needs.lookups}
    raise AssertionError("ten rounds, and it still needs more")


def rendered(template: str | bytes, keys: Mapping[str, str] | None = None, **more) -> Rendered:
    """Render a template that is given as text; ``files`` are others beside it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in {"main": template, **more.pop("files", {})}.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return render_in(folder, "main", keys, **more)


def text(template: str | bytes, keys: Mapping[str, str] | None = None, **more) -> str:
    return rendered(template, keys, **more).content.decode("utf-8", "surrogateescape")
