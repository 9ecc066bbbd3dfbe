"""The settings file of a confdir: every key is read by itself, so that each mistake is found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from confpy.check.findings import Findings
from confpy.check.toml import TomlFile, read_toml
from confpy.config.positions import Position
from confpy.config.settings import FILES, MOUNTS, Settings
from confpy.config.sources import load_settings, read_tables
from confpy.errors import ConfpyError, UsageError
from confpy.stores import outside

NONE = "/dev/null/none"
"""A settings file that cannot exist: the machine's own is not to be read in place of a confdir's."""


class Loaded(NamedTuple):
    """Settings, and the file that they are from."""

    settings: Settings
    file: TomlFile | None


def check_settings(
    confdir: str, flags: Mapping[str, str], environ: Mapping[str, str], findings: Findings
) -> Loaded | None:
    """Return the settings for a confdir, and add what is wrong with its file; None if a flag is wrong."""
    path = flags.get("config_file") or environ.get("CONFPY_CONFIG_FILE") or ""
    if path and not os.path.exists(path):
        findings.take(UsageError("the settings file does not exist"), path)
        path = ""
    if not path:
        candidates = (os.path.join(confdir, name) for name in FILES)
        path = next(filter(os.path.lexists, candidates), "")
    file = read_toml(path, findings) if path else None
    good: dict[str, object] = {}
    if file is not None:
        for key, value in file.tables.items():
            warnings: list[ConfpyError] = []
            try:
                good |= read_tables({key: value}, path, warnings)
            except UsageError as error:
                findings.take(error, path, _place(file, key, error))
            for warning in warnings:
                unknown = warning.message.endswith(", ignored") or "holds no settings" in warning.message
                known = " has no meaning here" in warning.message
                level = "error" if unknown and not known else "warning"
                findings.take(
                    warning, path, _place(file, key, warning), level="error" if level == "error" else "warning"
                )
    try:
        settings, _ = load_settings({**good, **flags, "confdir": confdir, "config_file": NONE}, environ)
    except UsageError as error:
        findings.take(error, "")
        return None
    if not outside.is_known(settings.backend):
        place = file.place("backend") if file is not None else None
        hint = "choose one of " + ", ".join(outside.known())
        wrong = UsageError(f"unknown store {settings.backend!r}", hint=hint)
        if "backend" in flags or place is None:
            findings.take(wrong, "")
        else:
            findings.take(wrong, path, place)
    return Loaded(settings, file)


def _place(file: TomlFile, key: str, error: ConfpyError) -> Position:
    """Return where a key stands, or the key of a table in it that an error names."""
    named = str(error.where.get("key", ""))
    table = file.tables.get(key)
    for name in table if isinstance(table, dict) else ():
        below = named.removeprefix(f"{MOUNTS}.{name}")
        if below != named and below[:1] in {"", "."}:
            return file.place(key, name, *filter(None, [below[1:]]))
    return file.place(key)
