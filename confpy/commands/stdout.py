"""What commands print for people and scripts."""

from __future__ import annotations

import os

import click

from confpy.errors import ConfpyError


def write(text: str) -> None:
    """Write to stdout, bytes that were ``surrogateescape`` text as they were; raises ``ConfpyError``."""
    try:
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    except OSError as error:
        # What could not be written is still in the buffer, and would be tried again at the end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ConfpyError(f"cannot write to stdout: {error.strerror}") from error
