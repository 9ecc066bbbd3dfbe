"""Files beside the configuration: what the process says that each is, what has to be sent, and what differs."""

from __future__ import annotations

import os
from collections.abc import Iterator

from confpy.haproxy.certificates import change_list, fingerprint, read_crt_list, set_certificate, split_line
from confpy.haproxy.commands import Unsafe, command
from confpy.haproxy.entries import read_list, read_map, replace_list, replace_map
from confpy.haproxy.values import Command, DataChange, Files, ReloadNeeded, Running
from confpy.haproxy.words import is_safe

LISTS = ("show map", "show acl", "show ssl cert", "show ssl crt-list")


def data_questions(changes: tuple[DataChange, ...], running: Running) -> Iterator[str]:
    """Yield the commands whose answers are needed: first what the process has, then what is in it."""
    if not changes:
        return
    yield from LISTS
    for path in (change.path for change in changes if is_safe(change.path)):
        if path in running.maps:
            yield f"show map {path}"
        elif path in running.acls:
            yield f"show acl {path}"
        if path in running.certificates:
            yield f"show ssl cert {path}"
        if path in running.lists:
            yield f"show ssl crt-list -n {path}"


def data_steps(change: DataChange, running: Running, contents: Files) -> list[Command] | ReloadNeeded:
    """Return the commands for one file, or why it needs a reload."""
    path, new = change.path, change.new
    is_listed = path in running.certificates
    if new is None and is_listed and path not in running.maps:
        # It has left the crt-lists before: it is the last that these commands do.
        return [command("del", "ssl", "cert", path, accepts=(f"Certificate '{path}' deleted!",))]
    try:
        if new is not None and path in running.maps:
            entries = read_map(new)
            same = running.entries.get(path) == entries
            return [] if same else [*replace_map(path, running.maps[path], entries)]
        if new is not None and path in running.acls:
            entries = read_list(new)
            same = running.entries.get(path) == entries
            return [] if same else [*replace_list(path, running.acls[path], entries)]
        if new is not None and is_listed:
            same = change.old == new and running.certificates[path] == fingerprint(new)
            return [] if same else [*set_certificate(path, new, is_new=False)]
        if new is not None and path in running.lists:
            if change.old is not None:
                _hold_options(change.old, new)
            return [*change_list(path, running.lists[path], read_crt_list(new), running.certificates, contents)]
    except Unsafe as error:
        return ReloadNeeded(str(error) or "a word holds a character that is not sent", path)
    if change.old == new or (change.old is None and _is_named(path, running, contents)):
        return []
    why = "its folder is read as a whole" if os.path.dirname(path) in running.lists else "HAProxy knows it by no name"
    return ReloadNeeded(why, path)


def _hold_options(old: bytes, new: bytes) -> None:
    """Raise ``Unsafe`` if a line of a crt-list has changed its options: the process does not show them all."""
    before = {(name, names): options for name, options, names in read_crt_list(old)}
    for name, options, names in read_crt_list(new):
        if before.get((name, names), options) != options:
            raise Unsafe("the options of a line of a crt-list changed")


def _is_named(path: str, running: Running, contents: Files) -> bool:
    """Say whether a new certificate is loaded because a crt-list names it."""
    for one in running.lists:
        try:
            if one in contents and any(path == name for name, _, _ in read_crt_list(contents[one])):
                return True
        except Unsafe:
            continue
    return False


def data_differs(change: DataChange, running: Running) -> bool:
    """Say whether the process has something else than the file."""
    path, new = change.path, change.new
    if new is None:
        return path in running.certificates
    if path in running.maps:
        return running.entries.get(path) != read_map(new)
    if path in running.acls:
        return running.entries.get(path) != read_list(new)
    if path in running.certificates:
        return running.certificates[path] != fingerprint(new)
    if path in running.lists:
        lines = [(name.rpartition(":")[0], names) for name, _, names in map(split_line, running.lists[path])]
        return sorted(lines) != sorted((name, names) for name, _, names in read_crt_list(new))
    return False
