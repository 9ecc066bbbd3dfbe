"""``confpy render``: what a template makes of keys, on stdout."""

from __future__ import annotations

import sys

from confpy.commands import Call
from confpy.commands.authoring import find, open_confdir, visible
from confpy.commands.stdout import write
from confpy.errors import ConfpyError, UsageError
from confpy.preview.confdir import Confdir, notes_on
from confpy.preview.watch import changes

CLEAR = "\x1b[H\x1b[2J"


def run(call: Call) -> int:
    """Render, and print the result; raises ``ConfpyError``. With -watch it renders at each edit, until a signal."""
    (what,) = call.arguments
    data = call.options.get("data", "")
    if data == "-" and "watch" in call.switches:
        raise UsageError("-watch cannot read the keys from stdin again", hint="name a file with -data")
    confdir = open_confdir(call, what, data)
    try:
        if "watch" not in call.switches:
            _print(_rendered(confdir, what, call))
            return 0
        _follow(confdir, what, call)
    finally:
        confdir.close()
    return 0


def _rendered(confdir: Confdir, what: str, call: Call) -> bytes:
    resource = find(confdir, what)
    if resource.sensitive and not (call.options.get("data") or "values" in call.switches):
        hint = "-values shows it all the same; -data renders it with the keys of a file"
        raise UsageError(f"{resource.name} is sensitive: its content is not shown", hint=hint)
    rendered = confdir.render(resource, confdir.read(resource).view)
    for note in notes_on(resource, rendered):
        call.log.write(note.level, note.event, note.fields)
    return rendered.content


def _follow(confdir: Confdir, what: str, call: Call) -> None:
    last: bytes | str = b""
    for why in changes(confdir, lambda: find(confdir, what).prefixes):
        confdir.forget()
        try:
            found: bytes | str = _rendered(confdir, what, call)
        except ConfpyError as error:
            found = str(error)
            if found != last:
                call.log.write("error", "render.failed", error.fields())
        else:
            if found != last or not why:
                _print(found, clear=True)
            if found != last or why != "keys":
                # Of a busy store most changes are none of this resource's.
                call.log.write("info", "render.done", {"trigger": why or "start", "changed": found != last})
        last = found


def _print(content: bytes | str, *, clear: bool = False) -> None:
    text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
    write((CLEAR if clear and sys.stdout.isatty() else "") + visible(text))
    sys.stdout.flush()
