"""Whether a resource sees its keys by whole segments, or as beginnings of text, as in some of confd's stores."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from confpy.config.resource import Loaded, Resource
from confpy.errors import TemplateError
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.keys.mounts import NO_MOUNTS, Mounts
from confpy.keys.prefixes import ROOT, covers, normalise
from confpy.templates.lookup import Lookup
from confpy.templates.results import JINJA_NAMES, template_lookup


def match_keys(loaded: Loaded, templates: str, *, in_text_store: bool, mounts: Mounts = NO_MOUNTS) -> Loaded:
    """Return the resources with what each reads by its ``keys_match``, and notes on it.

    ``auto`` is by text where confd reads keys of this store so (``in_text_store``), and its template, in Go's language,
    asks for a path or a pattern that goes on within the last segment of a key. ``templates`` is their folder.
    ``mounts``: where other stores are mounted, whose keys ``auto`` leaves as they are.
    """
    resources: list[Resource] = []
    sources: dict[str, str] = {}
    notes = list(loaded.notes)
    for resource in loaded.resources:
        matched, note = _matched(resource, templates, sources, mounts, in_text_store=in_text_store)
        resources.append(matched)
        notes += [note] if note else []
    return replace(loaded, resources=tuple(resources), notes=tuple(notes))


def _matched(
    resource: Resource, templates: str, sources: dict[str, str], mounts: Mounts, *, in_text_store: bool
) -> tuple[Resource, LogEvent | None]:
    if resource.keys_match == "text":
        return by_text(resource, mounts), None
    if resource.keys_match == "segment" or not in_text_store:
        return resource, None
    own: Sequence[str] = resource.prefixes
    if mounts.points or resource.base:
        own = [raw for raw in own if not mounts.point_of(raw)]
    asked = extension(resource, own, templates, sources) if own else ""
    if not asked:
        return resource, None
    fields = {
        "resource": resource.name,
        "template": resource.src,
        "asks": asked,
        "did": "reads its keys as beginnings of text, as confd does",
        "hint": 'keys_match = "segment" keeps to whole segments, "text" says that it is meant',
    }
    return by_text(resource, mounts, mounted=False), LogEvent("info", "keys.text_prefixes", fields)


def by_text(resource: Resource, mounts: Mounts = NO_MOUNTS, *, mounted: bool = True) -> Resource:
    """Return the resource as it reads by text; a key that is the prefix itself has no segment that could go on.

    Nor has a mount. Unless ``mounted``, the keys of mounted stores are read by segment all the same.
    """
    reads: list[str] = []
    texts: list[str] = []
    for raw in resource.prefixes:
        path = normalise(raw)
        point = mounts.point_of(path)
        whole = path in {ROOT, resource.strip, point} or (point != "" and not mounted)
        reads.append(raw if whole else raw.rpartition(ROOT)[0] or ROOT)
        texts.append(path.rstrip(ROOT) + ROOT if whole else path)
    unique = tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(texts))
    return replace(resource, prefixes=unique[0], text_prefixes=unique[1])


def extension(resource: Resource, prefixes: Sequence[str], templates: str, sources: dict[str, str]) -> str:
    """Return what its template asks for that goes on within the last segment of a key, else nothing.

    ``prefixes``: those of the resource's that may be read by text.
    ``sources`` are the templates that were read, by path: resources may share one.
    """
    if resource.engine == "jinja" or (resource.engine == "auto" and resource.src.endswith(JINJA_NAMES)):
        return ""
    from confpy.templates.resolve import read_source  # most stores are not read by text

    cut = "" if resource.strip == ROOT else resource.strip
    paths = [normalise(raw) for raw in prefixes]
    keys = [path.removeprefix(cut) or ROOT if covers(resource.strip, path) else path for path in paths]
    lookup = template_lookup(resource.src, resource.engine, resource.delimiters)
    file = os.path.join(templates, lookup.name)
    if file not in sources:
        try:
            sources[file] = read_source(file)
        except TemplateError:
            sources[file] = ""  # reported when it is rendered
    return asked_beyond(keys, sources[file], lookup, file)


def asked_beyond(keys: Sequence[str], source: str, lookup: Lookup, file: str) -> str:
    """Return what a template's text asks for that goes on within the last segment of a key, else nothing.

    ``keys`` are paths as the template sees them. Nothing where its language is Jinja, or where it cannot be read.
    """
    keys = [key for key in keys if key != ROOT]
    # Cheap: most templates are not read any further than this.
    if not any(_occurs(key, source) for key in keys):
        return ""
    from confpy.templates.compiler import Compiler
    from confpy.templates.golang.keypaths import key_paths

    tree = Compiler(sandbox=False).go_tree(source, lookup, file)
    for asked in key_paths(tree) if tree is not None else ():
        plain = _META.split(asked.text)[0]
        # Of a pattern, and of a text that goes on in a way not known here, only the folder is known.
        known = plain if asked.whole and plain == asked.text else plain.rpartition(ROOT)[0] or ROOT
        if any(_goes_on(key, asked.text) for key in keys) and not any(covers(key, known) for key in keys):
            return asked.text
    return ""


def _occurs(key: str, source: str) -> bool:
    """Say whether a text has the key with more of a segment behind it."""
    at = source.find(key)
    while at >= 0:
        at += len(key)
        if source[at : at + 1] not in _ENDS:
            return True
        at = source.find(key, at)
    return False


def _goes_on(key: str, asked: str) -> bool:
    return asked.startswith(key) and asked[len(key) : len(key) + 1] not in {"", ROOT}


_ENDS = frozenset({"", ROOT, '"', "`", " ", "\n"})
_META = re.compile(r"[*?\[\\]")
