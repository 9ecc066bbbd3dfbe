"""``confpy init``: a resource, its template and tests, or a way of running confpy, to start from: ``examples/``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from confpy.commands import Call, init_files
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

NEXT_STEPS = """
Read what was written; the comments say what it is for. Then:
"""


def run(call: Call) -> int:
    """Write files below a folder; raises ``ConfpyError`` and writes nothing if one of them is there."""
    kind, folder = call.arguments
    contents, steps = _contents(kind, call)
    paths = {os.path.join(folder, name): content for name, content in contents.items()}
    for path in paths:
        if os.path.lexists(path):
            raise UsageError("the file exists, nothing was written", hint="name another folder", file=path)
    for path, content in paths.items():
        _write(content, path)
        write(printable(f"wrote {path}") + "\n")
    write(steps.format(folder=printable(shlex.quote(folder)), name=call.options.get("name", "web")))
    return 0


def _contents(kind: str, call: Call) -> tuple[Mapping[str, bytes], str]:
    """Return the files for a program, or for a way of running confpy, and what to do with them."""
    programs = sorted(one.name for one in EXAMPLES.iterdir())
    if kind in init_files.KINDS:
        return init_files.fill(kind, call.options, call.flags), NEXT_STEPS + init_files.KINDS[kind].next
    if kind not in programs:
        there = ", ".join([*programs, *init_files.KINDS])
        raise UsageError(f"there is no example for {kind!r}", hint=f"there is one for {there}")
    if call.options:
        raise UsageError(f"-{min(call.options)} is for {', '.join(init_files.KINDS)}", hint="leave it out")
    return {path: source.read_bytes() for path, source in _files(kind).items()}, NEXT


def _files(program: str) -> dict[str, Traversable]:
    """Return the files for a program, by their paths below the confdir."""
    return {
        os.path.join(kind, one.name): one
        for kind in ("conf.d", "templates", "tests")
        for one in sorted((EXAMPLES / program / kind).iterdir(), key=lambda one: one.name)
    }


def _write(content: bytes, path: str) -> None:
    disk, path = Disk(), os.path.abspath(path)
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
