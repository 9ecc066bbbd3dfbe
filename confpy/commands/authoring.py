"""What the commands for authors of templates share: the confdir that is meant, and text that is safe to show."""

from __future__ import annotations

import json
import os
import sys

from confpy.commands import Call
from confpy.commands.stdout import printable
from confpy.config.resource import Resource
from confpy.config.sources import load_settings
from confpy.errors import UsageError
from confpy.preview.confdir import Confdir, confdir_of

MASK = "***"
"""What stands for a value."""


def open_confdir(call: Call, path: str = "", data: str = "") -> Confdir:
    """Return the confdir of a command: that of its flags, else the one that ``path`` lies in. Raises ``UsageError``.

    ``data``: as ``Confdir`` takes it.
    """
    flags = dict(call.flags)
    if "confdir" not in flags and os.path.isfile(path) and (found := confdir_of(path)):
        flags["confdir"] = found
    if data and data != "-" and not os.path.isfile(data):
        raise UsageError("there is no such file with keys", file=data)
    settings, warnings = load_settings(flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    for warning in warnings:
        call.log.write("warning", "settings.warning", warning.fields())
    return Confdir(settings, os.environ, "/dev/stdin" if data == "-" else data)


def find(confdir: Confdir, name: str) -> Resource:
    """Return the resource that a name, a template, a resource's file or a target means; raises ``UsageError``."""
    found = confdir.find(name)
    if found is None and os.path.isfile(name):
        found = confdir.alone(name)
    if found is None:
        raise confdir.unknown(name)
    return found


def visible(text: str) -> str:
    """Return a text for stdout: on a terminal, its control characters as escapes, so that none is obeyed."""
    if not sys.stdout.isatty():
        return text
    return printable(text)


def name(text: str) -> str:
    """Return a key or a path on one line: as it is, or quoted where it has characters that do not print."""
    return text if text.isprintable() and text else json.dumps(text)
