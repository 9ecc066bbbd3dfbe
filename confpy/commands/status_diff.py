"""``confpy status -diff``: the last change of each target, as far as it may be shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from confpy.commands.stdout import printable
from confpy.config.settings import STATE_DIR, Settings
from confpy.errors import UsageError
from confpy.ledger.folder import folder_name
from confpy.ledger.history import History
from confpy.ledger.last_change import last_change
from confpy.system.disk import Disk


def diffs(status: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Yield the lines for the status of a running confpy; raises ``UsageError`` where the history cannot be read."""
    name = folder_name(os.path.realpath(str(status["confdir"])))
    history, disk = History(os.path.join(settings.state_dir or STATE_DIR, name)), Disk()
    for one in status["resources"]:
        target = str(one["target"])
        try:
            found = last_change(history, target, disk, sensitive=bool(one["sensitive"]))
        except OSError as error:
            hint = "run it as the user that confpy runs as"
            raise UsageError(f"the history cannot be read: {error.strerror}", hint=hint) from error
        yield ""
        if found.why_not:
            yield printable(f"{target}: {found.why_not}")
        yield from map(printable, found.lines)
