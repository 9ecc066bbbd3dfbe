"""``confpy why``: what a key is used for, or what a file or a line of it comes from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from confpy.commands import Call
from confpy.commands.authoring import name, open_confdir, visible
from confpy.commands.stdout import write
from confpy.config.resource import Resource
from confpy.errors import ConfpyError, UsageError
from confpy.keys.prefixes import normalise
from confpy.ledger.folder import StateFolder
from confpy.ledger.history import History, entries_of
from confpy.preview.confdir import Confdir
from confpy.preview.why import Explained, explain, left_out_below, parse_place, touched_by
from confpy.templates.lines import Absent, Line

MOST_SHOWN = 8
"""Keys and lines of one entry that are shown; -json has all."""


def run(call: Call) -> int:
    """Print why; raises ``ConfpyError``."""
    (asked,) = call.arguments
    confdir = open_confdir(call, asked, call.options.get("data", ""))
    try:
        resource, number = _target(confdir, asked)
        if resource is None:
            return _of_key(confdir, asked, call)
        explained = explain(confdir, resource)
    finally:
        confdir.close()
    delivered = _delivered(confdir, explained)
    line = _line(explained, number) if number else None
    if "json" in call.switches:
        _write_json(_document(explained, number, line, call) | {"delivered": delivered or None})
    elif number:
        _write(_of_line(explained, number, line, delivered, shows="values" in call.switches))
    else:
        _write(_of_target(explained, delivered))
    return 0


def _target(confdir: Confdir, asked: str) -> tuple[Resource | None, int]:
    """Return the resource and the line that are meant, no resource where it is a key; raises ``UsageError``."""
    path, number = parse_place(asked)
    for one, at in ((asked, 0), (path, number)) if number else ((asked, 0),):
        if (found := confdir.find(one)) is not None:
            return found, at
    if asked.startswith("/") and confdir.loaded.found and not os.path.isfile(path):
        return None, 0
    raise confdir.unknown(path)


def _line(explained: Explained, number: int) -> Line | None:
    last = len(explained.lines if explained.on_disk is None else explained.on_disk)
    if number > last:
        raise UsageError(f"there is no line {number}: {explained.resource.dest} has {last}")
    return explained.at(number)


def _delivered(confdir: Confdir, explained: Explained) -> str:
    """Say when, and at which revision, the content of the target was delivered; empty if the history does not know."""
    state = StateFolder.of(confdir.settings, lambda _: None)
    with suppress(OSError):
        # The history is that of a run; who may not read it does without.
        entries = entries_of(History(state.path, most=confdir.settings.history or 1).read(), explained.resource.dest)
        for entry in reversed(entries):
            if entry.new and entry.new == explained.digest:
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.at))
                return at + (f", revision {entry.revision}" if entry.revision else "")
    return ""


# --- a line ----------------------------------------------------------------------------------------------------------


def _of_line(explained: Explained, number: int, line: Line | None, delivered: str, *, shows: bool) -> Iterator[str]:
    yield f"{name(explained.resource.dest)}:{number}"
    yield f"  resource  {name(explained.resource.name)}"
    if line is None:
        yield "  Rendering does not give this line now: it was edited, or made from other keys or another template."
    else:
        yield f"  template  {_place(line)}"
        yield f"  keys      {_listed(line.keys) or 'none: it is text of the template'}"
        if line.because:
            yield f"  because   {_listed(line.because)}"
    if explained.revision:
        yield f"  revision  {explained.revision}"
    if delivered:
        yield f"  delivered {delivered}"
    if shows and (text := explained.on_disk[number - 1] if explained.on_disk else line.text if line else None):
        yield f"  text      {visible(text)}"
    yield from _state(explained, "")


def _place(line: Line) -> str:
    place = f"{name(line.template)}:{line.line}" + (f":{line.column}" if line.column else "")
    return place if line.template else "not known"


def _listed(keys: Sequence[str]) -> str:
    shown = [f"{name(key)} (not in the store)" if isinstance(key, Absent) else name(key) for key in keys[:MOST_SHOWN]]
    return ", ".join(shown) + (f" and {len(keys) - MOST_SHOWN} more" if len(keys) > MOST_SHOWN else "")


def _state(explained: Explained, numbering: str = "The lines above are those of the rendering.") -> Iterator[str]:
    """Say how the file on disk differs from what was rendered, and whose line numbers the others are."""
    if explained.on_disk is None:
        yield f"The file on disk: {explained.reason}. The lines are those that rendering gives now."
    elif not explained.is_current:
        changed = explained.changed_lines()
        some = f" in {_numbers(changed)}" if changed else ", which has more lines"
        yield f"The file on disk differs from what rendering gives now{some}. {numbering}".rstrip()


def _numbers(numbers: Sequence[int]) -> str:
    """Write line numbers as ranges: ``lines 3-5, 8``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:MOST_SHOWN]]
    more = f" and {len(ranges) - MOST_SHOWN} more ranges" if len(ranges) > MOST_SHOWN else ""
    return ("line " if len(numbers) == 1 else "lines ") + ", ".join(shown) + more


# --- a target --------------------------------------------------------------------------------------------------------


def _of_target(explained: Explained, delivered: str) -> Iterator[str]:
    at = f", revision {explained.revision}" if explained.revision else ""
    resource = explained.resource
    yield f"{name(resource.dest)}: resource {name(resource.name)}, template {name(resource.src)}{at}"
    if delivered:
        yield f"  delivered {delivered}"
    uses: dict[tuple[str, str], list[int]] = {}
    for number, line in enumerate(explained.lines, 1):
        for key in line.keys:
            uses.setdefault((_listed([key]), _place(line)), []).append(number)
    for (key, place), numbers in uses.items():
        yield f"  {_numbers(numbers)}: {key}, {place}"
    own = {key for line in explained.lines for key in line.keys}
    others = dict.fromkeys(key for line in explained.lines for key in line.because if key not in own)
    if others:
        yield f"  in conditions only: {_listed([*others])}"
    yield from _state(explained)


# --- a key -----------------------------------------------------------------------------------------------------------


def _of_key(confdir: Confdir, asked: str, call: Call) -> int:
    key = normalise(asked)
    readers = confdir.readers(key)
    code = 0
    entries: list[dict[str, Any]] = []
    lines = [] if readers else [f"{name(key)}: no resource reads it"]
    for resource in readers:
        lines.append(f"{name(key)}: resource {name(resource.name)}, {name(resource.dest)}")
        try:
            explained = explain(confdir, resource)
        except ConfpyError as error:
            call.log.from_error(error)
            code = code or error.exit_code
            lines.append("  it cannot be rendered now")
            entries.append({"resource": resource.name, "target": resource.dest, "error": error.message})
            continue
        found = [*touched_by(key, explained)]
        places: dict[str, list[int]] = {}
        for number, line in found:
            places.setdefault(_place(line), []).append(number)
        lines += [f"  {_numbers(numbers)}: {place}" for place, numbers in places.items()]
        left_out = [*left_out_below(key, explained)]
        lines += [f"  left out: {name(one.key)}: {one.reason}" for one in left_out]
        lines += [] if found or left_out else ["  no line depends on it"]
        lines += _state(explained)
        about = {
            "lines": [_entry(n, line, call) for n, line in found],
            "left_out": [{"key": one.key, "reason": one.reason} for one in left_out],
        }
        entries.append(_document(explained, 0, None, call) | about)
    if "json" in call.switches:
        _write_json({"key": key, "resources": entries})
    else:
        _write(lines)
    return code


# --- output ----------------------------------------------------------------------------------------------------------


def _document(explained: Explained, number: int, line: Line | None, call: Call) -> dict[str, Any]:
    resource = explained.resource
    chosen = [(number, line)] if number else [*enumerate(explained.lines, 1)]
    return {
        "resource": resource.name,
        "target": resource.dest,
        "revision": explained.revision,
        "current": explained.is_current,
        "changed": list(explained.changed_lines()) if explained.on_disk is not None else None,
        "lines": [_entry(at, one, call) for at, one in chosen],
    }


def _entry(number: int, line: Line | None, call: Call) -> dict[str, Any]:
    if line is None:
        return {"line": number, "rendered": False}
    return {
        "line": number,
        "template": line.template,
        "template_line": line.line,
        "template_column": line.column or None,
        "keys": [key for key in line.keys if not isinstance(key, Absent)],
        "because": [key for key in line.because if not isinstance(key, Absent)],
        "absent": [key for key in (*line.keys, *line.because) if isinstance(key, Absent)],
        **({"text": line.text} if "values" in call.switches else {}),
    }


def _write(lines: Iterable[str]) -> None:
    write("".join(f"{line}\n" for line in lines))


def _write_json(document: object) -> None:
    write(json.dumps(document, indent=2) + "\n")
