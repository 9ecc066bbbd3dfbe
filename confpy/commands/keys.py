"""``confpy keys``: the keys of the store as confpy sees them."""

from __future__ import annotations

import json

from confpy.commands import Call
from confpy.commands.authoring import MASK, name, open_confdir, visible
from confpy.commands.stdout import write
from confpy.keys.prefixes import normalise
from confpy.preview.confdir import Confdir, seen_by


def run(call: Call) -> int:
    """Print the keys below a prefix, or those that the resources read; raises ``ConfpyError``."""
    confdir = open_confdir(call, data=call.options.get("data", ""))
    try:
        keys, _ = confdir.listed(_prefixes(confdir, call.arguments))
        pairs = keys.tree.items("/")
        revision = keys.revision
    finally:
        confdir.close()
    shows = "values" in call.switches
    if "json" in call.switches:
        readers = confdir.loaded.resources
        entries = [
            {
                "key": key,
                **({"value": value} if shows else {}),
                "resources": sorted(one.name for one in readers if seen_by(one, key)),
            }
            for key, value in sorted(pairs)
        ]
        source = call.options.get("data") or confdir.settings.backend
        document = {"source": source, "revision": revision, "mounts": confdir.mounts, "keys": entries}
        write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")
        return 0
    shown = (f"{name(key)} = {_quoted(value) if shows else MASK}\n" for key, value in sorted(pairs))
    write("".join(shown))
    if not pairs:
        call.log.write("warning", "keys.none", {"hint": "nothing is there: see -backend, -node and -prefix"})
    return 0


def _quoted(value: str) -> str:
    return visible(json.dumps(value, ensure_ascii=False))


def _prefixes(confdir: Confdir, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return what to read: what was named, else what the resources read, else everything."""
    if arguments:
        return confdir.prefixes_of(arguments[0] if arguments[0].startswith("/") else f"/{arguments[0]}")
    read = tuple(dict.fromkeys(prefix for one in confdir.loaded.resources for prefix in one.prefixes))
    return read or confdir.prefixes_of(normalise(confdir.settings.prefix))
