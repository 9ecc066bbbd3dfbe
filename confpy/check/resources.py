"""The resources of a confdir: every key of every file is read by itself, so that each mistake is found."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from confpy.check.findings import UNKNOWN, Finding, Findings
from confpy.check.toml import TomlFile, read_toml
from confpy.config.accounts import written_mode
from confpy.config.environment import fill_environment
from confpy.config.load import (
    FALLBACKS,
    Remarks,
    find_table,
    make_resource,
    path_of_key,
    read_table,
    resource_files,
    resource_name,
)
from confpy.config.own_store import own_store
from confpy.config.positions import Position
from confpy.config.resource import Resource
from confpy.config.settings import Settings
from confpy.config.toml import plain
from confpy.errors import ConfpyError, UsageError
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import ROOT, normalise
from confpy.system.placeholders import command_line, names_candidate

OF_THE_MACHINE = ("owner", "group", "uid", "gid")
"""Options whose meaning depends on the users of this machine."""
TESTS_TARGET = re.compile(
    r"\b(nginx\s+(-\S+\s+)*-[tT]|haproxy\s.*-c|(apachectl|apache2ctl|httpd|apache2)\s.*(-t|configtest))\b"
)
"""Checks of programs that read their own configuration files, and no ``CONFPY_SRC``."""


class CheckedResource(NamedTuple):
    """A resource that could be read, and the file that it stands in."""

    resource: Resource
    file: TomlFile
    table: str
    """What ``[template]`` is called in it."""
    given: Mapping[str, Any]
    """Its options as they were read, with those of the machine."""

    def place(self, key: str) -> Position:
        return self.file.place(self.table, key)


def check_resources(
    confdir: str,
    settings: Settings,
    prefixes_of: Callable[[str], tuple[str, ...]],
    findings: Findings,
    *,
    same: Callable[[str], str] = os.path.normpath,
) -> list[CheckedResource]:
    """Return the resources that could be read, and add what is wrong with any. ``same``: the one name of a path."""
    folder = os.path.join(confdir, "conf.d")
    paths = [path for _, path in resource_files(confdir)]
    if not paths and not settings.allow_empty:
        there = os.path.isdir(folder)
        hint = "a resource is a file conf.d/NAME.toml; confpy init haproxy DIR writes one to start from"
        message = "the confdir has no resources" if there else "there is no conf.d"
        findings.add(Finding("error", message, hint, folder if there else confdir))
    found: list[CheckedResource] = []
    for path in paths:
        name = resource_name(confdir, path)
        file = read_toml(path, findings, resource=name)
        one = _ResourceCheck(path, name, file, findings).check(settings, prefixes_of) if file is not None else None
        found += [one] if one is not None else []
    by_target: dict[str, CheckedResource] = {}
    for one in found:
        target = same(one.resource.dest)
        if (first := by_target.setdefault(target, one)) is not one:
            hint = "only the last one is delivered: give each a dest of its own"
            message = f"the resource {first.resource.name} has the same dest: {one.resource.dest}"
            _add(findings, UsageError(message, hint=hint), one, "dest")
    return found


def _add(findings: Findings, error: ConfpyError, one: CheckedResource, key: str) -> None:
    findings.take(error, one.file.path, one.place(key), resource=one.resource.name)


class _ResourceCheck:
    """The check of one file."""

    def __init__(self, path: str, name: str, file: TomlFile, findings: Findings) -> None:
        self._path = path
        self._name = name
        self._file = file
        self._findings = findings

    def check(self, settings: Settings, prefixes_of: Callable[[str], tuple[str, ...]]) -> CheckedResource | None:
        """Return the resource of the options that are right, if there is one, and add what is wrong."""
        warnings: list[ConfpyError] = []
        try:
            content = find_table(self._file.tables, warnings)
        except UsageError as error:
            self._take(error)
            return None
        finally:
            for warning in warnings:
                self._take(warning)
        table = next(one for one in self._file.tables if plain(one) == "template")
        given, wrong = self._read(table, content)
        try:
            own_store(self._file.tables, settings)
        except UsageError as error:
            self._take(error)
        missing = [key for key in ("src", "dest") if not given.get(key)]
        for key in missing:
            if key not in wrong:
                self._take(UsageError(f"{key} is missing", hint=f'write {key} = "…" below [template]'), table)
        return None if missing else self._make(table, given, settings, prefixes_of)

    def _take(self, error: ConfpyError, *keys: str) -> None:
        """Add an error at the key that it names, else at the last of ``keys``."""
        key = str(error.where.get("key", ""))
        places = (self._file.place(*keys, key), self._file.place(key)) if key else ()
        places = (*places, self._file.place(*keys), Position(1, 1))
        self._findings.take(error, self._path, next(one for one in places if one != UNKNOWN), resource=self._name)

    def _read(self, table: str, content: Mapping[str, object]) -> tuple[dict[str, Any], set[str]]:
        """Return the options that can be read, and the names of those that cannot."""
        given: dict[str, Any] = {}
        wrong: set[str] = set()
        for key, value in content.items():
            remarks: list[ConfpyError] = []
            try:
                given |= read_table({key: value}, remarks)
            except UsageError as error:
                error.hint = written_mode(self._file.text)[1] if plain(key) == "mode" else error.hint
                self._take(error, table, key)
                wrong.add(plain(key))
            for remark in remarks:
                self._take(remark, table, key)
        return given, wrong

    def _make(
        self,
        table: str,
        given: dict[str, Any],
        settings: Settings,
        prefixes_of: Callable[[str], tuple[str, ...]],
    ) -> CheckedResource | None:
        options = {key: value for key, value in given.items() if key not in OF_THE_MACHINE}
        remarks = Remarks([], [], {}, {})
        try:
            resource = make_resource(
                self._path,
                self._name,
                fill_environment(options, self._file.text),
                remarks,
                settings=settings,
                prefixes_of=prefixes_of,
                defaults={key: getattr(settings, key) for key in FALLBACKS},
                undoes=True,
            )
        except UsageError as error:
            self._take(error, table)
            return None
        one = CheckedResource(resource, self._file, table, given)
        for remark in remarks.warnings:
            if remark.where.get("key") != "check_cmd":  # see _check_the_check
                self._take(remark, table)
        for note in remarks.notes:
            if note.event == "dest.relative":
                hint = "the target depends on where confpy is started: write an absolute path"
                place = one.place("dest")
                self._findings.add(Finding("warning", "dest is relative", hint, self._path, *place, self._name))
        _check_the_check(one, self._findings)
        _check_mounted_keys(one, settings, self._findings)
        return one


def _check_the_check(one: CheckedResource, findings: Findings) -> None:
    """Add a check that reads the old file, not the candidate."""
    check = one.resource.check_cmd
    if check is None or names_candidate(check) or one.resource.check_mode == "swap":
        return
    by_default = "check_mode" not in one.given
    if by_default or TESTS_TARGET.search(command_line(check)):
        hint = 'write {{.src}} for the file to check, or check_mode = "swap" for a check of all files in their places'
        _add(findings, UsageError("check_cmd tests the old file, not the new one", hint=hint), one, "check_cmd")


def _check_mounted_keys(one: CheckedResource, settings: Settings, findings: Findings) -> None:
    """Add the keys of mounted stores in a resource with a prefix, which does not concern them."""
    prefix = settings.prefix or str(one.given.get("prefix") or "")
    mounts = Mounts(settings.mounts)
    if not mounts.points or normalise(prefix) == ROOT:
        return
    for key in one.given.get("keys") or ():
        mount = mounts.point_of(normalise(key))
        if mount:
            place = one.file.place_of_text(one.place("keys"), key)
            hint = f"nothing is put before it or cut from it: templates read it as {normalise(key)}"
            message = f"the prefix {prefix} does not hold for {key}: another store is mounted at {mount}"
            findings.note(Finding("note", message, hint, one.file.path, *place, resource=one.resource.name))
        elif mount := mounts.point_of(path_of_key(prefix, key, settings)):
            place = one.file.place_of_text(one.place("keys"), key)
            path = path_of_key(prefix, key, settings)
            hint = f"nothing is cut from its keys: templates read it as {path}; write that in keys"
            message = f"{key} below the prefix {prefix} lies in another store, mounted at {mount}"
            findings.note(Finding("note", message, hint, one.file.path, *place, resource=one.resource.name))


def machine_options(one: CheckedResource) -> Mapping[str, Any]:
    """Return the options of a resource whose meaning depends on the machine's users."""
    return {key: cast("Any", one.given[key]) for key in OF_THE_MACHINE if one.given.get(key) is not None}
