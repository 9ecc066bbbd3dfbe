"""The values that rooms hand to each other: frozen, and without behaviour beyond naming themselves.

Three kinds: what a resource is; what stores and workers tell the owner (messages); what the owner wants done
(actions). ``agent.step`` and ``mirror.step`` turn the second into the third; ``daemon.py`` carries the third out.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from confpy.errors import ConfpyError, StoreError
from confpy.value import Value

Command: TypeAlias = str | tuple[str, ...]
"""A string goes to ``/bin/sh -c``; a tuple is executed as it stands."""

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class SignalReload(Value):
    """Send a signal to the process that a file names, or to all processes of a name."""

    signal: str
    """``HUP``."""
    pidfile: str = ""
    process: str = ""


class HttpReload(Value):
    """Make a request; any 2xx is success."""

    method: str
    url: str


class SocketReload(Value):
    """Say lines to a Unix socket, each on a connection of its own, and read the answers."""

    path: str
    line: str
    more: tuple[str, ...] = ()
    """Lines after the first."""
    expect: str = ""
    """The regular expression that each answer has to hold; empty: what is known of HAProxy's answers decides."""

    @property
    def lines(self) -> tuple[str, ...]:
        return (self.line, *self.more)


class VerifyProgram(Value):
    """See whether a program that confpy knows has taken its new configuration."""

    program: str
    """``nginx``, ``apache`` or ``haproxy``."""
    socket: str = ""
    """HAProxy: that of its master; empty: it is found out."""
    pidfile: str = ""
    """The file with the number of its master; empty: all masters of its name are looked at."""


ReloadBy: TypeAlias = "Command | SignalReload | HttpReload | SocketReload"
Verify: TypeAlias = "Command | VerifyProgram"

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


# --- resources -------------------------------------------------------------------------------------------------------


class Resource(Value):
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
    reload_cmd: ReloadBy | None = None
    verify_cmd: Verify | None = None
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


# --- what a read brings ----------------------------------------------------------------------------------------------


class Listing(Value):
    """One prefix at one revision."""

    revision: int
    """Changes after it come by watching from ``revision + 1``; 0 where the store counts nothing."""
    keys: Mapping[str, str] = NOTHING
    """Raw key → value, all those at or below the prefix (by path segment)."""
    error: StoreError | None = None
    """Why this prefix, and only this one, could not be read. ``keys`` is then empty and means nothing."""
    folders: AbstractSet[str] = frozenset()
    """Paths at or below it that are there without a key: what tells an empty tree from a missing one."""


class Snapshot(Value):
    """What one read brought, per prefix asked for."""

    listings: Mapping[str, Listing]
    identity: str = ""
    """Which store this is (etcd: the cluster's id); another one means that revisions do not compare."""
    counts: Mapping[str, int] = NOTHING
    """How many keys lie below each of the covers that the read was asked to count."""
    on_missing: Literal["error", "empty"] | None = None
    """What a missing tree is to resources that do not say, where only the read showed which store this is."""
    binary: bool | None = None
    """Whether values may be any bytes, where only the read showed it."""
    notes: tuple[Say, ...] = ()
    """What the store wants told."""


class Standing(Value):
    """The cheap answer to "has anything changed since?"."""

    identity: str
    revision: int
    """The store's newest revision, of any key."""
    newest: Mapping[str, int]
    """Per prefix: the newest revision of a key that still exists, 0 where there is none; without those refused now."""
    counts: Mapping[str, int]
    """Per prefix: how many raw keys it has; with ``newest`` it betrays a lost deletion."""


class Changes(Value):
    """What one watch delivered at once: keys at or below ``prefix`` as of ``revision``."""

    prefix: str
    """The watch it came from: order holds only among the changes of one watch."""
    revision: int
    """The newest revision in it; the cursor of this watch afterwards."""
    keys: Mapping[str, tuple[int, str | None]]
    """Raw key → (its revision, its value or None where it was deleted), the last word on each key."""
    gone: Mapping[str, int] = NOTHING
    """Path → revision in which it went with all that was below it. ``keys`` and ``folders`` are from after that."""
    folders: Mapping[str, int] = NOTHING
    """Path → revision as of which it is there, be it without a key."""


class Stirred(Value):
    """Something changed below the prefixes, the store cannot say what: read again."""


# --- what templates ask of the world ---------------------------------------------------------------------------------


class Lookup(Value):
    """One question to the world outside the store, answered by a worker, never by the owner."""

    kind: Literal["template", "ip", "srv", "exists", "interface", "file", "hash"]
    """``template``: source and code of a template; ``ip``: addresses of a name; ``srv``: SRV records;
    ``exists``: whether a path does; ``interface``: the addresses of one of the machine's network interfaces;
    ``file``: the content of a file; ``hash``: its SHA-256 in hexadecimal digits."""
    name: str
    engine: Literal["auto", "go", "jinja", "included"] = "auto"
    """Of a template: its language; ``auto``: its name and its text say; ``included``: Go, with data of its own."""
    delimiters: tuple[str, ...] = ()
    """Of a template: what stands around its expressions; empty: ``{{`` and ``}}``."""


# --- what a delivery takes and tells ---------------------------------------------------------------------------------


class Candidate(Value):
    """Bytes that want to be a resource's target."""

    resource: Resource
    content: bytes
    keys: int = 0
    """How many keys the resource has in the store."""
    only_missing: bool = False
    """It came from old keys: it makes a target that is missing, and changes none that is there."""
    torn: bool = False
    """Its group was left half new: what is there now was not checked, even if it is the same."""
    delivered: bytes = b""
    """The digest of what this process delivered last: a stream does not tell what was written to it."""
    files: str = ""
    """The digest of its watched files."""
    renewed: bool = False
    """They are other ones than before: its target is checked and its program reloaded, even if it is the same."""
    revision: int = 0
    """The store's revision that the content was made from; 0 where it is not known."""
    trigger: str = "start"
    """What made the resource dirty."""
    changes: int = 0
    """How many keys had changed."""

    @property
    def again(self) -> str:
        """Why it is delivered even where the target is as it should be; empty: it is not."""
        return "torn" if self.torn else "watch_files" if self.renewed else ""


class Group(Value):
    """Candidates that are delivered together or not at all: one of each of its resources."""

    name: str
    """Of a resource that is alone its target: no group has its name."""
    candidates: tuple[Candidate, ...]


class Stamp(Value):
    """A target as last seen: equal stamps mean that nobody touched it, so that it need not be read again."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Known(Value):
    """What a target was when confpy last delivered or compared it."""

    digest: bytes
    stamp: Stamp | None
    """None where the file was not there (noop)."""


Outcome: TypeAlias = Literal["unchanged", "changed", "would change", "failed", "held"]
"""``held``: nothing is wrong with it, but another of its group failed."""


class Report(Value):
    """What a delivery did for one resource."""

    resource: str
    outcome: Outcome
    error: ConfpyError | None = None
    known: Known | None = None
    notes: tuple[str, ...] = ()
    """Things to warn of that did not stop it (an owner that could not be given, a target written in place)."""
    record: int = 0
    """The ledger's record that the commit stands in; 0: none."""
    torn: bool = False
    """Its group was neither made new nor put back."""
    differs: tuple[str, ...] = ()
    """What would change (noop): ``missing``, ``content``, ``mode``, ``owner``."""
    unchecked: str = ""
    """The check that was not run since it needs the file in its place (noop)."""
    took: float = 0.0
    """Seconds."""


# --- messages: what others tell the owner ----------------------------------------------------------------------------


class Loaded(Value):
    """``conf.d`` was read."""

    resources: tuple[Resource, ...]
    errors: tuple[ConfpyError, ...] = ()
    warnings: tuple[ConfpyError, ...] = ()
    found: bool = True
    """False where there is no ``conf.d`` to read."""
    notes: tuple[Say, ...] = ()
    """What to say below the level of a warning; what the last reading said already is not said again."""
    lines: Mapping[str, Mapping[str, int]] = NOTHING
    """Resource → the lines of its file that say ``keys`` and ``prefix``, where they do."""


class Listed(Value):
    """A read ended: with a snapshot, or with the error that stopped it as a whole."""

    read: int
    """The number of the ``Read`` that it answers."""
    snapshot: Snapshot | None
    error: StoreError | None = None


class Asked(Value):
    """An ask ended. Both None: the store cannot say."""

    ask: int
    standing: Standing | None
    error: StoreError | None = None


class Opened(Value):
    """Every watch of this stream is established."""

    stream: int


class Changed(Value):
    """A stream delivered."""

    stream: int
    changes: Changes | Stirred


class Lost(Value):
    """A stream ended. ``relist``: it cannot be resumed from its cursors (compacted, another store)."""

    stream: int
    error: StoreError
    relist: bool = False


class Resolved(Value):
    """Lookups were answered; a failed one holds its error."""

    resolve: int
    facts: Mapping[Lookup, object]
    """Lookup → answer, or the ``ConfpyError`` that it ended in."""


class Delivered(Value):
    """A batch ended."""

    batch: int
    reports: tuple[Report, ...]


class Reloaded(Value):
    """A reload job ended; no error means that the command succeeded."""

    key: str
    error: ConfpyError | None
    took: float
    """Seconds."""
    unsure: bool = False
    """The program was told, but did not say in words that confpy knows whether it succeeded."""
    answer: str = ""
    """Those words."""


class Inspected(Value):
    """The targets were looked at."""

    drifted: Mapping[str, str]
    """Resource → what is other than delivered ("content", "mode", "missing" …)."""
    stamps: Mapping[str, Stamp]
    """Resource → the new stamp of a target that was touched but is still right."""


class Swept(Value):
    """Stage files of dead processes were removed."""

    files: tuple[str, ...]


class Owed(Value):
    """A reload that is owed for the content that its targets have, whoever gave it to them."""

    key: str
    command: ReloadBy
    timeout: float
    verify: Verify | None
    resources: tuple[str, ...]
    dests: tuple[str, ...]
    """Of each resource its target."""
    records: tuple[int, ...] = ()
    """Where it stands in the ledger."""
    on_failure: Literal["retry", "rollback", "keep"] = "retry"


class Counted(Value):
    """How many keys a resource had when it was delivered, and where they came from."""

    keys: int
    backend: str = ""
    """The store's kind, as the setting names it; empty: an earlier version did not note it."""
    prefixes: tuple[str, ...] | None = None
    """What it read, as ``Resource.reads`` has it; None: an earlier version did not note it."""
    strip: str = ""
    """As in ``Resource``."""


class LastRun(Value):
    """What is known of the last run of a reload, also by the next start."""

    at: float
    """When it began, in seconds since 1970."""
    failures: int = 0
    """How many runs in a row did not succeed. One that was cut off is among them."""
    interval: float = 0.0
    """Seconds from its start to that of the next run, at least."""


class Rejection(Value):
    """A content that a reload refused, and in whose place the one from before was put back."""

    digest: str
    """SHA-256 of the content, in hexadecimal digits."""
    path: str
    """The target, links followed."""
    back: str | None
    """The digest of what was put back there; None: no file."""
    by: str
    """A mark of the target and the commands that it had to pass; empty: not known."""
    at: float
    """When it was refused last, in seconds since 1970."""
    times: int = 1
    """How often."""


class Recovered(Value):
    """What an earlier confpy left behind is settled."""

    debts: tuple[Owed, ...] = ()
    counts: Mapping[str, tuple[Counted, ...]] = NOTHING
    """Resource → one count for each kind of store that it was delivered from, the last delivery's last."""
    identity: str = ""
    """The store that they came from."""
    revision: int = 0
    """And its revision then."""
    notes: tuple[Say, ...] = ()
    """What was done about deliveries that were cut off."""
    files: Mapping[str, str] = NOTHING
    """Target → the digest of its watched files when it was last delivered."""
    runs: Mapping[str, LastRun] = NOTHING
    """Reload → its last run."""
    rejections: Mapping[str, Rejection] = NOTHING
    """Resource → the content that was refused last."""
    in_place: frozenset[str] = frozenset()
    """Of these resources, those that have that content all the same, and still owe the reload for it."""


class Restored(Value):
    """The targets that a reload refused are as before."""

    key: str
    reports: tuple[Report, ...]
    owed: tuple[Owed, ...] = ()
    """What programs that are told by other reloads have to be told of it."""
    refused: Mapping[str, tuple[str, str, str | None]] = NOTHING
    """Resource → the digest of the content that was taken away, the target's path, and the digest of what is back."""


class Accepted(Value):
    """Whether a person said that a resource's keys may be gone."""

    resource: str
    accepted: bool


class Recalled(Value):
    """The keys that were last delivered; none where they are not known."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...] = ()
    """What they were all the keys of."""
    age: float = 0.0
    """Seconds since they were kept."""


class Edited(Value):
    """Something below ``conf.d`` or ``templates`` changed."""


class Touched(Value):
    """Files that are followed may have changed."""


class Signalled(Value):
    """A signal arrived."""

    number: int


class Woken(Value):
    """A moment that the owner asked for has come."""


Message: TypeAlias = (
    Loaded
    | Listed
    | Asked
    | Opened
    | Changed
    | Lost
    | Resolved
    | Delivered
    | Reloaded
    | Inspected
    | Swept
    | Recovered
    | Restored
    | Accepted
    | Recalled
    | Edited
    | Touched
    | Signalled
    | Woken
)


# --- actions: what the owner wants done ------------------------------------------------------------------------------


class Load(Value):
    """Read ``conf.d``; answered by ``Loaded``."""


class Read(Value):
    """Read these prefixes at one revision, and count the keys below these covers; answered by ``Listed``."""

    read: int
    prefixes: tuple[str, ...]
    covers: tuple[str, ...] = ()


class Ask(Value):
    """Ask how these prefixes stand; answered by ``Asked``."""

    ask: int
    prefixes: tuple[str, ...]


class Watch(Value):
    """Open a stream; answered by ``Opened``, then ``Changed`` …, in the end ``Lost``."""

    stream: int
    cursors: Mapping[str, int]
    """Prefix to watch → revision after which to begin."""
    identity: str


class Unwatch(Value):
    """Close a stream; whatever it still sends is ignored."""

    stream: int


class Resolve(Value):
    """Answer these lookups; answered by ``Resolved``."""

    resolve: int
    lookups: tuple[Lookup, ...]


class Deliver(Value):
    """Deliver these groups, one after another on one worker; answered by ``Delivered``."""

    batch: int
    groups: tuple[Group, ...]


class Reload(Value):
    """Run a reload command; answered by ``Reloaded``."""

    key: str
    """What it is paid by: one reload runs per key at a time."""
    command: ReloadBy
    timeout: float
    environment: Mapping[str, str]
    verify: Verify | None = None
    failures: int = 0
    """How many runs of it in a row have failed."""
    interval: float = 0.0
    """Seconds from the start of this run to that of the next, at least."""


class Inspect(Value):
    """Look at these targets; answered by ``Inspected``."""

    targets: tuple[tuple[Resource, Known], ...]


class Sweep(Value):
    """Remove the stage files that dead processes left beside these targets; answered by ``Swept``."""

    targets: tuple[str, ...]


class Recover(Value):
    """Settle what an earlier confpy left behind; answered by ``Recovered``."""


class Acquit(Value):
    """Note that the reload of these records is owed no more."""

    key: str
    records: tuple[int, ...]


class Restore(Value):
    """Put back the targets as they were when this reload last succeeded; answered by ``Restored``."""

    key: str


class Reject(Value):
    """Note which content of resources was refused; None: forget it."""

    rejections: Mapping[str, Rejection | None]


class Count(Value):
    """Note how many keys resources had when they were delivered, and from which store."""

    counts: Mapping[str, Counted]
    identity: str
    revision: int


class Hold(Value):
    """Note that a resource's keys are not believed, and why; answered by ``Accepted``."""

    resource: str
    reason: str
    """Empty where it is noted already: only look whether a person accepted it."""


class Release(Value):
    """Note that they are believed again."""

    resource: str


class Save(Value):
    """Keep the keys, for a start without the store."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...]
    carried: tuple[str, ...] = ()
    """Prefixes of which what was kept before stays: what is known of them now was not delivered, or not yet."""


class Remember(Value):
    """Keep, for a later start, what watched files held when their targets were delivered: target → digest."""

    files: Mapping[str, str]


class Follow(Value):
    """Tell with ``Touched`` of changes to these files, and to none of those that were followed before."""

    files: tuple[str, ...]


class Recall(Value):
    """Bring the keys that were last kept; answered by ``Recalled``."""


class WakeAt(Value):
    """Send ``Woken`` at this monotonic time; a later ``WakeAt`` replaces it."""

    moment: float


class Say(Value):
    """Write one log line."""

    level: Level
    event: str
    fields: Mapping[str, object] = NOTHING
    last: bool = False
    """No other will follow."""


class Terminate(Value):
    """Ask the commands that run to end (SIGTERM), and start none any more."""


class Kill(Value):
    """Kill the process groups of the commands that still run."""


class Stop(Value):
    """End with this exit code."""

    code: int


Action: TypeAlias = (
    Load
    | Read
    | Ask
    | Watch
    | Unwatch
    | Resolve
    | Deliver
    | Reload
    | Inspect
    | Sweep
    | Recover
    | Acquit
    | Restore
    | Reject
    | Count
    | Hold
    | Release
    | Save
    | Remember
    | Follow
    | Recall
    | WakeAt
    | Say
    | Terminate
    | Kill
    | Stop
)
