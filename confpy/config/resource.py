"""A resource: one file of ``conf.d``, as a value. ``load.py`` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from confpy.errors import ConfpyError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, frozen
from confpy.reload.actions import ReloadAction, Verifier
from confpy.system.placeholders import Command, command_line, fill_command, names_candidate


@frozen
class Resource:
    """One ``conf.d/*.toml`` file: which keys, through which template, into which target."""

    name: str
    """The file's path below ``conf.d`` without its ending: unique, and what logs and people call it."""
    file: str
    """The file itself, for messages."""
    src: str
    """The template, relative to ``templates/``."""
    dest: str
    """The target, absolute."""
    strip: str = "/"
    """The effective prefix: cut from the keys before the template sees them."""
    prefixes: tuple[str, ...] = ()
    """What to ask the store for: ``strip`` joined with each of ``keys``, as the store spells it."""
    keys_match: Literal["auto", "segment", "text"] = "auto"
    """Whether ``prefixes`` end where a segment ends; ``auto``: the store and the template say."""
    text_prefixes: tuple[str, ...] = ()
    """What the paths that it sees begin with, be it within a segment; empty: it sees all of ``prefixes``. One that ends
    with a slash stands for the path before it, too."""
    mode: int | None = None
    """Permission bits, or None: those of the existing target, else 0644."""
    uid: int | None = None
    """Owner, or None: that of the existing target, else ours."""
    gid: int | None = None
    strict_owner: bool = False
    """Fail, instead of warn, where the owner cannot be given."""
    check_cmd: Command | None = None
    check_mode: Literal["staged", "swap"] = "staged"
    """``swap``: the check runs with the whole group in place, which is put back where it fails."""
    reload_cmd: ReloadAction | None = None
    verify_cmd: Verifier | None = None
    """Runs after the reload and counts as part of it."""
    on_reload_failure: Literal["retry", "rollback", "keep"] = "retry"
    check_cmd_timeout: float = 30.0
    """Seconds; ``clock.LONGEST``: no limit."""
    reload_cmd_timeout: float = 60.0
    """Seconds; ``clock.LONGEST``: no limit."""
    engine: Literal["auto", "go", "jinja"] = "auto"
    """The template's language; ``auto``: its name and its text say."""
    delimiters: tuple[str, ...] = ()
    """What stands around the template's expressions, left and right; empty: ``{{`` and ``}}``."""
    output_format: str | None = None
    """``json``, ``yaml``, ``toml`` or ``xml``: the candidate must parse as it."""
    on_drift: Literal["restore", "warn"] = "restore"
    write_once: bool = False
    """Make the target where it is missing; leave one that is there, whatever it is."""
    on_missing: Literal["error", "empty"] | None = None
    """Whether it fails, and keeps its target, while one of its prefixes is not in the store; None: the store says."""
    group: str = ""
    """Resources of one name are delivered together; empty: it stands alone."""
    settle: float = 0.1
    """Seconds of quiet after which a burst is delivered."""
    max_wait: float = 2.0
    """Seconds that a burst may put off its delivery."""
    retry_refused: float = 600.0
    """Seconds after which a content is tried again that a reload refused and that was rolled back; it doubles."""
    min_reload_interval: float = 0.0
    """Seconds from one reload of its command to the next, at least."""
    splay: float = 0.0
    """Seconds within which its reload starts, at random."""
    min_keys: int = 0
    """Fewer keys than this are not believed."""
    max_shrink: float | None = None
    """The share of its keys that may go at once and be believed; None: any."""
    shrink_grace: float = 30.0
    """Seconds after which a shrink is confirmed by another read."""
    on_shrink: Literal["confirm", "keep", "render"] = "confirm"
    write: Literal["auto", "rename", "inplace"] = "auto"
    symlink: Literal["follow", "replace", "refuse"] = "follow"
    mkdir: bool = False
    """Make the target's folder where it is missing."""
    dir_mode: int | None = None
    """Permission bits of folders that are made; None: 0755."""
    backup: int = 0
    """How many versions of the target to keep beside it."""
    watch_files: tuple[str, ...] = ()
    """Absolute paths of files that its program reads as well: other content in one is a reason to reload."""

    @property
    def reads(self) -> tuple[str, ...]:
        """What it asks the store for; ``*`` marks what keys begin with within a segment."""
        return tuple(f"{one}*" for one in self.text_prefixes) or self.prefixes


@frozen
class Loaded:
    """``conf.d`` was read."""

    resources: tuple[Resource, ...]
    errors: Mapping[str, ConfpyError] = NOTHING
    """Resource → why its file cannot be used."""
    other_errors: tuple[ConfpyError, ...] = ()
    """Those that belong to no resource, such as a folder that cannot be read."""
    warnings: tuple[ConfpyError, ...] = ()
    found: bool = True
    """False where there is no ``conf.d`` to read."""
    notes: tuple[LogEvent, ...] = ()
    """What to say below the level of a warning; what the last reading said already is not said again."""
    lines: Mapping[str, Mapping[str, int]] = NOTHING
    """Resource → the lines of its file that say ``keys`` and ``prefix``, where they do."""

    @property
    def all_errors(self) -> tuple[ConfpyError, ...]:
        return (*self.other_errors, *self.errors.values())


def reload_of(resource: Resource) -> ReloadAction | None:
    """Return what a change of a resource runs: its pending reload is keyed by what it ``describe``s."""
    # The candidate is the target by then: both names mean the same file.
    return None if resource.reload_cmd is None else resource.reload_cmd.fill(resource.dest, resource.dest)


def check_in_place(resource: Resource) -> str:
    """Return the check that a resource runs over files in their places, the same for all that have it; empty: none."""
    if resource.check_cmd is None or resource.check_mode != "swap":
        return ""
    # In its place the candidate is the target: a check that names it so is the same as one that names no candidate.
    command = fill_command(resource.check_cmd, resource.dest, resource.dest)
    return "" if names_candidate(command) else command_line(command)


def commands_of(resource: Resource) -> tuple[str, ...]:
    """Return its check and reload commands as lines for people, as written and as run."""
    check = (command_line(resource.check_cmd),) if resource.check_cmd is not None else ()
    reloads = (action.describe() for action in (resource.reload_cmd, reload_of(resource)) if action is not None)
    return tuple(filter(None, dict.fromkeys((*check, *reloads, check_in_place(resource)))))
