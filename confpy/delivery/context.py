"""What all steps of a delivery work with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from confpy.config.settings import Settings
from confpy.events import LogEvent
from confpy.frozen import frozen
from confpy.ledger.ledger import Ledger
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.look import Folders


@frozen
class Rules:
    """What holds for every delivery."""

    noop: bool = False
    """Report what would change, check it as far as that needs no file in its place, and leave everything as it is."""
    sync_only: bool = False
    """Write, but run no check and no reload."""
    keep_stage_file: bool = False
    """Leave the candidate of a failed check where it was staged, for inspection."""
    no_reload: bool = False
    """Check and write, but owe no reload."""
    root: str = ""
    """A folder out of which no link may lead; empty: any may."""
    tell: Callable[[LogEvent], None] | None = None
    """Takes a line for each step of a delivery; None: nobody reads them."""

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Return what the settings say."""
        return cls(settings.noop, settings.sync_only, settings.keep_stage_file, settings.no_reload, settings.root or "")


class PrivateFolder:
    """A temporary folder for candidates that cannot lie beside their targets, made when it is first needed."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._path = ""

    @property
    def path(self) -> str:
        """Its path; raises ``OSError`` if it cannot be made."""
        if not self._path:
            self._path = self._disk.make_private_folder()
        return self._path

    def remove(self) -> None:
        if self._path:
            with suppress(OSError):
                self._disk.remove_folder(self._path)


@frozen
class Context:
    """The rules of one batch, and what it acts on."""

    rules: Rules
    disk: Disk
    shell: Shell
    ledger: Ledger
    folders: Folders
    """Those of the targets, as they are now."""
    private: PrivateFolder
    began: float
    """When the batch began, in seconds of the monotonic clock."""

    @property
    def reloads(self) -> bool:
        """Whether a change may owe a reload."""
        return not (self.rules.sync_only or self.rules.no_reload)

    def sync_folders(self, folders: Iterable[str]) -> dict[str, str]:
        """Flush folders to disk; returns those for which that failed, each with the reason."""
        failed = {}
        for folder in sorted(folders):
            try:
                self.disk.sync_folder(folder)
            except OSError as error:
                failed[folder] = error.strerror or str(error)
        return failed
