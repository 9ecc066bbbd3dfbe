"""Messages to the agent, and the actions that it returns. Frozen values.

``agent.step`` and ``mirror.step`` turn messages into actions; ``daemon.jobs`` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from confpy.candidates import DeliveredState, FileStamp, Group, Own, OwnedFile, Report
from confpy.config.resource import Loaded, Resource
from confpy.errors import ConfpyError, StoreError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, frozen
from confpy.history.records import Accept, Answer, FindUndo, Undo, UndoFound, WriteHistory
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus, Snapshot
from confpy.reload.spec import LastRun, PendingReload, Rejection, ReloadSpec
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild
from confpy.templates.lookup import Lookup

if TYPE_CHECKING:
    from confpy.haproxy.values import Avoided, ReloadNeeded

By: TypeAlias = Literal["reload", "runtime", "look"]
"""What a run of a reload does: the reload; tell the running program of changes; or compare that with its files."""


@frozen
class Listed:
    """A read ended: with a snapshot, or with the error that stopped it as a whole."""

    read: int
    """The number of the ``Read`` that it answers."""
    snapshot: Snapshot | None
    error: StoreError | None = None


@frozen
class Polled:
    """A poll ended. Both None: only a read can tell."""

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
    """The program was reached, but its answer is none that confpy knows: whether it succeeded is unknown."""
    answer: str = ""
    by: By = "reload"
    avoided: Avoided | None = None
    """By ``runtime`` or ``look``: the running program has its files, as is verified."""
    needed: ReloadNeeded | None = None
    """By those: why it does not have them. By ``reload``: why the new program does not, although it was reloaded."""


@frozen
class Inspected:
    """An inspection of targets ended."""

    drifted: Mapping[str, str]
    """Resource → what differs from what was delivered ("content", "mode", "missing" …)."""
    stamps: Mapping[str, FileStamp]
    """Resource → the new stamp of a target that was touched but is still as delivered."""


@frozen
class Swept:
    """Stage files of dead processes were removed."""

    files: tuple[str, ...]


@frozen
class Counted:
    """How many keys a resource had when it was delivered, and where they came from."""

    keys: int
    backend: str = ""
    """The store's kind, as the setting names it; empty: an earlier version did not record it. So ``prefixes``."""
    prefixes: tuple[str, ...] | None = None
    """What it read, as in ``Resource.reads``."""
    strip: str = ""


@frozen
class Recovered:
    """Recovery of what earlier runs left behind ended."""

    reloads: tuple[PendingReload, ...] = ()
    counts: Mapping[str, tuple[Counted, ...]] = NOTHING
    """Resource → one count per kind of store that it was delivered from, that of the last delivery last."""
    identity: str = ""
    revision: int = 0
    """The store that the counts came from, and its revision then."""
    stores: Mapping[str, tuple[str, int]] = NOTHING
    """The same of mounted stores, by what the ledger calls them."""
    notes: tuple[LogEvent, ...] = ()
    """What was done about deliveries that were cut off, to be logged."""
    files: Mapping[str, str] = NOTHING
    """Target → the digest of its watched files when it was last delivered."""
    runs: Mapping[str, LastRun] = NOTHING
    """Reload → its last run."""
    rejections: Mapping[str, Rejection] = NOTHING
    """Resource → the content that was last rejected."""
    in_place: frozenset[str] = frozenset()
    """Those of them whose target has that content nevertheless, and for which the reload is still owed."""
    owned: tuple[OwnedFile, ...] = ()
    undone: Mapping[str, str] = NOTHING
    """Resource → why it is held: ``confpy undo`` has put a previous file back, and nobody has accepted another."""


@frozen
class Restored:
    """A rollback ended: the targets of a reload that failed are as they were before, items' files (``owned``), too."""

    key: str
    reports: tuple[Report, ...]
    owed: tuple[PendingReload, ...] = ()
    """Reloads of other programs that read the restored targets."""
    rejected: Mapping[str, tuple[str, str, str | None]] = NOTHING
    """Resource → the digest of the rejected content, the target's path, and the digest of what was put back."""
    owned: tuple[OwnedFile, ...] = ()


@frozen
class Accepted:
    """Whether ``confpy accept`` has ended the hold of a resource."""

    resource: str
    accepted: bool


@frozen
class Recalled:
    """The cached keys; none if there are none that can be used."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...] = ()
    """The prefixes of which they are all the keys."""
    age: float = 0.0
    """Seconds since they were saved."""


@frozen
class FoundTargets:
    """Which targets are there was looked at."""

    missing: tuple[str, ...]


@frozen
class Edited:
    """Something below ``conf.d`` or ``templates`` changed."""


@frozen
class Asked:
    """Somebody wants to know now whether the store is there."""


@frozen
class Touched:
    """Watched files may have changed."""


@frozen
class Signalled:
    """A signal arrived."""

    number: int


@frozen
class Woken:
    """The time of the last ``WakeAt`` has come."""


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
    | Undo
    | Accept
    | UndoFound
    | Recalled
    | FoundTargets
    | Asked
    | Edited
    | Touched
    | ChildEnded
    | Signalled
    | Woken
)


# --- actions ---------------------------------------------------------------------------------------------------------


@frozen
class Load:
    """Read ``conf.d``; answered by ``Loaded``."""


@frozen
class Read:
    """Read these prefixes at one revision, and count the keys below the counted ones; answered by ``Listed``."""

    read: int
    prefixes: tuple[str, ...]
    counted: tuple[str, ...] = ()
    store: str = ""
    """Where the store is mounted; empty: it is the one at ``/``."""


@frozen
class Poll:
    """Ask for the status of these prefixes; answered by ``Polled``."""

    poll: int
    prefixes: tuple[str, ...]
    store: str = ""


@frozen
class Watch:
    """Open a stream; answered by ``Opened``, then ``Changed`` …, in the end ``Lost``."""

    stream: int
    cursors: Mapping[str, int]
    """Prefix to watch → revision after which to begin."""
    identity: str
    store: str = ""


@frozen
class Unwatch:
    """Close a stream; what it still sends is ignored."""

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
    failures: int = 0
    """How many runs of it in a row have failed."""
    by: By = "reload"
    dests: tuple[str, ...] = ()
    """With ``spec.runtime``: the targets of all resources whose running program is that."""

    @property
    def key(self) -> str:
        return self.spec.key


@frozen
class Inspect:
    """Compare these targets with what was delivered; answered by ``Inspected``."""

    targets: tuple[tuple[Resource, DeliveredState], ...]


@frozen
class FindTargets:
    """Look which of these targets are there; answered by ``FoundTargets``."""

    targets: tuple[str, ...]


@frozen
class Sweep:
    """Remove the stage files that processes which have ended left beside these targets; answered by ``Swept``."""

    targets: tuple[str, ...]


@frozen
class Recover:
    """Recover what earlier runs left behind; answered by ``Recovered``."""


@frozen
class ClearPending:
    """Record that the reload of these records is no longer owed."""

    key: str
    records: tuple[int, ...]


@frozen
class Restore:
    """Put the targets back to what they were when this reload last succeeded; answered by ``Restored``."""

    key: str


@frozen
class Reject:
    """Record which content of resources was rejected; None: forget it."""

    rejections: Mapping[str, Rejection | None]


@frozen
class Count:
    """Record how many keys resources had when they were delivered, and from which store."""

    counts: Mapping[str, Counted]
    identity: str
    revision: int
    store: str = ""


@frozen
class Hold:
    """Record that a resource is held back as its keys are suspect, and why; answered by ``Accepted``."""

    resource: str
    reason: str
    """Empty if it is recorded already: only check whether it was accepted."""


@frozen
class Release:
    """Remove the record of a ``Hold``."""

    resource: str


@frozen
class Save:
    """Save the delivered keys, for a start without the store."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...]
    carried: tuple[str, ...] = ()
    """Prefixes whose saved keys stay as they are: their current keys were not delivered, or not yet."""
    at_end: bool = False
    """The process ends next: save them before that."""


@frozen
class Remember:
    """Save the digest of the watched files of delivered targets, by target, for a later start."""

    files: Mapping[str, str]


@frozen
class Follow:
    """Post ``Touched`` at changes of these files, and no longer of those of the previous ``Follow``."""

    files: tuple[str, ...]


@frozen
class Recall:
    """Read the cached keys; answered by ``Recalled``."""


@frozen
class WakeAt:
    """Post ``Woken`` at this monotonic time; a later ``WakeAt`` replaces it."""

    moment: float


@frozen
class Terminate:
    """Ask the commands that run to end (SIGTERM), and start no more."""


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
    | FindTargets
    | Sweep
    | Recover
    | ClearPending
    | Restore
    | Reject
    | Count
    | Own
    | Hold
    | Release
    | WriteHistory
    | FindUndo
    | Answer
    | Save
    | Remember
    | Follow
    | Recall
    | WakeAt
    | LogEvent
    | Terminate
    | Kill
    | StartChild
    | SignalChild
    | Stop
)
