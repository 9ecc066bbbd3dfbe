"""What threads hand to each other: messages to the agent, and the actions that it returns. Frozen values.

``agent.step`` and ``mirror.step`` turn messages into actions; the daemon carries the actions out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from confpy.config.resource import Loaded, Resource
from confpy.errors import ConfpyError, StoreError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, frozen
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus, Snapshot
from confpy.reload.spec import ReloadSpec
from confpy.templates.lookup import Lookup

# --- what a delivery takes and returns -------------------------------------------------------------------------------


@frozen
class Candidate:
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


class GroupId(NamedTuple):
    """What is delivered together or not at all: the resources of a group, or one resource that is in none."""

    name: str
    """The group's, or the resource's."""
    is_lone: bool = False


@frozen
class Group:
    """Candidates that are delivered together or not at all: one of each of its resources."""

    name: str
    """Of a resource that is alone its target: no group has its name."""
    candidates: tuple[Candidate, ...]


@frozen
class FileStamp:
    """A target as last seen: equal stamps mean that nobody touched it, so that it need not be read again."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@frozen
class DeliveredState:
    """What a target was when confpy last delivered or compared it."""

    digest: bytes
    stamp: FileStamp | None
    """None where the file was not there (noop)."""


Outcome: TypeAlias = Literal["unchanged", "changed", "would change", "failed", "held"]
"""``held``: nothing is wrong with it, but another of its group failed."""


@frozen
class Report:
    """What a delivery did for one resource."""

    resource: str
    outcome: Outcome
    error: ConfpyError | None = None
    known: DeliveredState | None = None
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


# --- messages: what threads send to the agent ------------------------------------------------------------------------


@frozen
class Listed:
    """A read ended: with a snapshot, or with the error that stopped it as a whole."""

    read: int
    """The number of the ``Read`` that it answers."""
    snapshot: Snapshot | None
    error: StoreError | None = None


@frozen
class Polled:
    """An ask ended. Both None: the store cannot say."""

    poll: int
    status: PrefixStatus | None
    error: StoreError | None = None


@frozen
class Opened:
    """Every watch of this stream is established."""

    stream: int


@frozen
class Changed:
    """A stream delivered."""

    stream: int
    changes: Changes | Invalidated


@frozen
class Lost:
    """A stream ended. ``relist``: it cannot be resumed from its cursors (compacted, another store)."""

    stream: int
    error: StoreError
    relist: bool = False


@frozen
class Resolved:
    """Lookups were answered; a failed one holds its error."""

    resolve: int
    facts: Mapping[Lookup, object]
    """Lookup → answer, or the ``ConfpyError`` that it ended in."""


@frozen
class Delivered:
    """A batch ended."""

    batch: int
    reports: tuple[Report, ...]


@frozen
class Reloaded:
    """A reload job ended; no error means that the command succeeded."""

    key: str
    error: ConfpyError | None
    took: float
    """Seconds."""
    unsure: bool = False
    """The program was told, but did not say in words that confpy knows whether it succeeded."""
    answer: str = ""
    """Those words."""


@frozen
class Inspected:
    """The targets were looked at."""

    drifted: Mapping[str, str]
    """Resource → what is other than delivered ("content", "mode", "missing" …)."""
    stamps: Mapping[str, FileStamp]
    """Resource → the new stamp of a target that was touched but is still right."""


@frozen
class Swept:
    """Stage files of dead processes were removed."""

    files: tuple[str, ...]


@frozen
class PendingReload:
    """A reload that is owed for the content that its targets have, whichever run of confpy delivered it."""

    spec: ReloadSpec
    resources: tuple[str, ...]
    dests: tuple[str, ...]
    """Of each resource its target."""
    records: tuple[int, ...] = ()
    """The ledger's records that owe it."""


@frozen
class Counted:
    """How many keys a resource had when it was delivered, and where they came from."""

    keys: int
    backend: str = ""
    """The store's kind, as the setting names it; empty: an earlier version did not note it."""
    prefixes: tuple[str, ...] | None = None
    """What it read, as ``Resource.reads`` has it; None: an earlier version did not note it."""
    strip: str = ""
    """As in ``Resource``."""


@frozen
class LastRun:
    """What is known of the last run of a reload, also by the next start."""

    at: float
    """When it began, in seconds since 1970."""
    failures: int = 0
    """How many runs in a row did not succeed. One that was cut off is among them."""
    interval: float = 0.0
    """Seconds from its start to that of the next run, at least."""


@frozen
class Rejection:
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


@frozen
class Recovered:
    """What an earlier confpy left behind is settled."""

    reloads: tuple[PendingReload, ...] = ()
    """Those that are owed."""
    counts: Mapping[str, tuple[Counted, ...]] = NOTHING
    """Resource → one count for each kind of store that it was delivered from, the last delivery's last."""
    identity: str = ""
    """The store that they came from."""
    revision: int = 0
    """And its revision then."""
    notes: tuple[LogEvent, ...] = ()
    """What was done about deliveries that were cut off."""
    files: Mapping[str, str] = NOTHING
    """Target → the digest of its watched files when it was last delivered."""
    runs: Mapping[str, LastRun] = NOTHING
    """Reload → its last run."""
    rejections: Mapping[str, Rejection] = NOTHING
    """Resource → the content that was refused last."""
    in_place: frozenset[str] = frozenset()
    """Of these resources, those that have that content all the same, and still owe the reload for it."""


@frozen
class Restored:
    """The targets that a reload refused are as before."""

    key: str
    reports: tuple[Report, ...]
    owed: tuple[PendingReload, ...] = ()
    """What programs that are told by other reloads have to be told of it."""
    refused: Mapping[str, tuple[str, str, str | None]] = NOTHING
    """Resource → the digest of the content that was taken away, the target's path, and the digest of what is back."""


@frozen
class Accepted:
    """Whether a person said that a resource's keys may be gone."""

    resource: str
    accepted: bool


@frozen
class Recalled:
    """The keys that were last delivered; none where they are not known."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...] = ()
    """What they were all the keys of."""
    age: float = 0.0
    """Seconds since they were kept."""


@frozen
class Edited:
    """Something below ``conf.d`` or ``templates`` changed."""


@frozen
class Touched:
    """Files that are followed may have changed."""


@frozen
class Signalled:
    """A signal arrived."""

    number: int


@frozen
class Woken:
    """A moment that the owner asked for has come."""


Message: TypeAlias = (
    Loaded
    | Listed
    | Polled
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


# --- actions: what the agent wants done ------------------------------------------------------------------------------


@frozen
class Load:
    """Read ``conf.d``; answered by ``Loaded``."""


@frozen
class Read:
    """Read these prefixes at one revision, and count the keys below the counted ones; answered by ``Listed``."""

    read: int
    prefixes: tuple[str, ...]
    counted: tuple[str, ...] = ()


@frozen
class Poll:
    """Ask how these prefixes stand; answered by ``Polled``."""

    poll: int
    prefixes: tuple[str, ...]


@frozen
class Watch:
    """Open a stream; answered by ``Opened``, then ``Changed`` …, in the end ``Lost``."""

    stream: int
    cursors: Mapping[str, int]
    """Prefix to watch → revision after which to begin."""
    identity: str


@frozen
class Unwatch:
    """Close a stream; whatever it still sends is ignored."""

    stream: int


@frozen
class Resolve:
    """Answer these lookups; answered by ``Resolved``."""

    resolve: int
    lookups: tuple[Lookup, ...]


@frozen
class Deliver:
    """Deliver these groups, one after another on one worker; answered by ``Delivered``."""

    batch: int
    groups: tuple[Group, ...]


@frozen
class Reload:
    """Run a reload; answered by ``Reloaded``. At most one runs per key at a time."""

    spec: ReloadSpec
    environment: Mapping[str, str]
    """Variables of its commands."""
    failures: int = 0
    """How many runs of it in a row have failed."""

    @property
    def key(self) -> str:
        return self.spec.key


@frozen
class Inspect:
    """Look at these targets; answered by ``Inspected``."""

    targets: tuple[tuple[Resource, DeliveredState], ...]


@frozen
class Sweep:
    """Remove the stage files that dead processes left beside these targets; answered by ``Swept``."""

    targets: tuple[str, ...]


@frozen
class Recover:
    """Settle what an earlier confpy left behind; answered by ``Recovered``."""


@frozen
class ClearPending:
    """Note that the reload of these records is owed no more."""

    key: str
    records: tuple[int, ...]


@frozen
class Restore:
    """Put back the targets as they were when this reload last succeeded; answered by ``Restored``."""

    key: str


@frozen
class Reject:
    """Note which content of resources was refused; None: forget it."""

    rejections: Mapping[str, Rejection | None]


@frozen
class Count:
    """Note how many keys resources had when they were delivered, and from which store."""

    counts: Mapping[str, Counted]
    identity: str
    revision: int


@frozen
class Hold:
    """Note that a resource's keys are not believed, and why; answered by ``Accepted``."""

    resource: str
    reason: str
    """Empty where it is noted already: only look whether a person accepted it."""


@frozen
class Release:
    """Note that they are believed again."""

    resource: str


@frozen
class Save:
    """Keep the keys, for a start without the store."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...]
    carried: tuple[str, ...] = ()
    """Prefixes of which what was saved before stays: what is known of them now was not delivered, or not yet."""
    at_end: bool = False
    """The process ends next: save them before it does."""


@frozen
class Remember:
    """Keep, for a later start, what watched files held when their targets were delivered: target → digest."""

    files: Mapping[str, str]


@frozen
class Follow:
    """Tell with ``Touched`` of changes to these files, and to none of those that were followed before."""

    files: tuple[str, ...]


@frozen
class Recall:
    """Bring the keys that were last kept; answered by ``Recalled``."""


@frozen
class WakeAt:
    """Send ``Woken`` at this monotonic time; a later ``WakeAt`` replaces it."""

    moment: float


@frozen
class Terminate:
    """Ask the commands that run to end (SIGTERM), and start none any more."""


@frozen
class Kill:
    """Kill the process groups of the commands that still run."""


@frozen
class Stop:
    """End with this exit code."""

    code: int


Action: TypeAlias = (
    Load
    | Read
    | Poll
    | Watch
    | Unwatch
    | Resolve
    | Deliver
    | Reload
    | Inspect
    | Sweep
    | Recover
    | ClearPending
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
    | LogEvent
    | Terminate
    | Kill
    | Stop
)
