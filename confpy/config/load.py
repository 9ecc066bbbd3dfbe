"""Reads the resources below ``conf.d``. An invalid file affects only its own resource."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from confpy.config import confd
from confpy.config.accounts import account, delivered_with, written_mode
from confpy.config.resource import OPTIONS, Loaded, Resource
from confpy.config.settings import Settings
from confpy.config.toml import parse_toml, plain, read_text, suggest
from confpy.errors import ConfpyError, UsageError
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import covers, join, normalise
from confpy.reload import actions
from confpy.reload.runtime_target import parse_runtime
from confpy.system.filenames import is_skipped
from confpy.system.placeholders import Command, command_line, names_candidate

if TYPE_CHECKING:
    from confpy.config.own_store import OpensStore

IN_PLACE = {
    "did": "checks the new file in its place, and restores the old one if the check fails",
    "hint": 'the check names no {{.src}}; write check_mode = "staged" if it reads CONFPY_SRC itself',
}
"""What is logged for a check that can only refer to files in their places."""
NO_RELOAD = "that is not the default without a reload: a program that watches the file would read it unchecked"
NO_STATE = (
    "that is not the default without a state folder (state_dir): a confpy that is killed would leave the file there"
)
"""Why such a check is not run in place."""
FIELDS = OPTIONS.keys() & Resource.__annotations__
"""Options that are fields of a resource: as they were read, or changed by ``read_resource``."""
FALLBACKS = tuple(name for name, option in OPTIONS.items() if option.setting)
"""Options whose default is the setting of the same name."""
SPELLED = {plain(key): (key,) for key in OPTIONS} | {
    plain(word.name): tuple(name for name in word.means if name in OPTIONS) for word in confd.WORDS
}
"""``plain`` key → the options that it means: for one of confd's words several, or none."""

WRITTEN_KEYS = re.compile(r"^[ \t]*[\"']?(keys|prefix)[\"']?[ \t]*=", re.MULTILINE | re.IGNORECASE)
"""The lines with what to read, for messages about edits of them."""


# --- loading ---------------------------------------------------------------------------------------------------------


def load_resources(
    confdir: str,
    settings: Settings,
    prefixes_of: Callable[[str], tuple[str, ...]],
    *,
    undoes: bool = True,
    opens: OpensStore | None = None,
) -> Loaded:
    """Read every ``*toml`` below ``conf.d``, in confd's order: that of the names, folders descended in place.

    ``prefixes_of`` is ``Store.prefixes``: what to read for a prefix joined with a key. ``undoes``: a start undoes a
    check in place during which confpy was killed, so that it may be the default. ``opens`` opens the store that a
    resource has for itself; without it, such a resource is read as the others are. Raises nothing: the errors of files
    are in the result.
    """
    root = os.path.join(confdir, "conf.d")
    errors: dict[str, ConfpyError] = {}
    other_errors: list[ConfpyError] = []
    warnings: list[ConfpyError] = []
    try:
        os.lstat(root)
    except (FileNotFoundError, NotADirectoryError):
        return Loaded((), found=False)
    except OSError as error:
        return Loaded((), other_errors=(UsageError(f"the path cannot be read: {error.strerror}", file=root),))
    by_dest: dict[str, Resource] = {}
    lines: dict[str, Mapping[str, int]] = {}
    layouts: dict[tuple[tuple[str, int], ...], Mapping[str, int]] = {}
    """Of files with the same lines one mapping is kept."""
    notes: list[LogEvent] = []
    in_place: dict[str, list[str]] = {}
    unreadable = _Unreadable(other_errors, warnings, notes)
    defaults = {name: getattr(settings, name) for name in FALLBACKS}
    folders: dict[str, str] = {}
    for path in find_files(root, unreadable, notes):
        name = resource_name(confdir, path)
        noted = Remarks([], notes, in_place, {})
        try:
            resource = read_resource(
                path, name, settings, prefixes_of, noted, defaults=defaults, undoes=undoes, opens=opens
            )
            lines[name] = layouts.setdefault(tuple(noted.lines.items()), noted.lines)
        except UsageError as error:
            if not unreadable.take(path):
                errors[name] = error.at(resource=name, file=path)
        else:
            folder, base = os.path.split(resource.dest)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            dest = os.path.join(folders[folder], base)
            earlier = by_dest.pop(dest, None)
            by_dest[dest] = resource
            if earlier is not None:
                hint = f"{earlier.name} is left out; give each its own dest"
                noted.warnings.append(
                    UsageError(f"the resource {earlier.name} has the same dest", hint=hint, target=dest)
                )
        warnings += [warning.at(resource=name, file=path) for warning in noted.warnings]
    loaded = {resource.name for resource in by_dest.values()}
    for check, names in in_place.items():
        if names := [name for name in names if name in loaded]:
            notes.append(
                LogEvent("info", "check.in_place", {"resource": ", ".join(names), "command": check, **IN_PLACE})
            )
    notes += unverified(by_dest.values()) if not settings.no_reload else ()
    resources = tuple(by_dest.values())
    return Loaded(resources, errors, tuple(other_errors), tuple(warnings), notes=tuple(notes), lines=lines)


def reject_unaddressed(loaded: Loaded) -> Loaded:
    """Return the resources of a run without ``-exec``: a reload that signals its program would reach nobody."""
    lost = {one.name: one for one in loaded.resources if _is_for_child(one)}
    if not lost:
        return loaded
    hint = "add reload_pidfile or reload_process, or let confpy run the program (-exec)"
    errors = {
        name: UsageError("reload_signal does not say who gets it", hint=hint, resource=name, file=one.file)
        for name, one in lost.items()
    }
    resources = tuple(one for one in loaded.resources if one.name not in lost)
    return replace(loaded, resources=resources, errors={**loaded.errors, **errors})


def _is_for_child(resource: Resource) -> bool:
    return isinstance(resource.reload_cmd, actions.SignalReload) and resource.reload_cmd.is_for_child


def unverified(resources: Iterable[Resource]) -> Iterator[LogEvent]:
    """Yield an event for each reload command that does not report its outcome, though ``verify`` could."""
    silent: dict[actions.CommandReload, list[str]] = {}
    for resource in resources:
        if isinstance(resource.reload_cmd, actions.CommandReload) and resource.verify_cmd is None:
            silent.setdefault(resource.reload_cmd, []).append(resource.name)
    for action, names in silent.items():
        if program := action.silent_program():
            hint = f'it does not report whether the program took the new file; verify = "{program}" does'
            fields = {"resource": ", ".join(names), "command": action.describe(), "hint": hint}
            yield LogEvent("info", "reload.unverified", fields)


class _Unreadable(NamedTuple):
    """What is said of paths below ``conf.d`` that cannot be read."""

    errors: list[ConfpyError]
    warnings: list[ConfpyError]
    notes: list[LogEvent]

    def take(self, path: str) -> bool:
        """Say it of one that cannot be looked at; returns False for any other."""
        try:
            os.stat(path)
        except OSError as error:
            self.add(path, error)
            return True
        return False

    def add(self, path: str, error: OSError) -> None:
        """Add a resource to the errors, another path to the warnings; one that was removed meanwhile is nothing."""
        name = os.path.basename(path)
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            self.errors.append(UsageError(f"the path cannot be read: {error.strerror}", file=path))
        elif not os.path.islink(path):
            pass  # removed since its folder was read
        elif _is_resource(name):
            self.errors.append(UsageError("the link leads nowhere", file=path))
        elif is_skipped(name):
            self.notes.append(LogEvent("debug", "file.skipped", {"file": path, "reason": "its name"}))
        else:
            self.warnings.append(UsageError("the link leads nowhere, left out", file=path))


class _Path(NamedTuple):
    """A path below ``conf.d`` as its folder has it."""

    path: str
    real: str = ""
    """With all links followed; empty: it may be a link."""
    is_folder: bool = False
    """If it is none."""


def find_files(root: str, unreadable: _Unreadable, notes: list[LogEvent]) -> Iterator[str]:
    """Yield the resource files below ``root``, or ``root`` itself if it is a file.

    Links are followed; a file that is reached twice counts once, so that a loop ends. Adds paths that cannot be read to
    ``unreadable``, and files that are skipped by name to ``notes``. Only links are looked at: what else a folder has is
    known from its list.
    """
    seen: set[str] = set()
    left = [_Path(root)]
    while left:
        path, real, is_folder = left.pop()
        name = os.path.basename(path)
        try:
            if not real:
                is_folder = stat.S_ISDIR(os.stat(path).st_mode)
            if path != root and (is_skipped(name, folder=True) if is_folder else not _is_resource(name)):
                notes.append(LogEvent("debug", "file.skipped", {"file": path, "reason": "its name"}))
                continue
            real = real or os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            if is_folder:
                with os.scandir(path) as entries:
                    found = sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True)
                left += [
                    _Path(one.path)
                    if one.is_symlink()
                    else _Path(one.path, f"{real}/{one.name}", one.is_dir(follow_symlinks=False))
                    for one in found
                ]
            else:
                yield path
        except OSError as error:
            unreadable.add(path, error)


def resource_files(confdir: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the path of each resource file of a confdir, without a word on those that cannot be read."""
    root = os.path.join(confdir, "conf.d")
    for path in find_files(root, _Unreadable([], [], []), []):
        yield resource_name(confdir, path), path


def resource_name(confdir: str, path: str) -> str:
    """Return what the resource of a file is called: its path below ``conf.d`` without its ending."""
    return path[len(confdir) :].lstrip("/").removeprefix("conf.d/").removesuffix(".toml")


def _is_resource(name: str) -> bool:
    return name.endswith("toml") and not is_skipped(name)


class Remarks(NamedTuple):
    """Remarks on a resource that can be used."""

    warnings: list[ConfpyError]
    notes: list[LogEvent]
    in_place: dict[str, list[str]]
    """Check → the resources that it checks in their places because it names no candidate."""
    lines: dict[str, int]
    """The lines with ``keys`` and ``prefix``."""


def read_resource(
    path: str,
    name: str,
    settings: Settings,
    prefixes_of: Callable[[str], tuple[str, ...]],
    remarks: Remarks,
    *,
    defaults: Mapping[str, object],
    undoes: bool,
    opens: OpensStore | None = None,
) -> Resource:
    """Return the resource of one file, and add remarks on it; raises ``UsageError``.

    ``defaults`` are the settings of the options that have one. ``opens``: as for ``load_resources``.
    """
    content = read_text(path)
    for match in WRITTEN_KEYS.finditer(content):
        remarks.lines[match[1].lower()] = content.count("\n", 0, match.start(1)) + 1
    try:
        tables = parse_toml(content, path)
    except UsageError as error:
        line, hint = written_mode(content)
        if line and error.where.get("line") == line:
            error.hint = hint
        raise
    table = find_table(tables, remarks.warnings)
    try:
        given = read_table(table, remarks.warnings)
    except UsageError as error:
        error.hint = written_mode(content)[1] if plain(str(error.where.get("key"))) == "mode" else ""
        raise
    if "env" in content:
        from confpy.config.environment import fill_environment  # few resources name a variable

        given = fill_environment(given, content)
    own = None
    if len(tables) > 1:
        from confpy.config.own_store import own_store  # as few have a store of their own

        own = own_store(tables, settings)
    base = ""
    if own is not None and opens is not None:
        if given.get("for_each"):
            raise UsageError("for_each reads the store that confpy runs with, or mounted ones", key="for_each")
        base, prefixes_of = opens(own)
    try:
        made = make_resource(
            path, name, given, remarks, settings=settings, prefixes_of=prefixes_of, defaults=defaults, undoes=undoes
        )
        return replace(made, base=base) if base else made
    except UsageError as error:
        if given.get("for_each"):
            from confpy.config.for_each import line_of

            if line := line_of(content, str(error.where.get("key", ""))):
                error.at(line=line)
        raise


def make_resource(
    path: str,
    name: str,
    given: dict[str, Any],
    remarks: Remarks,
    *,
    settings: Settings,
    prefixes_of: Callable[[str], tuple[str, ...]],
    defaults: Mapping[str, object],
    undoes: bool,
) -> Resource:
    """Return the resource that options make, as ``read_table`` returns them; raises ``UsageError``."""
    for key in ("src", "dest"):
        if not given.get(key):
            raise UsageError(f"{key} is missing", hint=f'write {key} = "…" below [template]', key=key)

    given = {**defaults, **given}
    prefix = settings.prefix or given.get("prefix", "")
    if given["join_prefixes"] and settings.prefix and given.get("prefix"):
        prefix = join(settings.prefix, given["prefix"])
    strict = given["strict_owner"]
    group = delivered_with(given, strict)
    action = actions.parse_action(given)
    paths = [path_of_key(prefix, key, settings) for key in given.get("keys", ())]
    # As the store spells it: the environment is case-blind, and so is what is cut from its keys.
    strip = normalise(prefixes_of(join(prefix, "/"))[0])
    each = None
    if given.get("for_each"):
        from confpy.config.for_each import read_each  # and few have items

        each = read_each(given, group)
    shared = tuple(dict.fromkeys(raw for key in paths for raw in prefixes_of(key)))
    prefixes = shared
    if each is not None:
        head = prefixes_of(path_of_key(prefix, each.head, settings))[0]
        prefixes = tuple(dict.fromkeys((head, *shared)))
        # What lies outside of the prefix, in another store, is seen uncut.
        cut = strip.rstrip("/") if covers(strip, normalise(head)) else ""
        each = replace(each, head=normalise(head)[len(cut) :] or "/", cut=cut)
    dest = below(settings.root, absolute(given["dest"]))
    if not os.path.isabs(given["dest"]):
        hint = "dest is relative to the working directory, as in confd: write an absolute path"
        remarks.notes.append(LogEvent("info", "dest.relative", {"resource": name, "target": dest, "hint": hint}))
    if given.get("reload_retry") == "never":
        given["on_reload_failure"] = "keep"
    made = {
        "name": name,
        "file": path,
        # Below templates/ with or without a leading slash, as in confd.
        "src": given["src"].lstrip("/"),
        "dest": dest,
        "strip": strip,
        "prefixes": prefixes,
        "each": each,
        "shared": shared if each is not None else (),
        "uid": None if settings.root else account(given, "uid", "owner", strict, remarks.warnings),
        "gid": None if settings.root else account(given, "gid", "group", strict, remarks.warnings),
        "check_mode": given.get("check_mode") or mode_of_check(name, given.get("check_cmd"), action, undoes, remarks),
        "reload_cmd": action,
        "verify_cmd": actions.parse_verifier(given),
        "reload_haproxy": parse_runtime(given, action),
        "group": group,
        "keys_match": "segment" if each is not None else given.get("keys_match", "auto"),
        "mkdir": given.get("mkdir", bool(settings.root)),
    }
    return Resource(**{**{name: value for name, value in given.items() if name in FIELDS}, **made})


def path_of_key(prefix: str, key: str, settings: Settings) -> str:
    """Return the path of a key of a resource: below the prefix, unless another store is mounted at or above it."""
    if settings.mounts and Mounts(settings.mounts).point_of(normalise(key)):
        return normalise(key)
    return join(prefix, key)


def mode_of_check(
    name: str, check: Command | None, tells: actions.ReloadAction | None, undoes: bool, remarks: Remarks
) -> Literal["staged", "swap"]:
    """Return the default ``check_mode``: ``swap`` if the check can only refer to files in their places."""
    if check is None or names_candidate(check):
        return "staged"
    if tells is not None and undoes:
        remarks.in_place.setdefault(command_line(check), []).append(name)
        return "swap"
    hint = (
        f'write {{{{.src}}}} for the file to check, or check_mode = "swap"; {NO_RELOAD if tells is None else NO_STATE}'
    )
    remarks.warnings.append(UsageError("check_cmd does not look at the candidate", hint=hint, key="check_cmd"))
    return "staged"


def find_table(tables: Mapping[str, object], warnings: list[ConfpyError]) -> Mapping[str, object]:
    """Return ``[template]``, in any case, and warn of keys outside it that probably belong into it."""
    name = next((name for name in tables if plain(name) == "template"), None)
    if name is None:
        meant = "".join(f"; did you mean it by [{name}]?" for name in tables if suggest(name, ["template"]))
        raise UsageError("the file has no [template]", hint="write [template] above src and dest" + meant)
    table = tables[name]
    if not isinstance(table, dict):
        raise UsageError("[template] is not a table", hint="write [template], once", key=name)
    for other, content in tables.items():
        if other != name and suggest(other, ["template", *OPTIONS]):
            hint = "did you mean [template]?" if isinstance(content, dict) else "move it below [template]"
            warnings.append(UsageError(f"{other} stands outside [template], ignored", hint=hint, key=other))
    return table


def read_table(table: Mapping[str, object], warnings: list[ConfpyError]) -> dict[str, Any]:
    """Return the values of ``[template]`` by their documented keys; raises ``UsageError``."""
    values: dict[str, Any] = {}
    implied: dict[str, Any] = {}
    for written, value in table.items():
        keys = (written,) if written in OPTIONS else SPELLED.get(plain(written), ())
        if not keys:
            meant = suggest(written, OPTIONS)
            hint = f"did you mean {meant}?" if meant else ""
            warnings.append(UsageError(f"unknown key {written}, ignored", hint=hint, key=written))
        for key in keys:
            own = key == written or plain(key) == plain(written)
            (values if own else implied)[key] = OPTIONS[key].kind.read(value, key if own else written, key=written)
    return implied | values


def absolute(dest: str) -> str:
    """Return the absolute path of the target; raises ``UsageError`` if it cannot be a file's."""
    if dest.endswith("/"):
        raise UsageError("dest is a folder", hint="end it with the name of a file", key="dest")
    try:
        return dest if os.path.isabs(dest) else os.path.join(os.getcwd(), dest)
    except OSError:
        raise UsageError("dest is relative, and the working directory is gone", key="dest") from None


def below(root: str | None, dest: str) -> str:
    """Return the path of the target below ``root``, which no ``..`` leaves."""
    return os.path.join(os.path.abspath(root), os.path.normpath(dest).lstrip("/")) if root else dest
