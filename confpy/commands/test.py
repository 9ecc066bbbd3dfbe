"""``confpy test``: renders each case below a folder and compares it with what is expected."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

import click

from confpy.commands import Call
from confpy.commands.stdout import colour_diff, is_coloured, printable, write
from confpy.config.settings import Settings
from confpy.config.sources import load_settings
from confpy.errors import TargetError, TemplateError, UsageError
from confpy.preview.cases import Outcome, find_cases, run_case
from confpy.preview.junit import report


def run(call: Call) -> int:
    """Print a line for each case, and the diff of each that failed; returns 4 if one did. Raises ``ConfpyError``."""
    (folder,) = call.arguments
    if not os.path.isdir(folder):
        raise UsageError("there is no such folder with cases", file=folder)
    settings = _settings(folder, call.flags)
    call.log.configure(settings.log_level, settings.log_format)
    cases = find_cases(folder)
    # Cases have one time everywhere.
    os.environ["TZ"] = "UTC"
    time.tzset()
    update, outcomes, took = "update" in call.switches, [], []
    for case in cases:
        began = time.monotonic()
        outcome = run_case(case, settings, update=update)
        took.append(time.monotonic() - began)
        outcomes.append(outcome)
        write(_line(outcome, update=update))
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    write(_summary(outcomes, failed, update=update))
    if path := call.options.get("junit"):
        _save(path, report(os.path.normpath(folder), outcomes, took))
    return TemplateError.exit_code if failed else 0


def _settings(folder: str, flags: Mapping[str, str]) -> Settings:
    """Return the settings, of the confdir that the folder lies in unless another is named."""
    above = os.path.abspath(folder)
    while "confdir" not in flags and above != os.path.dirname(above):
        if os.path.isdir(os.path.join(above, "conf.d")):
            flags = {**flags, "confdir": above}
        above = os.path.dirname(above)
    return load_settings(flags, os.environ)[0]


def _line(outcome: Outcome, *, update: bool) -> str:
    word, colour = ("FAIL", "red") if outcome.problem else ("ok", "green")
    if update and not outcome.problem:
        word, colour = ("written", "yellow") if outcome.written else ("same", "green")
    if is_coloured():
        word = click.style(word, fg=colour, bold=True)
    line = printable(f"{outcome.case.name}{f': {outcome.problem}' if outcome.problem else ''}")
    diff = printable(outcome.diff)
    return f"{word} {line}\n" + (colour_diff(diff) if is_coloured() else diff)


def _summary(outcomes: Sequence[Outcome], failed: int, *, update: bool) -> str:
    cases = f"{len(outcomes)} case{'s' if len(outcomes) != 1 else ''}"
    written = sum(bool(outcome.written) for outcome in outcomes)
    return f"{cases}, {failed} failed" + (f", {written} written" if update else "") + "\n"


def _save(path: str, text: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(text)
    except OSError as error:
        raise TargetError(f"cannot write the report: {error.strerror}", file=path) from None
