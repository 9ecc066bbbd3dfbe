"""Converts Go templates and confdirs to Jinja: reads them, writes the new files, reports what it could not convert."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from confpy.config.settings import FILES
from confpy.convert.plan import Kind, Plan, below, kinds_of, plan_confdir, plan_templates, show_changes
from confpy.errors import TargetError, UsageError
from confpy.frozen import frozen
from confpy.system.disk import Disk
from confpy.system.filenames import is_skipped
from confpy.templates.results import JINJA_NAMES


class ConversionRequest(NamedTuple):
    """What ``confpy convert`` was called with."""

    source: str
    dest: str = ""


@frozen
class Paths:
    """Where to read and where to write; paths within a plan are relative to these."""

    source: str
    dest: str
    files: Mapping[str, str]
    """Path in the plan → file."""
    is_confdir: bool = False
    name: str = ""
    """The name of the only new file, if one was given."""

    def target(self, path: str) -> str:
        return os.path.join(self.dest, self.name or path)


@frozen
class Converted:
    """What a conversion did."""

    paths: Paths
    plan: Plan
    changes: tuple[str, ...]
    """The lines of a diff."""
    problems: tuple[str, ...]
    """One line for each place that could not be converted."""


def convert(request: ConversionRequest) -> Converted:
    """Convert, and write the new files; raises ``UsageError`` before any is written, ``TargetError`` for the disk."""
    paths = find_paths(request)
    beside = os.path.realpath(paths.dest) == os.path.realpath(paths.source)
    broken = [file for file in paths.files.values() if not os.path.exists(file)]
    names = [path for path in paths.files if not (beside and path.endswith(JINJA_NAMES))]
    names = [path for path in names if paths.files[path] not in broken]
    contents = {path: _read(paths.files[path]) for path in names}
    if paths.is_confdir:
        plan = plan_confdir(contents, paths.source, paths.dest)
    else:
        plan = plan_templates(contents, _kinds_beside(paths.source, contents))
    if beside or os.path.isfile(paths.source):
        plan.files = {path: plan.files[path] for path in plan.changed}
    targets = {paths.target(path): path for path in plan.files}
    _reject_existing(targets, plan)
    for target, path in targets.items():
        if not os.path.exists(target):
            _write(target, plan.files[path], os.stat(paths.files[plan.origins[path]]).st_mode)
    problems = [f"{file}: the link leads nowhere; repair it, and convert again" for file in broken]
    problems += [str(one._replace(file=paths.files[one.file])) for one in plan.problems]
    return Converted(paths, plan, tuple(show_changes(plan, contents)), tuple(problems))


def _kinds_beside(source: str, paths: Iterable[str]) -> dict[str, Kind]:
    """Return what resources say of these templates, if they lie in the templates folder of a confdir."""
    folder = os.path.realpath(source if os.path.isdir(source) else os.path.dirname(source) or ".")
    confdir, name = os.path.split(folder)
    resources = os.path.join(confdir, "conf.d")
    if name != "templates" or not os.path.isdir(resources):
        return {}
    files = {f"conf.d/{path}": file for path, file in _walk(resources) if os.path.isfile(file)}
    kinds = kinds_of({path: _read(file) for path, file in files.items()})
    return {path: kinds[path] for path in paths if path in kinds}


def find_paths(request: ConversionRequest) -> Paths:
    """Return which files are read and where the new ones go; raises ``UsageError``."""
    source, dest = request.source.rstrip("/") or "/", request.dest
    if os.path.isfile(source):
        folder, name = os.path.split(source)
        if dest and not os.path.isdir(dest):
            above, new = os.path.split(dest)
            return Paths(source, above or ".", {name: source}, name=new)
        return Paths(source, dest or folder or ".", {name: source})
    if not os.path.isdir(source):
        raise UsageError(
            "there is nothing to convert", hint="name a template, a templates folder or a confdir", file=source
        )
    if not os.path.isdir(os.path.join(source, "conf.d")):
        if os.path.basename(os.path.realpath(source)) == "conf.d":
            raise UsageError("this is a part of a confdir", hint=f"convert {os.path.dirname(source)}", file=source)
        return Paths(source, dest or source, dict(_walk(source)))
    if not dest:
        if os.path.basename(os.path.realpath(source)) != "confd":
            raise UsageError("DEST is missing for the new confdir", hint="confpy convert SRC DEST", file=source)
        dest = os.path.join(os.path.dirname(source) or ".", "confpy")
    read = [os.path.realpath(os.path.join(source, part)) for part in _PARTS]
    there = os.path.realpath(dest)
    if there == os.path.realpath(source) or any(below(there, part) for part in read):
        hint = "name another folder: here, each target would have two resources"
        raise UsageError("a confdir is not converted in place", hint=hint, file=dest)
    files = {f"{part}/{path}": file for part in _PARTS for path, file in _walk(os.path.join(source, part))}
    settings = [(name, os.path.join(source, name)) for name in FILES]
    files |= {name: file for name, file in settings if os.path.isfile(file)}
    return Paths(source, dest, files, is_confdir=True)


_PARTS = ("conf.d", "templates")


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the path in a folder, and the path, of its files; links are followed, and what its name skips is not.

    Raises ``UsageError`` for a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise UsageError(f"the folder cannot be read: {error.strerror}", file=str(error.filename))

    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [name for name in folders if not is_skipped(name, folder=True)]
        if here.count("/") - folder.count("/") > _DEEPEST:
            raise UsageError("folders are nested too deeply: a link may lead back", file=here)
        for name in names:
            file = os.path.join(here, name)
            if not is_skipped(name) and (os.path.isfile(file) or os.path.islink(file)):
                yield os.path.relpath(file, folder), file


_DEEPEST = 40


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", file=file) from None


def _reject_existing(targets: Mapping[str, str], plan: Plan) -> None:
    """Raise ``UsageError`` if a file with other content exists where one would be written."""
    others = [
        target
        for target, path in targets.items()
        if os.path.lexists(target) and not (os.path.isfile(target) and _read(target) == plan.files[path])
    ]
    if others:
        more = f", and {len(others) - 1} more" if others[1:] else ""
        hint = "move it away, or name another DEST"
        raise UsageError(f"the file exists with other content{more}: nothing was written", hint=hint, file=others[0])


def _write(target: str, content: bytes, mode: int) -> None:
    """Write a new file atomically, with the permission bits of the file that it is made from."""
    disk, path = Disk(), os.path.abspath(target)
    try:
        disk.make_folders(os.path.dirname(path), 0o755)
        disk.write_file(path, content, mode=stat.S_IMODE(mode) & 0o777)
    except OSError as error:
        raise TargetError(f"the file cannot be written: {error.strerror}", file=target) from None
