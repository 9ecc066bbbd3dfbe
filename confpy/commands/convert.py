"""``confpy convert``: Go templates become Jinja."""

from __future__ import annotations

import os

import click

from confpy.commands import Call
from confpy.config.sources import load_settings
from confpy.convert.main import ConversionRequest, convert
from confpy.errors import TemplateError


def run(call: Call) -> int:
    """Convert, and print what has changed as a diff and what has not on stderr; raises ``ConfpyError``."""
    done = convert(ConversionRequest(*call.arguments))
    for change in done.changes:
        _print(change)
    for problem in done.problems:
        _print(problem, failed=True)
    failed = bool(done.problems)
    if "verify" in call.switches:
        from confpy.convert.verify import verify

        of_confdir = {"confdir": done.paths.source} if done.paths.is_confdir else {}
        settings, _warnings = load_settings({**of_confdir, **call.flags}, os.environ)
        for equal, line in verify(done, settings, os.environ):
            failed |= not equal
            _print(line, failed=not equal)
    return TemplateError.exit_code if failed else 0


def _print(line: str, *, failed: bool = False) -> None:
    click.echo(line.encode("utf-8", "replace"), err=failed)
