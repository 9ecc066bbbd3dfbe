"""A confdir and its store, or a file with keys in the store's place, for commands that render and deliver nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar

from confpy.config.for_each import item_of, items_called
from confpy.config.load import load_resources
from confpy.config.resource import Loaded, Resource
from confpy.config.settings import SECRET_VARIABLES, Settings
from confpy.config.toml import mend
from confpy.errors import StoreError, TemplateError, UsageError
from confpy.events import MOST_NAMES, LogEvent
from confpy.frozen import replace
from confpy.keys.each import Each
from confpy.keys.mounts import shown
from confpy.keys.prefixes import covers, join, normalise
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores import open_store
from confpy.stores.tree import Stores, open_stores
from confpy.templates.keymatch import match_keys
from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Needs, Rendered, World, template_name

Result_co = TypeVar("Result_co", covariant=True)

ROUNDS = 100
"""Renders of one template, each with the look-ups that the one before asked for."""


class Renders(Protocol[Result_co]):
    """What renders, or traces a render."""

    def render(self, resource: Resource, view: View, world: World, /) -> Result_co:
        """Render; raises ``Needs`` and ``ConfpyError``."""


class Keys(NamedTuple):
    """The keys of a resource."""

    view: View
    tree: KeyTree
    revision: int
    """Of the store; 0 where it counts none."""


class Confdir:
    """The resources of a confdir, and where their keys come from. ``close`` ends it."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], data: str = "", *, now: float | None = None
    ) -> None:
        """``data``: a file with keys, read as the file store reads it; empty: the store of the settings.

        ``now``: the time that templates are told, in seconds since 1970 UTC; None: that of the clock.

        Raises ``UsageError`` for settings that the store refuses.
        """
        self.settings = settings
        self.templates = os.path.join(settings.confdir, "templates")
        self._environ = {name: value for name, value in environ.items() if name not in SECRET_VARIABLES}
        self._data = data
        self._now = now
        self._stores = self._open()
        self._loaded: Loaded | None = None
        self._renderer = Renderer(sandbox=settings.sandbox)

    def _open(self) -> Stores:
        if not self._data:
            return open_stores(self.settings)
        of_file = replace(self.settings, files=(self._data,), filter="*", file_format="document")
        return Stores(open_store("file", of_file))

    def close(self) -> None:
        self._stores.close()

    @property
    def files(self) -> tuple[str, ...]:
        """The paths whose edits can change a result: of the confdir, and the files with the keys."""
        own = [os.path.join(self.settings.confdir, name) for name in ("conf.d", "templates")]
        of_stores = (self.settings, *self.settings.mounts.values())
        of_files = [file for one in of_stores if one.backend == "file" for file in one.files]
        keys = [self._data] if self._data else of_files
        return (*filter(os.path.exists, own), *keys)

    @property
    def mounts(self) -> dict[str, str]:
        """Where further stores are mounted → the kind of each."""
        mounted = {**self.settings.mounts, **self._stores.kinds}
        return {mount: mounted[mount].backend for mount in self._stores.mounted}

    @property
    def is_remote(self) -> bool:
        """Whether keys come from a server."""
        return self._stores.capabilities.remote

    # --- resources ---------------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """Return the resources, as a run reads them."""
        if self._loaded is None:
            opens = None if self._data else self._stores.own
            loaded = load_resources(self.settings.confdir, self.settings, self._stores.prefixes, opens=opens)
            texts = self._stores.main.capabilities.text_prefixes
            mounts = self._stores.mounts
            self._loaded = match_keys(loaded, self.templates, in_text_store=texts, mounts=mounts)
        return self._loaded

    def forget(self) -> None:
        """Read resources and templates anew when they are needed: they were edited."""
        self._loaded = None

    def find(self, name: str) -> Resource | None:
        """Return the resource with a name, a file, a template or a target; None if there is none.

        Raises ``UsageError`` where several have it, or its file cannot be used.
        """
        loaded = self.loaded
        path = os.path.realpath(name)
        for broken, error in loaded.errors.items():
            if name == broken or os.path.realpath(str(error.where.get("file", ""))) == path:
                raise error
        for found in (
            [one for one in loaded.resources if one.name == name],
            [one for one in loaded.resources if os.path.realpath(one.file) == path],
            [one for one in loaded.resources if one.dest == os.path.abspath(name)],
            [one for one in loaded.resources if os.path.realpath(os.path.join(self.templates, one.src)) == path],
            [one for one in loaded.resources if template_name(one.src) == template_name(name)],
            [one for one in loaded.resources if os.path.basename(one.dest) == name],
        ):
            if len(found) > 1:
                names = ", ".join(sorted(one.name for one in found))
                raise UsageError(f"several resources have {name!r}", hint=f"name one of them: {names}")
            if found:
                return found[0]
        return next(items_called(loaded.resources, name), None)

    def alone(self, path: str) -> Resource:
        """Return a resource for a template that none reads: it sees all keys, and includes what lies beside it."""
        file = os.path.abspath(path)
        above = confdir_of(file)
        self.templates = os.path.join(above, "templates") if above else os.path.dirname(file)
        prefixes = self._stores.prefixes(join(self.settings.prefix, "/"))
        src = os.path.relpath(file, self.templates)
        return Resource(path, "", src, "", normalise(prefixes[0]), prefixes)

    def unknown(self, name: str) -> UsageError:
        """Return the error for a name that nothing has."""
        if not self.loaded.found:
            return UsageError(f"there is no conf.d in {self.settings.confdir}", hint="-confdir names the confdir")
        names = [one.name for one in self.loaded.resources]
        hint = mend(name, names) or (f"it has {', '.join(names[:10])}" if names else "it has no resource")
        return UsageError(f"no resource, template or target {name!r} in {self.settings.confdir}", hint=hint)

    # --- keys --------------------------------------------------------------------------------------------------------

    def read(self, resource: Resource) -> Keys:
        """Return the keys of a resource as its template sees them; raises ``StoreError``.

        Raises ``UsageError`` for a resource with ``for_each`` of which no item is named.
        """
        keys, _ = self.listed(resource.prefixes)
        self._insist(resource, keys.tree)
        sources = self._stores.sources(keys.tree, resource.seen, resource.text_prefixes)
        view = View.over(sources, resource.strip, resource.base)
        if resource.each is not None:
            self._insist_on_item(resource, resource.each, view)
        return keys._replace(view=view)

    def _insist_on_item(self, resource: Resource, each: Each, view: View) -> None:
        """Raise ``UsageError`` where one file is to be made of many, ``StoreError`` where an item has no key."""
        if resource.item is None:
            names = sorted(each.find(view))
            some = ", ".join(f"{resource.name}:{name}" for name in names[:MOST_NAMES])
            hint = f"name one: {some}{' …' if len(names) > MOST_NAMES else ''}" if names else "no key matches now"
            raise UsageError(f"{resource.name} makes one file per key ({each.text})", hint=hint)
        if not each.is_there(resource.item.name, view):
            raise StoreError("the key is not in the store", key=resource.item.key, resource=resource.name)

    def readers(self, key: str) -> list[Resource]:
        """Return the resources that read a key, or keys below it; of those with ``for_each``, the item that does."""
        found = [one for one in self.loaded.resources if reads(one, key)]
        return [one if one.each is None else self._item_reading(one, one.each, key) for one in found]

    @staticmethod
    def _item_reading(resource: Resource, each: Each, key: str) -> Resource:
        name = each.name_in(key)
        return item_of(resource, name) if name and each.matches(name) else resource

    def listed(self, prefixes: Sequence[str]) -> tuple[Keys, dict[str, str]]:
        """Return what the stores have at and below raw prefixes: as a tree, and as they spell them.

        The revision is that of the first store: those of two do not compare.
        """
        tree, revision = KeyTree(), 0
        raw: dict[str, str] = {}
        for number, (store, _, group) in enumerate(self._stores.split(prefixes)):
            for listing in store.read(group).listings.values():
                if listing.error is not None:
                    raise listing.error
                # Files and variables count nothing that people could look up.
                if number == 0 and store.capabilities.remote:
                    revision = max(revision, listing.revision)
                for key, value in listing.keys.items():
                    tree.set(key, value)
                    raw[key] = value
        return Keys(View(tree, ("/",)), tree, revision), raw

    def state(self, prefixes: Sequence[str]) -> object:
        """Return what is equal while the keys are; raises ``StoreError``."""
        return [store.poll(group) or store.read(group) for store, _, group in self._stores.split(prefixes)]

    def prefixes_of(self, path: str) -> tuple[str, ...]:
        """Return what the stores are asked for a path."""
        return self._stores.prefixes(path)

    def _insist(self, resource: Resource, tree: KeyTree) -> None:
        """Raise ``StoreError`` where a resource fails without a key that is not there."""
        for store, _, group in self._stores.split(resource.text_prefixes or resource.prefixes):
            on_missing = resource.on_missing or ("empty" if self._data else store.capabilities.missing)
            for path in map(normalise, group) if on_missing == "error" else ():
                if not resource.text_prefixes and not tree.count(path):
                    hint = 'put it there, or write on_missing = "empty"'
                    raise StoreError("the key is not in the store", hint=hint, key=path, resource=resource.name)

    # --- rendering ---------------------------------------------------------------------------------------------------

    def render(self, resource: Resource, view: View) -> Rendered:
        """Return what a resource's template makes of keys; raises ``ConfpyError``, with its column where known."""
        try:
            return self.resolved(self._renderer, resource, view)
        except TemplateError as error:
            column = self._column(error, resource, view)
            failure = error.at(column=column) if column else error
        # Raised out here, without the frames of the second render, which hold values.
        raise failure

    def _column(self, error: TemplateError, resource: Resource, view: View) -> int:
        """Return the column at which a template failed: it is rendered once more, with tracing. 0: not known."""
        from confpy.templates.marking import LineRenderer  # only for errors

        where = error.where
        if "line" not in where or "column" in where:
            return 0
        tracer = LineRenderer(sandbox=self.settings.sandbox)
        with suppress(Exception):  # the same that it failed with before, or none that is of use
            self.resolved(tracer, resource, view)
        fault = tracer.fault
        return fault.column if fault and (fault.template, fault.line) == (where.get("template"), where["line"]) else 0

    def resolved(self, renderer: Renders[Result_co], resource: Resource, view: View) -> Result_co:
        """Return what a renderer makes of a resource; raises what it raises. Look-ups are made as in a run."""
        resolver = Resolver(folder=self.templates, cache_dir=None, sandbox=self.settings.sandbox)
        facts: dict[Lookup, object] = {}
        now = time.time() if self._now is None else self._now
        for _ in range(ROUNDS):
            try:
                world = World(now, self._environ, facts)
                return renderer.render(resource, view, world)
            except Needs as needs:
                for answers in resolver.resolve_all(tuple(needs.lookups)):
                    facts |= answers
        raise TemplateError("it needs more and more look-ups", resource=resource.name, template=resource.src)


def notes_on(resource: Resource, rendered: Rendered) -> Iterable[LogEvent]:
    """Yield what a run would log of a render."""
    for one in rendered.left_out:
        yield LogEvent("warning", "value.skipped", {"resource": resource.name, "key": one.key, "reason": one.reason})
    for suspicion in rendered.suspicions:
        where = {"resource": resource.name, "template": resource.src}
        yield LogEvent("warning", "template.suspicious", {**where, "asked": suspicion.asked, "hint": suspicion.hint})
    if rendered.outside:
        where = {"resource": resource.name, "template": resource.src}
        hint = "that is not below any of the resource's keys: see keys and prefix in its file"
        yield LogEvent("warning", "template.suspicious", {**where, "asked": ", ".join(rendered.outside), "hint": hint})


def confdir_of(path: str) -> str:
    """Return the confdir that a template or a resource file lies in, empty if it lies in none."""
    folder = os.path.dirname(os.path.abspath(path))
    while folder != os.path.dirname(folder):
        parent = os.path.dirname(folder)
        if os.path.basename(folder) in {"templates", "conf.d"} and os.path.isdir(os.path.join(parent, "conf.d")):
            return parent
        folder = parent
    return ""


def reads(resource: Resource, key: str) -> bool:
    """Say whether a resource reads a key, or keys below it."""
    paths = [shown(normalise(one)) for one in resource.text_prefixes or resource.prefixes]
    own = resource.base and any(covers(path, key) for path in paths)
    return bool(own) or seen_by(resource, key) or any(covers(key, path) for path in paths)


def seen_by(resource: Resource, key: str) -> bool:
    """Say whether a resource reads a key of the store."""
    if resource.text_prefixes:
        return any(key.startswith(text.rstrip("/")) for text in resource.text_prefixes)
    return any(covers(normalise(prefix), key) for prefix in resource.prefixes)
