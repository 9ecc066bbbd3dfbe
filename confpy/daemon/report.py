"""The outcome of each resource as JSON: ``-report``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from confpy.errors import TargetError
from confpy.system.disk import Disk


def write_report(path: str, outcomes: Sequence[Mapping[str, object]], disk: Disk) -> None:
    """Write a JSON list with one line per resource; raises ``TargetError``."""
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in outcomes)
    content = f"[\n{lines}\n]\n" if outcomes else "[]\n"
    try:
        disk.print(path, content.encode("utf-8", "replace"))
    except OSError as error:
        raise TargetError(f"the report cannot be written: {error.strerror}", file=path) from error
