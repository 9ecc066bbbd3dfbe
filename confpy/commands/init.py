"""``confpy init``: a resource, its template and tests to start from, those of ``examples/``."""

from __future__ import annotations

import os
import shlex
from importlib.resources import files
from importlib.resources.abc import Traversable

from confpy.commands import Call
from confpy.commands.stdout import printable, write
from confpy.errors import TargetError, UsageError
from confpy.system.disk import Disk

EXAMPLES = files("confpy") / "examples"
"""One folder per program, each with ``conf.d``, ``templates`` and ``tests``; in a zipapp they have no paths."""
NEXT = """
Read the resource and the template: they say what they are for. Then:

  confpy check {folder} -host
  confpy test {folder}
  etcdctl put /services/web/backends/web-1 10.0.0.1:8080
  confpy diff -confdir {folder} -backend etcdv3 -node http://127.0.0.1:2379
  confpy -watch -confdir {folder} -backend etcdv3 -node http://127.0.0.1:2379
"""


def run(call: Call) -> int:
    """Write the files for a program below a folder; raises ``ConfpyError`` and writes nothing if one is there."""
    program, folder = call.arguments
    programs = sorted(one.name for one in EXAMPLES.iterdir())
    if program not in programs:
        raise UsageError(f"there is no example for {program!r}", hint=f"there is one for {', '.join(programs)}")
    paths = {os.path.join(folder, name): source for name, source in _files(program).items()}
    for path in paths:
        if os.path.lexists(path):
            raise UsageError("the file exists, nothing was written", hint="name another folder", file=path)
    for path, source in paths.items():
        _copy(source, path)
        write(printable(f"wrote {path}") + "\n")
    write(NEXT.format(folder=printable(shlex.quote(folder))))
    return 0


def _files(program: str) -> dict[str, Traversable]:
    """Return the files for a program, by their paths below the confdir."""
    return {
        os.path.join(kind, one.name): one
        for kind in ("conf.d", "templates", "tests")
        for one in sorted((EXAMPLES / program / kind).iterdir(), key=lambda one: one.name)
    }


def _copy(source: Traversable, path: str) -> None:
    disk, path = Disk(), os.path.abspath(path)
    content = source.read_bytes()
    try:
        disk.make_folders(os.path.dirname(path), 0o755)
        descriptor = disk.create(path)  # fails if somebody has made one meanwhile
        try:
            disk.write(descriptor, content)
            disk.chmod(descriptor, 0o644)
        finally:
            disk.close(descriptor)
    except OSError as error:
        raise TargetError(f"cannot be written: {error.strerror}", file=path) from error
