"""Tests of templates: each case is a file with keys beside what its template has to make of them.

A case is a file ``NAME.CASE.keys.yaml`` (or ``.yml``, ``.json``, ``.toml``). What is expected stands beside it, in
``NAME.CASE.expected``, or, where the template has to fail, in ``NAME.CASE.error``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping

from confpy.config.resource import Resource
from confpy.config.settings import Settings
from confpy.errors import ConfpyError, StoreError, UsageError
from confpy.frozen import frozen
from confpy.preview.confdir import Confdir
from confpy.system.disk import Disk

NOW = 946684800.0
"""The time of every case: 2000-01-01 00:00 UTC."""
EXPECTED, ERROR, VARIABLES = ".expected", ".error", ".env"
_KEYS = re.compile(r"\.keys\.(?:yaml|yml|json|toml)")
_DISK = Disk()


@frozen
class Case:
    """One case."""

    name: str
    """Its path below the folder of the cases, without ``.keys.yaml``."""
    path: str
    """The same as a path of the machine: what stands beside it begins so."""
    keys: str
    """The file with its keys."""


@frozen
class Outcome:
    """What became of a case."""

    case: Case
    resource: str
    """Empty: it was not found."""
    problem: str = ""
    """Why it failed, on one line; empty: it passed."""
    diff: str = ""
    """From what is expected to what was rendered."""
    written: str = ""
    """The file that was written by an update."""


def find_cases(folder: str) -> list[Case]:
    """Return the cases at or below a folder, by name; raises ``UsageError`` where there is none."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if match := re.fullmatch(rf"(.+){_KEYS.pattern}", name):
                path = os.path.join(above, match[1])
                found.append(Case(os.path.relpath(path, folder), path, os.path.join(above, name)))
    if not found:
        hint = "a case is a file such as haproxy.cfg.one-server.keys.yaml, beside haproxy.cfg.one-server.expected"
        raise UsageError(f"there is no case below {folder}", hint=hint)
    return sorted(found, key=lambda case: (case.name, case.keys))


def run_case(case: Case, settings: Settings, *, update: bool) -> Outcome:
    """Render a case and compare; raises nothing that is the case's own. ``update``: write what is expected."""
    resource = None
    try:
        confdir = Confdir(settings, _variables(case.path + VARIABLES), case.keys, now=NOW)
        try:
            resource = resource_of(case, confdir)
            content, error = confdir.render(resource, confdir.read(resource).view).content, ""
        finally:
            confdir.close()
    except UsageError as failure:
        return Outcome(case, resource.name if resource else "", str(failure))
    except ConfpyError as failure:
        if isinstance(failure, StoreError) and "file" in failure.where:
            return Outcome(case, "", str(failure))
        content, error = b"", describe(failure)
    name = resource.name if resource else ""
    if update:
        try:
            return Outcome(case, name, written=_update(case.path, content, error))
        except OSError as failure:
            return Outcome(case, name, f"cannot be written: {failure.strerror}")
    problem, diff = _compare(case.path, content, error)
    return Outcome(case, name, problem, diff)


def resource_of(case: Case, confdir: Confdir) -> Resource:
    """Return the resource that a case is about; raises ``UsageError``.

    Its name, template or target is what the name of the case begins with, else the folder that the case lies in.
    """
    words = os.path.basename(case.name).split(".")
    starts = [".".join(words[:count]) for count in range(len(words), 0, -1)]
    folders = os.path.dirname(case.name).split("/")
    above = ["/".join(folders[first:]) for first in range(len(folders))]
    inner = [f"{folder}/{start}" for folder in above if folder for start in starts]
    for name in (*inner, *starts, *filter(None, above), *filter(None, reversed(folders))):
        if (found := confdir.find(name)) is not None:
            return found
    names = ", ".join(sorted(one.name for one in confdir.loaded.resources)[:10])
    hint = f"begin its name with that of a resource, a template or a target: {names or 'the confdir has none'}"
    raise UsageError(f"no resource is meant by {os.path.basename(case.keys)}", hint=hint)


def describe(error: ConfpyError) -> str:
    """Return an error on one line: place, message and key."""
    place = ":".join(str(error.where[part]) for part in ("template", "line", "column") if part in error.where)
    key = f" (key {error.where['key']})" if "key" in error.where else ""
    return (f"{place}: " if place else "") + error.message + key


def _compare(path: str, content: bytes, error: str) -> tuple[str, str]:
    """Return what is wrong, and a diff; both empty where nothing is."""
    expected, fails = _read(path + EXPECTED), _read(path + ERROR)
    name = os.path.basename(path)
    if expected is not None and fails is not None:
        return f"{name} has both {EXPECTED} and {ERROR}: remove one", ""
    if fails is not None:
        wanted = [line for line in fails.decode("utf-8", "surrogateescape").split("\n") if line.strip()]
        if not error:
            return f"it renders, but {name}{ERROR} expects an error", ""
        absent = [line for line in wanted if line.strip() not in error]
        return (f"another error than {name}{ERROR} expects: {error}" if absent else ""), ""
    if error:
        return error, ""
    if expected is None:
        return f"there is no {name}{EXPECTED}; -update writes it", ""
    if expected == content:
        return "", ""
    return f"differs from {name}{EXPECTED}", unified(expected, content, f"{path}{EXPECTED}", "rendered")


def unified(old: bytes, new: bytes, old_name: str, new_name: str) -> str:
    """Return a unified diff of two texts."""
    before, after = (text.decode("utf-8", "surrogateescape").splitlines(keepends=True) for text in (old, new))
    found = difflib.unified_diff(before, after, old_name, new_name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found)


def _update(path: str, content: bytes, error: str) -> str:
    """Write what is expected; returns the file that was written, empty where nothing has changed."""
    wanted, other = (ERROR, EXPECTED) if error else (EXPECTED, ERROR)
    if error and _read(path + ERROR) is not None and not _compare(path, content, error)[0]:
        return ""
    text = f"{error}\n".encode("utf-8", "surrogateescape") if error else content
    if _read(path + other) is not None:
        _DISK.remove(path + other)
    if _read(path + wanted) == text:
        return ""
    _DISK.write_file(path + wanted, text, mode=0o644, durable=False)
    return path + wanted


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _variables(path: str) -> Mapping[str, str]:
    """Return the environment of a case: the lines ``NAME=value`` of a file, none where there is no such file."""
    lines = (_read(path) or b"").decode("utf-8", "surrogateescape").split("\n")
    return dict(_assignments(lines))


def _assignments(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and name.strip() and not name.lstrip().startswith("#"):
            yield name.strip(), value
