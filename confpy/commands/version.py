"""``confpy version``."""

from __future__ import annotations

from confpy import __version__
from confpy.commands import Call
from confpy.commands.stdout import write


def run(call: Call) -> int:  # noqa: ARG001 - it needs nothing
    """Write the version to stdout."""
    write(f"confpy {__version__}\n")
    return 0
