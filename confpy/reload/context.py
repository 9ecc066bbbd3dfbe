"""What a reload action is run with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from confpy.errors import ReloadError
from confpy.frozen import frozen
from confpy.system.placeholders import Command
from confpy.system.subprocesses import Shell

if TYPE_CHECKING:
    from confpy.system.child import Child


@frozen
class Context:
    """What a reload action is run with."""

    environment: Mapping[str, str]
    """Variables of commands: the resources and their targets."""
    timeout: float
    """Seconds, for each step."""
    shell: Shell
    is_watched: bool = False
    """The verifier watches the program itself: the action need not find out how the reload ended."""
    child: Child | None = None
    """The program that confpy supervises."""

    def run_command(self, role: str, command: Command) -> None:
        """Run a command; raises ``ReloadError`` unless it exits with 0. ``role``: what errors call it."""
        ran = self.shell.run(command, self.environment, self.timeout)
        if ran.failure:
            raise ran.error(ReloadError, role, command)
