"""``confpy convert SRC [DEST]``: reads what is to be converted, writes what becomes of it, tells what could not be."""

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
    """What was asked for."""

    source: str
    dest: str = ""


@frozen
class Places:
    """Where to read and where to write; paths within a plan are relative to these."""

    source: str
    dest: str
    files: Mapping[str, str]
    """Path in the plan → file."""
    is_confdir: bool = False
    name: str = ""
    """That of the one new file, where it was given."""

    def target(self, path: str) -> str:
        return os.path.join(self.dest, self.name or path)


@frozen
class Converted:
    """What there is to tell: on stdout, on stderr, and whether all was turned."""

    places: Places
    plan: Plan
    changes: tuple[str, ...]
    problems: tuple[str, ...]


def convert(asked: ConversionRequest) -> Converted:
    """Convert, and write the new files; raises ``UsageError`` before any is written, ``TargetError`` for the disk."""
    places = find(asked)
    beside = os.path.realpath(places.dest) == os.path.realpath(places.source)
    broken = [file for file in places.files.values() if not os.path.exists(file)]
    names = [path for path in places.files if not (beside and path.endswith(JINJA_NAMES))]
    names = [path for path in names if places.files[path] not in broken]
    contents = {path: _read(places.files[path]) for path in names}
    if places.is_confdir:
        plan = plan_confdir(contents, places.source, places.dest)
    else:
        plan = plan_templates(contents, _kinds_beside(places.source, contents))
    if beside or os.path.isfile(places.source):
        plan.files = {path: plan.files[path] for path in plan.changed}
    targets = {places.target(path): path for path in plan.files}
    _refuse_others(targets, plan)
    for target, path in targets.items():
        if not os.path.exists(target):
            _write(target, plan.files[path], os.stat(places.files[plan.origins[path]]).st_mode)
    problems = [f"{file}: the link leads nowhere; mend it, and convert again" for file in broken]
    problems += [str(one._replace(file=places.files[one.file])) for one in plan.problems]
    return Converted(places, plan, tuple(show_changes(plan, contents)), tuple(problems))


def _kinds_beside(source: str, paths: Iterable[str]) -> dict[str, Kind]:
    """Return what the resources of a confdir say of these templates of it, where they lie in one."""
    folder = os.path.realpath(source if os.path.isdir(source) else os.path.dirname(source) or ".")
    confdir, name = os.path.split(folder)
    resources = os.path.join(confdir, "conf.d")
    if name != "templates" or not os.path.isdir(resources):
        return {}
    files = {f"conf.d/{path}": file for path, file in _walk(resources) if os.path.isfile(file)}
    kinds = kinds_of({path: _read(file) for path, file in files.items()})
    return {path: kinds[path] for path in paths if path in kinds}


def find(asked: ConversionRequest) -> Places:
    """Say what is read and where it goes; raises ``UsageError``."""
    source, dest = asked.source.rstrip("/") or "/", asked.dest
    if os.path.isfile(source):
        folder, name = os.path.split(source)
        if dest and not os.path.isdir(dest):
            above, new = os.path.split(dest)
            return Places(source, above or ".", {name: source}, name=new)
        return Places(source, dest or folder or ".", {name: source})
    if not os.path.isdir(source):
        raise UsageError(
            "there is nothing to convert", hint="name a template, a templates folder or a confdir", file=source
        )
    if not os.path.isdir(os.path.join(source, "conf.d")):
        if os.path.basename(os.path.realpath(source)) == "conf.d":
            raise UsageError("this is a part of a confdir", hint=f"convert {os.path.dirname(source)}", file=source)
        return Places(source, dest or source, dict(_walk(source)))
    if not dest:
        if os.path.basename(os.path.realpath(source)) != "confd":
            raise UsageError("where shall the new confdir be?", hint="confpy convert SRC DEST", file=source)
        dest = os.path.join(os.path.dirname(source) or ".", "confpy")
    read = [os.path.realpath(os.path.join(source, part)) for part in _PARTS]
    there = os.path.realpath(dest)
    if there == os.path.realpath(source) or any(below(there, part) for part in read):
        hint = "name another folder: here, each target would have two resources"
        raise UsageError("a confdir is not converted in place", hint=hint, file=dest)
    files = {f"{part}/{path}": file for part in _PARTS for path, file in _walk(os.path.join(source, part))}
    settings = [(name, os.path.join(source, name)) for name in FILES]
    files |= {name: file for name, file in settings if os.path.isfile(file)}
    return Places(source, dest, files, is_confdir=True)


_PARTS = ("conf.d", "templates")


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a folder, links followed, but for those whose names leave them out: path in it, file.

    Raises ``UsageError`` for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UsageError(f"the folder cannot be read: {error.strerror}", file=str(error.filename))

    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
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


def _refuse_others(targets: Mapping[str, str], plan: Plan) -> None:
    """Raise ``UsageError`` where another file stands in the way."""
    others = [
        target
        for target, path in targets.items()
        if os.path.lexists(target) and not (os.path.isfile(target) and _read(target) == plan.files[path])
    ]
    if others:
        more = f", and {len(others) - 1} more" if others[1:] else ""
        hint = "move it away, or name another DEST"
        raise UsageError(
            f"this file is there already, with other content{more}: nothing was written", hint=hint, file=others[0]
        )


def _write(target: str, content: bytes, mode: int) -> None:
    """Write a new file whole or not at all, with the permission bits of the one it is made of."""
    disk, path = Disk(), os.path.abspath(target)
    try:
        disk.make_folders(os.path.dirname(path), 0o755)
        disk.write_file(path, content, mode=stat.S_IMODE(mode) & 0o777)
    except OSError as error:
        raise TargetError(f"the file cannot be written: {error.strerror}", file=target) from None
