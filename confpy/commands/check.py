"""``confpy check``: all mistakes in the files of confdirs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence

import click

from confpy.check.findings import Finding
from confpy.check.main import Checked, check
from confpy.commands import Call
from confpy.commands.stdout import is_coloured, printable, write
from confpy.config.sources import default_confdir
from confpy.errors import UsageError
from confpy.frozen import fields

NAMED_BY_VARIABLES = ("CONFPY_CONFDIR", "CONFPY_CONFIG_FILE")
"""What to check may be said by these even where the result shall not depend on the machine."""

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def run(call: Call) -> int:
    """Write what is wrong to stdout; returns 2 if any of it is an error."""
    host, connect = "host" in call.switches, "connect" in call.switches
    environ = {name: value for name, value in os.environ.items() if host or connect or name in NAMED_BY_VARIABLES}
    named = call.flags.get("confdir") or environ.get("CONFPY_CONFDIR") or default_confdir()
    confdirs = call.arguments or (named,)
    checked = [check(confdir, call.flags, environ, host=host, connect=connect) for confdir in confdirs]
    form = "json" if "json" in call.switches else call.options.get("format", "text")
    write({"text": as_text, "github": as_github, "json": as_json}[form](checked))
    is_wrong = any(one.level == "error" for each in checked for one in each.findings)
    return UsageError.exit_code if is_wrong else 0


def as_text(checked: Sequence[Checked]) -> str:
    """Return a line for each finding, as compilers write them, and one with their number."""
    lines = [_line(finding) for each in checked for finding in (*each.findings, *each.notes)]
    lines += [printable(answer) for each in checked for answer in each.answers]
    levels = Counter(finding.level for each in checked for finding in each.findings)
    resources = _count(sum(each.resources for each in checked), "resource")
    found = " and ".join(_count(levels[level], level) for level in ("error", "warning") if levels[level])
    lines.append(f"{resources} checked: {found or 'no mistakes found'}")
    return "".join(f"{line}\n" for line in lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _line(finding: Finding) -> str:
    place = ":".join(str(part) for part in (_shown(finding.file), finding.line, finding.column) if part)
    message = printable(finding.message + (f"; {finding.hint}" if finding.hint else ""))
    level: str = finding.level
    place = printable(place)
    if is_coloured():
        place = click.style(place, bold=True)
        level = click.style(level, fg=COLOURS[level], bold=True)
    return f"{place}: {level}: {message}" if place else f"{level}: {message}"


def _shown(file: str) -> str:
    """Return the path of a file as people write it from here: in a pull request, that is its path in the repository."""
    if not file:
        return ""
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative


def as_github(checked: Sequence[Checked]) -> str:
    """Return workflow commands, which become annotations of a pull request."""
    lines = []
    for finding in (finding for each in checked for finding in (*each.findings, *each.notes)):
        places = {"file": _shown(finding.file), "line": finding.line, "col": finding.column}
        properties = ",".join(f"{name}={_property(str(value))}" for name, value in places.items() if value)
        message = finding.message + (f"; {finding.hint}" if finding.hint else "")
        level = {"note": "notice"}.get(finding.level, finding.level)
        lines.append(f"::{level} {properties}::{_data(message)}\n")
    return "".join(lines)


def _data(text: str) -> str:
    """Escape a message as the runner unescapes it: a line break would begin another command."""
    return printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _object(finding: Finding) -> dict[str, object]:
    return {**fields(finding), "file": _shown(finding.file)}


def as_json(checked: Sequence[Checked]) -> str:
    """Return one JSON object for all confdirs."""
    findings = [_object(finding) for each in checked for finding in each.findings]
    counts = Counter(finding["level"] for finding in findings)
    made = {
        "errors": counts["error"],
        "warnings": counts["warning"],
        "resources": sum(each.resources for each in checked),
        "findings": findings,
        "notes": [_object(note) for each in checked for note in each.notes],
        "nodes": [answer for each in checked for answer in each.answers],
    }
    return json.dumps(made, indent=2, ensure_ascii=True) + "\n"
