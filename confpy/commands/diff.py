"""``confpy diff``: what a delivery would change now."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from confpy.commands import Call
from confpy.commands.stdout import colour_diff, is_coloured, printable, show, write
from confpy.config.resource import Resource
from confpy.config.sources import load_settings
from confpy.system.placeholders import command_line
from confpy.target.diff import unified

if TYPE_CHECKING:
    from confpy.daemon.plan import Plan, Planned

WOULD_CHANGE = 10
"""The exit code of ``-exit-code`` if something would change."""
UNTOUCHED = frozenset({"unchanged", "not tried"})


def run(call: Call) -> int:
    """Write the differences to stdout; returns the exit code of what failed, else 10 if asked and something differs."""
    settings, warnings = load_settings(call.flags, os.environ)
    level = settings.log_level if settings.origin("log_level") != "default" else "warning"
    call.log.configure(level, settings.log_format)
    from confpy.daemon.plan import make_plan

    plan = make_plan(settings, warnings, call.log)
    if "json" in call.switches:
        write(as_json(plan))
    else:
        show(as_text(plan))
    would_change = any(_would_change(one) for one in plan.planned.values())
    return plan.code or (WOULD_CHANGE if would_change and "exit-code" in call.switches else 0)


def _would_change(one: Planned) -> bool:
    return one.report.outcome == "would change"


def difference(one: Planned) -> str:
    """Return the unified diff of a target; empty where the content is the same, or not to be shown."""
    resource, current = one.candidate.resource, one.current
    if resource.sensitive or current is None:
        return ""
    old = None if current.status is None or current.stream else current.content
    name = printable(resource.dest).replace("\n", "\\n")
    new = None if one.candidate.gone else one.candidate.content
    return unified(old, new, name, f"{name}\t({printable(resource.name)})")


def as_text(plan: Plan) -> str:
    """Return all differences, each below what is to be said of its resource; a diff can be applied by ``patch``."""
    lines: list[str] = []
    for outcome in plan.outcomes:
        name = str(outcome["resource"])
        one = plan.planned.get(name)
        if outcome["outcome"] in UNTOUCHED and not outcome["error"]:
            continue
        lines += [_comment(f"{name}: {said}") for said in _remarks(one, outcome, plan.held)]
        if one is not None and (text := difference(one)):
            text = printable(text) if sys.stdout.isatty() else text
            lines.append(colour_diff(text) if is_coloured() else text)
    lines.append(_comment(_summary(plan)))
    return "".join(lines)


def _comment(text: str) -> str:
    line = "# " + printable(text).replace("\n", " ")
    return (click.style(line, fg="yellow") if is_coloured() else line) + "\n"


def _unless(resource: Resource) -> str:
    """Return what may make the reload needless: only the running program can say whether it does."""
    runtime = resource.reload_haproxy
    return "" if runtime is None else f", unless the HAProxy at {runtime.describe()} can be told of the change"


def _remarks(one: Planned | None, outcome: Mapping[str, object], held: Mapping[str, str]) -> Iterator[str]:
    name = str(outcome["resource"])
    if outcome["error"]:
        yield f"{outcome['outcome']}: {outcome['error']}"
    elif name in held:
        yield f"stays as it is: {held[name]}; confpy accept {name} delivers what the store wants"
    elif outcome["outcome"] == "held":
        yield "stays as it is, since another resource of its group failed, or is held"
    if one is None:
        return
    resource = one.candidate.resource
    if _would_change(one):
        yield f"{resource.dest} would change: {', '.join(_differs(one))}"
        if resource.reload_cmd is not None:
            yield f"then it would be reloaded: {resource.reload_cmd.describe()}{_unless(resource)}"
    if one.report.unchecked:
        yield f"the check was not run, as it needs the file in its place: {one.report.unchecked}"
    yield from one.report.notes
    if resource.sensitive and not _is_same(one):
        yield "its content differs and is not shown: sensitive = true"
    elif one.current is None:
        yield "the target cannot be read"
    elif one.current.stream:
        yield "the target is a stream: all of the content would be written to it"


def _is_same(one: Planned) -> bool:
    return one.current is not None and not one.candidate.gone and one.current.content == one.candidate.content


def _differs(one: Planned) -> Iterator[str]:
    """Yield what differs, with the old and the new mode and owner."""
    resource, current = one.candidate.resource, one.current
    for what in one.report.differs:
        if what == "mode" and current is not None and resource.mode is not None:
            yield f"mode {current.mode:04o} → {resource.mode:04o}"
        elif what == "owner" and current is not None and current.status is not None:
            yield f"owner {current.status.st_uid}:{current.status.st_gid} → {_owner(resource, current.status)}"
        else:
            yield what


def _owner(resource: Resource, status: os.stat_result) -> str:
    uid = status.st_uid if resource.uid is None else resource.uid
    return f"{uid}:{status.st_gid if resource.gid is None else resource.gid}"


def _summary(plan: Plan) -> str:
    counts = Counter(str(outcome["outcome"]) for outcome in plan.outcomes)
    count = len(plan.outcomes)
    order = ("would change", "failed", "held", "not tried")
    found = ", ".join(f"{counts[what]} {what}" for what in order if counts[what])
    return f"{count} resource{'' if count == 1 else 's'}: {found or 'nothing would change'}"


def as_json(plan: Plan) -> str:
    """Return the plan as one JSON object."""
    resources = []
    for outcome in plan.outcomes:
        one = plan.planned.get(str(outcome["resource"]))
        resources.append({name: outcome[name] for name in ("resource", "target", "outcome", "stage", "error")})
        if one is None:
            continue
        resource = one.candidate.resource
        check = command_line(resource.check_cmd) if resource.check_cmd is not None else ""
        resources[-1] |= {
            "differs": [*one.report.differs],
            "diff": None if resource.sensitive else difference(one),
            "check": check,
            "checked": bool(check) and not one.report.unchecked and one.report.outcome != "unchanged",
            "reload": resource.reload_cmd.describe() if resource.reload_cmd is not None else "",
            "group": resource.group,
            "notes": [*one.report.notes],
        }
    made = {"changes": sum(map(_would_change, plan.planned.values())), "resources": resources}
    return json.dumps(made, indent=2) + "\n"
