"""A resource: one file of ``conf.d``, as a value; and the table of its options.

A row of the table is an attribute of ``Resource``: name, type and default, how it is written and what it is for.
``load.py`` reads files by these rows; ``docs/resources.md`` and ``docs/resource.schema.json`` are made from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

from confpy.config.kinds import (
    BOOLEAN,
    COUNT,
    DELIMITERS,
    DIGITS,
    FILES,
    ID,
    KEYS,
    SHARE,
    TEXT,
    Kind,
    choice,
    strings,
    text,
)
from confpy.config.settings import OPTIONS as SETTINGS
from confpy.errors import ConfpyError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, frozen
from confpy.reload import actions
from confpy.reload import kinds as reload_kinds
from confpy.reload.actions import ReloadAction, Verifier
from confpy.reload.runtime_target import RuntimeTarget
from confpy.reload.spec import ReloadSpec
from confpy.system.placeholders import Command, command_line, fill_command, names_candidate

if TYPE_CHECKING:
    from confpy.keys.each import Each

T = TypeVar("T")

REQUIRED: Any = object()
"""The default of an option that every resource has to set."""


class Option(NamedTuple):
    """A row: one key of ``[template]``."""

    name: str
    kind: Kind
    help: str
    """In the manual's Markdown."""
    default: object = None
    unset: str = ""
    """What the default means where it is no plain value, in Markdown."""
    setting: bool = False
    """A resource that does not set it has the setting of its name."""
    examples: tuple[object, ...] = ()


class Options(NamedTuple):
    """The rows of options that make one field together."""

    rows: tuple[Option, ...]


OPTIONS: dict[str, Option] = {}
"""What may stand in ``[template]``: filled by ``with_options``."""


def option(
    default: T,
    kind: Kind,
    help: str,  # noqa: A002  # what it is
    *,
    unset: str = "",
    examples: tuple[object, ...] = (),
) -> T:
    """Make a row, named as the attribute is."""
    return cast("T", Option("", kind, help, default, unset, examples=examples))


def from_setting(help: str) -> Any:  # noqa: A002  # what it is
    """Make the row of an option that has the kind and the default of the setting of its name."""
    return Option("", TEXT, help, setting=True)


def from_reload(of: Iterable[type[ReloadAction | Verifier | RuntimeTarget]]) -> Any:
    """Make the rows of the options that reload actions, verifiers or runtime targets are read from."""
    rows = {name: one for cls in of for name, one in cls.options.items()}
    return Options(tuple(Option(name, _kind(one), one.help) for name, one in rows.items()))


def _kind(one: reload_kinds.Option) -> Kind:
    def accept(value: object) -> object:
        return one.accept(strings(value) if isinstance(value, list) else text(value))

    schema = {"type": "string", **one.schema}
    return Kind(one.expects, accept, accept, secret=one.secret, type=one.type, schema=schema)


def with_options(cls: type[T]) -> type[T]:
    """Collect the rows of a class in ``OPTIONS``, and leave the defaults of its fields in their places."""
    settings = {row.name: row for row in SETTINGS}
    for name, row in [*vars(cls).items()]:
        if isinstance(row, Options):
            OPTIONS.update({one.name: one for one in row.rows})
            default: object = None
        elif isinstance(row, Option):
            of = settings[name] if row.setting else row
            OPTIONS[name] = row._replace(name=name, kind=of.kind, default=of.default)
            default = of.default
        else:
            continue
        if name in cls.__annotations__ and default is not REQUIRED:
            setattr(cls, name, default)
        else:
            delattr(cls, name)
    return cls


COMMAND = _kind(actions.COMMAND)


@frozen
class Item:
    """One of the files that a resource with ``for_each`` makes."""

    of: str
    """The resource's name."""
    name: str
    """What the wildcard of the pattern has matched."""
    key: str
    """The key that the pattern has matched, as templates write it, without a slash at its end."""


@frozen
@with_options
class Resource:
    """One ``conf.d/*.toml`` file: which keys, through which template, into which target.

    What is set by a row is an option of the file. One that has a type is a field, too, as it was read; of the others,
    and of those whose fields say so, ``load.py`` makes fields.
    """

    name: str
    """The file's path below ``conf.d`` without its ending: unique, and what logs and people call it."""
    file: str
    """The file itself, for messages."""
    src: str = option(
        REQUIRED,
        TEXT,
        "the template, below `templates/` (with or without a leading slash)",
        examples=("haproxy.cfg.j2",),
    )
    """Relative to ``templates/``."""
    dest: str = option(
        REQUIRED,
        TEXT,
        "the target, an absolute path (a FIFO, a character device or `/dev/stdout` is"
        " [written to](delivery.md#streams), not replaced); a relative path starts at the directory in which confpy was"
        " started, as in confd, and is logged at level info (`dest.relative`)",
        examples=("/etc/haproxy/haproxy.cfg",),
    )
    """Absolute."""
    strip: str = "/"
    """The effective prefix: cut from the keys before the template sees them."""
    prefixes: tuple[str, ...] = ()
    """What to ask the store for: ``strip`` joined with each of ``keys``, as the store spells it."""
    keys = option(
        (), KEYS, "the keys to read from the store, each with everything below it", examples=(["/services/web"],)
    )
    for_each = option(
        "",
        TEXT,
        'makes one file for each key (`"/vhosts/*"`) or each folder (`"/vhosts/*/"`) that matches, and removes it when'
        " the key is gone; `dest` has `{{ name }}` in its place: [one file per key](resources.md#one-file-per-key)",
        examples=("/vhosts/*", "/vhosts/*/"),
    )
    each: Each | None = None
    """The pattern of ``for_each``: it is a plan, of which items are made."""
    item: Item | None = None
    """It is one of these items: what it sees of the pattern's keys are its own."""
    shared: tuple[str, ...] = ()
    """Of such a resource and its items: what of ``prefixes`` every item sees, besides its own keys."""
    max_items: int = option(10000, COUNT, "with `for_each`: more matches than this are an error, and the files stay")
    keys_match: Literal["auto", "segment", "text"] = option(
        "auto",
        choice("auto", "segment", "text"),
        "whether a key selects itself and everything below it (`segment`), or everything that begins with its text, so"
        " that `/app/web` also selects `/app/web1` (`text`); `auto`: `segment`, unless a Go template"
        " [needs more](key-functions.md#text-prefixes)",
    )
    """``auto``: the store and the template say."""
    prefix = option(
        "/",
        TEXT,
        "prepended to `keys`, and removed from the keys that the template sees; overridden by the setting `-prefix`",
        examples=("/production",),
    )
    join_prefixes = from_setting("the setting `-prefix` is prepended to `prefix` instead of overriding it")
    base: str = ""
    """Where a store of its own is in the tree of keys, in place of the one at ``/``; empty: it has none."""
    text_prefixes: tuple[str, ...] = ()
    """What the paths that it sees begin with, even within a segment; empty: it sees all of ``prefixes``. One that ends
    with a slash stands for the path before it, too."""
    engine: Literal["auto", "go", "jinja"] = option(
        "auto",
        choice("auto", "go", "jinja"),
        "the template's language; `auto`: decided by its name and text, see [Go templates](go-templates.md)",
    )
    delimiters: tuple[str, ...] = option(
        (),
        DELIMITERS,
        'the delimiters of expressions in the template, such as `["[[", "]]"]`, for a file with'
        " [braces of its own](template-functions.md#other-delimiters)",
        unset='`["{{", "}}"]`',
        examples=(["[[", "]]"],),
    )
    """Empty: ``{{`` and ``}}``."""
    mode: int | None = option(
        None,
        DIGITS,
        'octal digits: `"0644"`, `"644"` and `"0o644"` are the same',
        unset='that of the target, else `"0644"`',
        examples=("0644", "0640"),
    )
    """Permission bits."""
    uid: int | None = option(
        None,
        ID,
        "the user that owns the target; −1 means not set",
        unset="that of the target, else confpy's",
    )
    """Made of ``owner`` as well."""
    gid: int | None = option(
        None,
        ID,
        "the group that owns the target; −1 means not set",
        unset="that of the target, else confpy's",
    )
    """Made of ``group`` as well."""
    owner = option(None, TEXT, "the user by name; if `uid` is also set, `uid` is used", examples=("haproxy",))
    group: str = option(
        "",
        TEXT,
        "resources with the same name are delivered together; or, if it is a group of users on this machine or stands"
        " beside an `owner`, the group that owns the target (if `gid` is also set, `gid` is used);"
        " [see below](#group)",
        examples=("lb",),
    )
    """The resources that are delivered together; empty: it is delivered by itself."""
    strict_owner: bool = from_setting("a user or group that is unknown or cannot be set is an error, not a warning")
    write: Literal["auto", "rename", "inplace"] = option(
        "auto",
        choice("auto", "rename", "inplace"),
        "`rename`: only in one step; `inplace`: always into the existing file; `auto`: in place if it cannot be renamed"
        " over",
    )
    symlink: Literal["follow", "replace", "refuse"] = option(
        "follow",
        choice("follow", "replace", "refuse"),
        "if the target is a link: replace the file it points to (`follow`), replace the link itself (`replace`), or"
        " fail (`refuse`)",
    )
    mkdir: bool = option(
        False, BOOLEAN, "create the target's folder if it is missing", unset="false; true below `-root`"
    )
    dir_mode: int | None = option(
        None, DIGITS, "the mode of created folders, as octal digits", unset='`"0755"`', examples=("0750",)
    )
    """Permission bits."""
    watch_files: tuple[str, ...] = option(
        (),
        FILES,
        "files that the program reads besides the target, such as certificates: when one changes, the target is checked"
        " and the program reloaded, [see below](#watched-files)",
        examples=(["/etc/ssl/web.pem"],),
    )
    """Each once, in its simplest form."""
    backup: int = option(0, COUNT, "how many versions of the target to keep beside it")
    sensitive: bool = option(
        False,
        BOOLEAN,
        "its content is not to be shown: neither in a diff, nor on a page, nor by what its commands write to the log;"
        " [more](history.md#sensitive-resources)",
    )
    undo: bool | None = option(
        None,
        BOOLEAN,
        "previous contents of the target are kept in [the history](history.md), for `confpy undo`",
        unset="true; false if it is `sensitive`",
    )
    """None: as ``keeps_content`` says."""
    check_cmd: Command | None = option(
        None,
        COMMAND,
        "its exit code decides whether the candidate may become the target",
        examples=("haproxy -c -f {{.src}}",),
    )
    check_mode: Literal["staged", "swap"] = option(
        "staged",
        choice("staged", "swap"),
        "`staged`: the check runs before the new files are put in place; `swap`: it runs while they are in place, and"
        " if it fails the old ones are restored",
        unset="`staged`; `swap` for a check [that names no candidate](#commands)",
    )
    """``swap``: of a group, all files are in place."""
    reload_cmd: ReloadAction | None = from_reload(actions.ACTIONS.values())
    """Made of all options that begin so."""
    verify_cmd: Verifier | None = from_reload(actions.VERIFIERS.values())
    """Runs after the reload and counts as part of it."""
    reload_haproxy: RuntimeTarget | None = from_reload([RuntimeTarget])
    """What may do without the reload."""
    on_reload_failure: Literal["retry", "rollback", "keep"] = from_setting(
        "`retry`: retry the reload until it succeeds; `rollback`: restore the previous files and reload; `keep`: only"
        " log the failure"
    )
    retry_refused: float = from_setting(
        "after a rollback: when to retry the rejected content, unless its keys, its template or a command change first;"
        " doubled each time, up to a day"
    )
    """Seconds."""
    reload_retry = option(
        "always",
        choice("always", "never"),
        '`never` is the same as `on_reload_failure = "keep"`, as in confd',
    )
    min_reload_interval: float = from_setting("the minimum time between two reloads by this command")
    """Seconds."""
    splay: float = from_setting("delay the reload by a random time up to this")
    """Seconds."""
    settle: float = from_setting("how long a burst of changes must be quiet before it is delivered")
    """Seconds."""
    max_wait: float = from_setting("how long a burst may delay its delivery")
    """Seconds."""
    check_cmd_timeout: float = from_setting('how long the check may take; `"0s"`: no limit')
    """Seconds; ``clock.LONGEST``: no limit."""
    reload_cmd_timeout: float = from_setting('how long the reload may take; `"0s"`: no limit')
    """Seconds; ``clock.LONGEST``: no limit."""
    output_format: str | None = option(
        None,
        choice("json", "yaml", "toml", "xml", yml="yaml"),
        "the candidate must be well-formed",
    )
    on_drift: Literal["restore", "warn"] = from_setting(
        "what to do if somebody else changes the target: `restore` or `warn`"
    )
    write_once: bool = option(
        False,
        BOOLEAN,
        "create the target if it is missing, and never touch it again: for a program that rewrites its own file",
    )
    on_missing: Literal["error", "empty"] | None = option(
        None,
        choice("error", "empty"),
        "while one of `keys` is not in the store: fail and keep the target (`error`), or render without it (`empty`)",
        unset="depends on the store: `error` for etcd v2, else `empty`",
    )
    min_keys: int = option(0, COUNT, "fewer keys than this are suspect")
    max_shrink: float | None = option(
        None, SHARE, "losing more than this share of the keys at once (0.5: half) is suspect", examples=(0.5,)
    )
    on_shrink: Literal["confirm", "keep", "render"] = from_setting(
        "if keys seem to have vanished: keep the target until a second read confirms it (`confirm`), keep it until they"
        " are back (`keep`), or accept it (`render`); also for"
        " [an edit that finds no key](nothing-is-lost.md#changed-keys-prefix-or-backend)"
    )
    shrink_grace: float = from_setting("time until the second read")
    """Seconds."""

    @property
    def reads(self) -> tuple[str, ...]:
        """What it asks the store for; ``*`` marks what keys begin with within a segment."""
        return tuple(f"{one}*" for one in self.text_prefixes) if self.text_prefixes else self.prefixes

    @property
    def seen(self) -> tuple[str, ...]:
        """The prefixes that its template sees: an item its own keys, and what all items see."""
        if self.item is None or self.each is None:
            return self.prefixes
        return tuple(dict.fromkeys((self.each.path(self.item.name), *self.shared)))

    @property
    def keeps_content(self) -> bool:
        """Whether previous contents of its target are kept in the history."""
        return not self.sensitive if self.undo is None else self.undo

    @property
    def reload_spec(self) -> ReloadSpec | None:
        """How its program is reloaded after a change; None: not at all."""
        if self.reload_cmd is None:
            return None
        # The candidate is the target by then: both names mean the same file.
        action = self.reload_cmd.fill(self.dest, self.dest)
        key, timeout, interval = action.describe(), self.reload_cmd_timeout, self.min_reload_interval
        return ReloadSpec(key, action, timeout, self.verify_cmd, self.on_reload_failure, interval, self.reload_haproxy)


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
    """False if there is no ``conf.d``."""
    notes: tuple[LogEvent, ...] = ()
    """What to log below the level of a warning, if the previous reading did not log it."""
    lines: Mapping[str, Mapping[str, int]] = NOTHING
    """Resource → the lines of its file with ``keys`` and ``prefix``, if it has them."""

    @property
    def all_errors(self) -> tuple[ConfpyError, ...]:
        return (*self.other_errors, *self.errors.values())


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
    spec = resource.reload_spec
    reloads = (resource.reload_cmd.describe(), spec.key) if resource.reload_cmd is not None and spec is not None else ()
    return tuple(filter(None, dict.fromkeys((*check, *reloads, check_in_place(resource)))))
