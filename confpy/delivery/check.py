"""Checks of a candidate: the command of its resource, and whether it parses as its ``output_format``.

Loaded only where a resource has one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from confpy.config.resource import Resource
from confpy.errors import CheckError
from confpy.system.placeholders import Command, command_line, fill_command, names_candidate
from confpy.system.subprocesses import Shell

FORMATS = ("json", "toml", "xml", "yaml")
DEPTH = 500
"""Collections within each other that YAML may have: its parser takes time by the square of them."""
OF_ONE = re.compile(r"CONFPY_(SRC|DEST|RESOURCE)\b")
"""Variables whose value differs between the members of a group."""
FRAGMENTS: tuple[tuple[str, str], ...] = (
    (r'directive is not allowed here in {candidate}:|no "events" section in configuration', "nginx -t"),
    (r"AH00534: .*No MPM loaded", "apachectl configtest"),
    (r"will not start \(no listener\)|unable to find required (?:default|use)_backend", "haproxy -c -f /etc/haproxy"),
)
"""A pattern of what a check writes about a part of a configuration, and a check of the whole."""


def command_of(resource: Resource, candidate: str) -> Command:
    """Return the check of a resource, filled in for a candidate."""
    assert resource.check_cmd is not None
    return fill_command(resource.check_cmd, candidate, resource.dest)


def run_check(resource: Resource, candidate: str, shell: Shell, sources: Mapping[str, str]) -> None:
    """Run a resource's check over its candidate; raises ``CheckError``. ``sources`` are further variables."""
    command = command_of(resource, candidate)
    own = {"CONFPY_SRC": candidate, "CONFPY_DEST": resource.dest, "CONFPY_RESOURCE": resource.name}
    ran = shell.run(command, {**sources, **own}, resource.check_cmd_timeout)
    if ran.failure:
        error = ran.error(CheckError, "check", command)
        if resource.check_cmd is not None and names_candidate(resource.check_cmd):
            error.hint = error.hint or hint_of(ran.tail, candidate)
        raise error


def is_shared(command: Command, *, swap: bool) -> bool:
    """Return whether one run of a command checks all members of a group that have it.

    ``swap``: it reads the targets. Over staged files it is shared only if it names the members that it reads: a command
    that reads its variables inside, where that cannot be seen, differs for each.
    """
    text = command_line(command)
    return not OF_ONE.search(text) and (swap or "CONFPY_SRC_" in text)


def variable(name: str) -> str:
    """Return the name of a resource as a part of the name of a variable."""
    return re.sub("[^A-Z0-9]", "_", name.upper())


def hint_of(output: str, candidate: str) -> str:
    """Return what to do about a check whose output says that the candidate may be only a part; else an empty string."""
    for pattern, whole in FRAGMENTS:
        if re.search(pattern.replace("{candidate}", re.escape(candidate)), output):
            return (
                "where this file is only a part of a configuration, check the whole one with it in its place: "
                f'check_cmd = "{whole}", check_mode = "swap"'
            )
    return ""


def parse(content: bytes, kind: str) -> None:
    """Parse ``content`` as one of ``FORMATS``; raises ``CheckError`` with the line, never with a value."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CheckError(f"the rendered file is not {kind}: a byte that is not UTF-8", line=line) from None
    line, reason = {"json": _json, "toml": _toml, "xml": _xml, "yaml": _yaml}[kind](text)
    if reason:
        where = {"line": line} if line else {}
        raise CheckError(
            f"the rendered file is not {kind}: {reason}", hint="mend the template, or output_format", **where
        )


def _json(text: str) -> tuple[int, str]:
    import json

    try:
        json.loads(text, parse_int=len, parse_float=len, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        return error.lineno, error.msg
    except ValueError as error:
        return 0, str(error)
    except RecursionError:
        return 0, "nested too deeply"
    return 0, ""


def _no_number(name: str) -> None:
    """Reject what Python reads, but RFC 8259 does not allow."""
    raise ValueError(f"{name} is no JSON")


def _toml(text: str) -> tuple[int, str]:
    import re
    import tomllib

    try:
        tomllib.loads(text)
    except ValueError as error:
        # Not only TOMLDecodeError: also a number of thousands of digits. Before Python 3.14 the place is only in the
        # text of the error, which may quote what it found there.
        place = re.search(r"at line (\d+)", str(error))
        return int(place[1]) if place else 0, "it does not parse"
    except RecursionError:
        return 0, "nested too deeply"
    return 0, ""


def _xml(text: str) -> tuple[int, str]:
    from xml.parsers import expat

    parser = expat.ParserCreate()
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        return error.lineno, expat.ErrorString(error.code)
    except (LookupError, ValueError):
        return 1, "it declares an encoding that it does not have"
    return 0, ""


def _yaml(text: str) -> tuple[int, str]:
    import yaml

    depth = 0
    anchors: set[str] = set()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                anchors.clear()
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    return _line(event.start_mark), "an alias without its anchor"
            elif isinstance(event, yaml.NodeEvent) and event.anchor:
                anchors.add(event.anchor)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                return _line(event.start_mark), "nested too deeply"
    except yaml.MarkedYAMLError as error:
        return _line(error.problem_mark), "it does not parse"
    except yaml.reader.ReaderError as error:
        return text.count("\n", 0, error.position) + 1, "a character that YAML does not allow"
    return 0, ""


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 0
