"""Whole lives of confpy: all of it real but clock, store, disk and shell, driven by one seed.

Agent, mirror, deliveries, ledger, repair, rollback and the state folder are those that people run. A life goes through
faults of every kind, and through deaths at any call to the disk; then the faults are over, and everything has to be
right. What must hold at every moment is looked at as it happens.

Jobs run on one stack instead of on threads: where a command takes its time, and now and then between two calls to the
disk, the others go on, on top of it. So batches, reloads, repairs and the owner do interleave, but the one that was
interrupted last goes on first.
"""

from __future__ import annotations

import heapq
import os
import signal
import stat
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from random import Random
from unittest import mock

from confpy.agent.agent import Agent, AgentConfig
from confpy.agent.batches import AT_ONCE
from confpy.agent.reloads import LONGEST, RELOADS_AT_ONCE
from confpy.config.resource import Loaded, Resource
from confpy.delivery import batch as delivery
from confpy.delivery import rollback
from confpy.delivery.batch import Rules
from confpy.errors import StoreError, TargetTorn
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.keys.snapshot import Listing, Snapshot
from confpy.keys.tree import View, covers
from confpy.ledger.cached_keys import HELD, Kept, accept
from confpy.ledger.folder import StateFolder
from confpy.ledger.ledger import Ledger
from confpy.messages import (
    Accepted,
    Action,
    ClearPending,
    Count,
    Deliver,
    Delivered,
    Edited,
    Group,
    Hold,
    Inspect,
    Kill,
    Listed,
    Load,
    Message,
    Read,
    Recall,
    Recover,
    Reject,
    Release,
    Reload,
    Resolve,
    Resolved,
    Restore,
    Save,
    Signalled,
    Stop,
    Sweep,
    Swept,
    Terminate,
    WakeAt,
    Woken,
)
from confpy.mirror.mirror import Mirror
from confpy.reload.run import reload
from confpy.system.filenames import staged_for
from confpy.system.placeholders import Command
from confpy.system.subprocesses import Ran, Shell
from confpy.target import drift
from confpy.target.replace import BACKUP_MARK, OLD_MARK
from confpy.target.sweep import sweep
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered
from confpy.templates.results import World as Facts
from tests.sim.disk import Alone, Died, Kernel, SimDisk
from tests.sim.world import Stream, World

OUT, ELSEWHERE, MOUNTED, STATE = "/out", "/srv", "/mnt", "/state"
FOLDERS = (OUT, ELSEWHERE, MOUNTED, STATE)
KEYS = ("/a/1", "/a/2", "/a/3", "/b/x/1", "/b/x/2", "/b/y", "/c/1")
BACKEND = "sim"
STAYS = "/a/1"
"""A key that is never deleted where the store tells lies: what reads it is empty by a lie alone."""
READS = (("/a",), ("/b",), ("/b/x",), ("/b/x", "/b/y"), ("/c",), ("/a", "/c"))
NEVER = float("inf")
LONG = 700.0
"""Seconds in which all is right once the faults are over: a reload is tried again within 300, a resync reads in full
within 660, and one whose store came back from a backup, and has overtaken itself, shows only then."""
FIT = "check fit"
"""Succeeds where the files in place of all resources that have it were made from one version of the templates."""
LEDGER_END = 2048
"""Bytes of a ledger in which nothing is open, of a process that had nothing to do."""


SHOWN = ("dest", "prefixes", "group", "check_cmd", "reload_cmd", "verify_cmd", "on_reload_failure", "write", "backup")
"""What a life tells of its resources."""


class Wrong(AssertionError):
    """A promise that was broken."""


class Printer:
    """Renders a resource as its template's version and its keys."""

    def render(self, resource: Resource, view: View, world: Facts) -> Rendered:
        asked = Lookup("template", resource.src)
        if asked not in world.facts:
            raise Needs(frozenset((asked,)))
        keys = {raw: value for _, window in view._windows for raw, value in _items(window)}
        return Rendered(text(str(world.facts[asked]), keys), frozenset((asked,)), False, ())


def _items(window) -> Iterator[tuple[str, str]]:
    for path in window.paths("/"):
        yield path, window.get(path)


def text(version: str, keys: Mapping[str, str]) -> bytes:
    lines = "".join(f"{key}={keys[key]}\n" for key in sorted(keys))
    return f"{version}\n{lines}end of {len(keys)}\n".encode()


def values(content: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the keys in a content, each with its store's life and its revision."""
    for line in content.decode().split("\n")[1:-2]:
        key, _, value = line.partition("=")
        life, _, revision = value.partition(":")
        yield key, (int(life), int(revision))


def _at_once(call: Callable[[], object], _: float) -> object:
    return call()


class SimShell(Shell):
    """Commands by their first word: checks read candidates, reloads make programs read their targets."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    def run(self, command: Command, environment: Mapping[str, str], timeout: float) -> Ran:
        assert isinstance(command, str)
        if self._ending is not None:
            return Ran(-signal.SIGTERM, 0.0, stopped=True)
        ran = self._life.run_command(command, environment, timeout)
        return replace(ran, stopped=self._ending is not None)

    def terminate_all(self) -> None:
        """Some commands end at once, as if a signal had done it or with a code of their own; others do not listen."""
        super().terminate_all()
        for running in self._life.running:
            running[1] = self._life.random.choice((self._life.now, min(running[1], self._life.now + 1.0), running[1]))

    def kill_all(self) -> None:
        super().kill_all()
        for running in self._life.running:
            running[1] = self._life.now


class Life(World):
    """One confpy after another on one machine."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        super().__init__(seed)
        self.seed = seed
        self.verbose = verbose
        random = self.random
        self.kernel = Kernel(random, FOLDERS)
        if verbose:
            self.kernel.tell = self._show
        self.seen: Counter[str] = Counter()
        """What happened, and how often."""
        self.digest = 0
        """Of all that happened, in its order: equal for two runs that were the same."""
        self.period = random.choice((60.0, 60.0, 60.0, 60.0, 60.0, 3.0))
        self.slowest = 0.1
        self.stalls = 0.01 if random.random() < 0.5 else 0.0
        self.restores = random.random() < 0.15
        self.lies = not self.restores and random.random() < 0.4
        self.disk_fails = random.random() < 0.35
        self.dies = random.random() < 0.8
        self.sloppy_commands = random.choice((0.0, 0.1, 0.3))
        self.apart = Random(f"{seed} apart")
        """What came later: so that the lives that once showed a bug stay what they were."""
        self.deadly_reloads = 0.6 if self.dies and self.apart.random() < 0.1 else 0.0
        self.saves = random.random() < 0.3
        self.names_deletions = random.random() < 0.8
        self.retries = 0.0
        self.template = 1
        self.wall_offset = 1e9
        self.generation = 0
        self.resources = tuple(self._resource(number) for number in range(random.randint(1, 4)))
        if seed % 5 == 0 and seed >= 1000:  # the others stay the lives that they were
            self.resources = self._with_shared_trials(self.resources)
        self.removed: list[Resource] = []
        self.whole: dict[str, set[bytes | None]] = defaultdict(set)
        """Target → what it may be as a whole."""
        self.checked: set[tuple[str, bytes]] = set()
        self.touched: set[str] = set()
        """Targets that somebody else wrote, removed or linked."""
        self.foreign: set[tuple[str, bytes | None]] = set()
        """Targets as confpy did not make them."""
        self.loaded: dict[str, bytes | None] = {}
        """Target → what its program read last."""
        self.excused: set[str] = set()
        """Targets whose reload may have been lost, and of which confpy said so."""
        self.lasting: dict[str, bytes] = {}
        """Targets that were reported as new, and that no power cut may undo."""
        self.delivering: list[str] = []
        self.reloading: list[str] = []
        self.running: list[list] = []
        """Commands that run: the command and when it ends."""
        self.emptied: set[str] = set()
        """Prefixes that had no key at some time."""
        self.fresh: set[str] = set()
        """Resources whose first count was lost: nobody knows how many keys there were."""
        self.backed_up: set[str] = set()
        """Resources of whose targets an older version is kept."""
        self.counted: set[str] = set()
        """Resources of which the ledger knows that they have keys."""
        self.uncounted: set[str] = set()
        """Those that were delivered, perhaps, and are not noted yet."""
        self.boots = False
        """The power was cut, and no program runs yet."""
        self.unkept = False
        """Some delivery was not in the ledger, and was said not to be."""
        self.lied_at = -NEVER
        self.commits: Counter[str] = Counter()
        self.successes: Counter[str] = Counter()
        self.starts = 0
        self.refused: dict[str, tuple[bytes, float]] = {}
        """Resource of no group → the content that its reload refused, and when it was rolled back."""
        self.tries: dict[str, tuple[int, float]] = {}
        """Reload → how often it ran in vain since something new came, and when last."""
        self.began: dict[str, float] = {}
        self.states: set[frozenset[tuple[str, bytes | None]]] = set()
        """What the members of the group may be together when nothing is under way."""
        self.torn = False
        """Something could be neither committed nor put back, and was said to be so."""
        self.locked_up: set[str] = set()
        """Folders that were read-only at some time: what should have gone then may have stayed."""
        self.unsynced = False
        """A folder could not be synced, and that was said."""
        self.ended: int | None = None
        self._newest: dict[str, tuple[int, int]] = {}
        self._owner = False
        self._depth = 0
        for key in KEYS:
            if key == STAYS or random.random() < 0.7:
                self.server.put(key)
        for one in self.resources:
            self._furnish(one)
        for one in self.resources:
            self.note(one.name, {name: getattr(one, name) for name in SHOWN})
        self._note_states()
        self._look_for_empty()
        self.start()

    # --- the machine -----------------------------------------------------------------------------------------------

    def _resource(self, number: int) -> Resource:
        random = self.random
        name = f"r{number}"
        command = random.choice((None, "reload one", "reload one", "reload two"))
        group = random.choice(("", "", "g"))
        how = random.choice(("", "", "each", "shared", "swap"))
        mounted = random.random() < 0.15
        return Resource(
            name,
            f"/conf.d/{name}.toml",
            random.choice(("t1", "t2")),
            f"{MOUNTED if mounted else OUT}/{name}",
            prefixes=random.choice(READS),
            group=group,
            check_cmd={"": None, "each": "check {{src}}", "shared": "check all CONFPY_SRC_", "swap": "check all"}[how],
            check_mode="swap" if how == "swap" else "staged",
            check_cmd_timeout=10.0,
            reload_cmd=command,
            reload_cmd_timeout=20.0,
            verify_cmd=f"verify {command}" if command and random.random() < 0.2 else None,
            on_reload_failure=random.choice(("retry", "retry", "retry", "rollback", "rollback", "keep")),
            settle=random.choice((0.1, 0.1, 0.0, 1.0)),
            min_reload_interval=random.choice((0.0, 0.0, 5.0)),
            max_shrink=random.choice((None, None, 0.5)),
            write="auto" if mounted else random.choice(("auto", "auto", "auto", "rename", "inplace")),
            backup=random.choice((0, 0, 0, 2)),
        )

    def _with_shared_trials(self, resources: tuple[Resource, ...]) -> tuple[Resource, ...]:
        """Let most resources share a check in place that none of them passes without the others."""
        random = Random(f"{self.seed} shared")
        return tuple(
            replace(one, check_cmd=FIT, check_mode="swap") if random.random() < 0.75 else one for one in resources
        )

    def _furnish(self, resource: Resource) -> None:
        """Make what stands where a resource's target will be: a file, a link, a mount, or nothing."""
        random, kernel, dest = self.random, self.kernel, resource.dest
        if dest.startswith(MOUNTED):
            kernel.write(dest, b"mounted\n")
            kernel.mounts.add(dest)
        elif random.random() < 0.15:
            kernel.link(dest, f"{ELSEWHERE}/{resource.name}")
            kernel.write(dest, b"linked\n")
        elif random.random() < 0.5:
            kernel.write(dest, b"old\n")
        self._note_foreign(dest)
        self.loaded[dest] = kernel.content(dest)

    def _note_foreign(self, dest: str) -> None:
        self.foreign.add((dest, self.kernel.content(dest)))
        self.whole[dest].add(self.kernel.content(dest))

    def path(self, dest: str) -> str:
        return self.kernel.follow(dest)

    # --- a process -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start confpy on what is there."""
        self.generation += 1
        self.starts += 1
        self.ended = None
        self.streams.clear()
        self.delivering.clear()
        self.reloading.clear()
        self.running.clear()
        self.began.clear()
        self._newest.clear()
        self._depth = 0
        self._owner = False
        self._wakes = NEVER
        self.alone = Alone()
        self.disk = SimDisk(self.kernel, self._pause, self._wait)
        random = Random(self.seed * 1000 + self.generation)
        self.mirror = Mirror(random, follows=True, period=self.period)
        config = AgentConfig(
            period=self.period, saves=self.saves, names_deletions=self.names_deletions, backend=BACKEND
        )
        self.agent = Agent(config, self.mirror, Printer(), random, {})
        self.shell = SimShell(self)
        self.ledger = Ledger.open(STATE, self.disk, self.alone, backend=BACKEND)
        self.ledger._wall = self._wall_clock
        self.kept = Kept(StateFolder(STATE, self._say, self.disk), self, self.alone)
        self.note("start")
        if self.ledger.warning is not None:
            self.note("ledger cannot be kept")
            self.unkept = True
        self._owner = True
        for action in self.agent.start():
            self._carry_out(action)
        self._owner = False

    def die(self, how: str) -> None:
        """End the process, and perhaps the machine's power."""
        self.disk.dead = True
        self.kernel.fuse = 0
        self.note(f"died: {how}")
        self.fresh |= self.uncounted
        self.kernel.end_process()
        if STATE in self.kernel.suspect or not self.ledger.folder:
            self._excuse_debts()
        self._look_at_targets("after a death")
        if how != "stopped" and self.random.random() < 0.45:
            self.cut_power()
        self.kernel.suspect = set(self.kernel.read_only) | (set(FOLDERS) if self.kernel.full else set())
        self.now += self.random.choice((0.1, 1.0, 40.0))
        if self.random.random() < 0.1:
            self.note("the wall clock jumps")
            self.wall_offset += self.random.choice((-1e8, -100.0, 100.0))
            self.refused.clear()
            self.tries.clear()

    def _excuse_debts(self) -> None:
        """What is owed now may be lost: the ledger cannot be kept, or not be read."""
        self.unkept = True
        for one in (*self.resources, *self.removed):
            if self.kernel.content(one.dest) != self.loaded.get(one.dest):
                self.excused.add(one.dest)

    def cut_power(self) -> None:
        self.note("power cut")
        self.tries.clear()  # the note of a run is not synced
        before = {dest: self.kernel.content(dest) for dest in self.lasting}
        self.kernel.cut_power()
        for dest, content in self.lasting.items():
            if before[dest] == content != self.kernel.content(dest):
                raise Wrong(f"{dest} was reported as new, and a power cut undid it")
        self._look_at_targets("after a power cut")
        self.boots = True
        if self.random.random() < 0.5:
            self._boot()

    def _boot(self) -> None:
        """Programs are started, with what is there by now: before confpy or after it."""
        self.boots = False
        for one in (*self.resources, *self.removed):
            self.loaded[one.dest] = self.kernel.content(one.dest)
            self.excused.discard(one.dest)

    def _look_at_targets(self, when: str, *, all_: bool = False) -> None:
        """No file that is renamed is ever partial; one that is written in place is whole after the next start."""
        for dest, contents in self.whole.items():
            in_place = self.path(dest) in self.kernel.mounts or any(
                one.write == "inplace" for one in (*self.resources, *self.removed) if one.dest == dest
            )
            if in_place and not all_:
                continue
            content = self.kernel.content(dest)
            if content is not None and content not in contents:
                raise Wrong(f"{dest} is partial {when}: {content!r}")

    def _wall_clock(self) -> float:
        return self.wall_offset + self.now

    time = _wall_clock

    def monotonic(self) -> float:
        return self.now

    # --- time ------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, what: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, (self.generation, what)))

    def run(self, seconds: float) -> None:
        """Let time pass; a process that dies on the way is started again, sooner or later."""
        end = self.now + seconds
        while True:
            try:
                if self.disk.dead:
                    self.start()
                self._until(end)
            except Died:
                how = "stopped" if self.ended is not None else f"before {self.disk.last}"
                self.die(how)
                if not self.calm and self.random.random() < 0.3:
                    self._light_fuse()  # the next start is cut off, too
            else:
                return

    def _until(self, end: float, running: list | None = None) -> None:
        queue = self._queue
        while True:
            arrives = queue[0][0] if queue else NEVER
            moment = min(arrives, self._wakes)
            if moment > (end if running is None else running[1]):
                self.now = max(self.now, end if running is None else running[1])
                return
            self.now = max(self.now, moment)
            if self._wakes <= arrives:
                self.tell(Woken())
                if self._wakes <= self.now:
                    raise Wrong("it would spin")
            else:
                generation, what = heapq.heappop(queue)[2]
                if generation == self.generation:
                    self._arrive(what)

    def _pause(self) -> None:
        """Let others go on in the middle of a job."""
        if self._depth and not self._owner and not self.alone.held and self.random.random() < 0.02:
            self._until(self.now + self.random.choice((0.0, 0.01, 0.3)))

    def _wait(self, seconds: float) -> None:
        if self._depth and not self._owner and not self.alone.held:
            self._until(self.now + seconds)

    def tell(self, message: Message) -> None:
        if self.ended is not None:
            return
        self._wakes = NEVER
        owner, self._owner = self._owner, True
        for action in self.agent.step((message,), self.now, self._wall_clock()):
            self._carry_out(action)
        self._owner = owner

    # --- what confpy wants done ------------------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        soon = self.random.random() * 0.1 + 0.001
        match action:
            case WakeAt():
                self._wakes = action.moment
            case LogEvent():
                self._say(action)
            case Deliver():
                self._look_at_candidates(action)
                self.later(soon, action)
            case Reload():
                self.ledger.runs(action.key, action.failures + 1, action.interval)
                self.later(soon, action)
            case Inspect() | Recover() | Hold() | Recall() | Restore() | Sweep() | Load() | Resolve():
                self.later(soon, action)
            case ClearPending():
                self.ledger.paid(action.key, action.records)
            case Reject():
                self.ledger.rejected(action.rejections)
            case Count():
                self.ledger.counted(action.counts, action.identity, action.revision)
                if not self.ledger._lacks:
                    self._take_counted({name: counted.keys for name, counted in action.counts.items()})
            case Release():
                self.kept.release(action.resource)
            case Save():
                self.kept.save(action.keys, action.prefixes, action.carried)
            case Terminate():
                self.shell.terminate_all()
            case Kill():
                self.shell.kill_all()
            case Stop():
                self.ended = action.code
                self.ledger.close()
                self.disk.dead = True
                raise Died("stop")
            case _:
                super()._carry_out(action)

    def _say(self, say: LogEvent) -> None:
        self.note(f"says {say.event}", say.fields)
        if say.event == "delivery.torn":
            self.torn = True
            known = self.touched or self.disk_fails or self.unkept
            if "is gone" in str(say.fields["error"]) and not known:
                raise Wrong(f"{say.fields['resource']} cannot be mended: its old file is gone")
        if say.event == "state.not_saved" and say.fields["record"] == "ledger":
            self._excuse_debts()
        if say.fields.get("did") == "left it so (on_reload_failure)":
            names = str(say.fields["resource"]).split(", ")
            self.excused.update(one.dest for one in (*self.resources, *self.removed) if one.name in names)

    def _arrive(self, what: object) -> None:
        self._depth += 1
        match what:
            case ("read", Read() as action):
                self._read(action)
            case Deliver():
                self._deliver_batch(what)
            case Reload():
                self._reload(what)
            case Load():
                self.tell(Loaded(self.resources))
            case Resolve():
                self.tell(Resolved(what.resolve, {one: self._template(one.name) for one in what.lookups}))
            case Inspect():
                self.tell(drift.inspect(what.targets, self.disk))
            case Recover():
                recovered = self.ledger.recover()
                self.note("recovered", {"debts": len(recovered.debts)})
                self.torn = self.torn or any(note.event == "delivery.torn" for note in recovered.notes)
                self._look_after_recovery()
                self.tell(recovered)
            case Sweep():
                self.tell(Swept(sweep(what.targets, self.disk)))
            case Hold():
                self.tell(Accepted(what.resource, accepted=self.kept.hold(what.resource, what.reason)))
            case Recall():
                self.tell(self.kept.recall())
            case Restore():
                self._restore(what)
            case _:
                super()._arrive(what)
        self._depth -= 1

    def _template(self, name: str) -> str:
        return f"{name} v{self.template}"

    def _look_at_candidates(self, action: Deliver) -> None:
        commands = self._commands(action)
        if len(self.delivering) >= AT_ONCE or any(one in self.delivering for one in commands):
            raise Wrong(f"two deliveries share {commands}")
        self.delivering += commands
        for group in action.groups:
            for one in group.candidates:
                name, dest, content = one.resource.name, one.resource.dest, one.content
                self.whole[dest].add(content)
                self.lasting.pop(dest, None)
                if one.only_missing:
                    continue
                self._look_at_refused(one.resource, content)
                for key, seen in values(content):
                    if seen < self._newest.get(key, seen) and not self.server.life:
                        raise Wrong(f"{name}: {key} went back from {self._newest[key]} to {seen}")
                    self._newest[key] = max(seen, self._newest.get(key, seen))
                if not one.keys and self.lies and STATE not in self.kernel.suspect:
                    self._look_at_emptied(one.resource, self.kernel.content(dest))
            self._note_state_of(group)

    def _look_at_refused(self, resource: Resource, content: bytes) -> None:
        """What a reload has refused is not tried again at once, also by the next start."""
        refused, at = self.refused.get(resource.name, (None, 0.0))
        in_place = self.kernel.content(resource.dest)
        least = 0.9 * resource.retry_refused
        strange = (
            self.touched or self.unkept or STATE in self.kernel.suspect or (resource.dest, in_place) in self.foreign
        )
        if refused == content != in_place and self.now < at + least and not strange:
            raise Wrong(f"{resource.name} gets what its reload refused {self.now - at:.1f} s ago")
        self.refused.pop(resource.name, None)

    def _look_at_emptied(self, resource: Resource, content: bytes | None) -> None:
        if (
            content is not None
            and content.count(b"=") > 1  # the last one may go by its name, whatever a lie has hidden
            and self.emptied.isdisjoint(resource.prefixes)
            and resource.name not in self.fresh
        ):
            raise Wrong(f"{resource.name} would be emptied by a fault")

    def _commands(self, action: Deliver) -> list[str]:
        found = (one.resource for group in action.groups for one in group.candidates)
        return sorted({str(command) for one in found for command in (one.check_cmd, one.reload_cmd) if command})

    def _deliver_batch(self, action: Deliver) -> None:
        for group in action.groups:
            for one in group.candidates:
                self.lasting.pop(one.resource.dest, None)
                if one.keys and one.resource.name not in self.counted:
                    self.uncounted.add(one.resource.name)
            self._note_state_of(group)  # by now another member may be missing
        rolled_back = self.seen["rolls back"]
        reports = delivery.deliver(action.groups, Rules(), self.disk, self.shell, self.ledger)
        for command in self._commands(action):
            self.delivering.remove(command)
        sent = {one.resource.name: one for group in action.groups for one in group.candidates}
        for report in reports:
            one = sent[report.resource]
            error = f" {type(report.error).__name__}" if report.error else ""
            fields = {"resource": report.resource, "error": str(report.error), "content": one.content}
            self.note(f"delivery {report.outcome}{error}", fields)
            self.torn = self.torn or report.torn
            if report.outcome == "changed":
                self._look_at_commit(one.resource, one.content, report.notes, report.record)
        # A rollback may come in between, and puts back what was equal when the delivery looked.
        alone = rolled_back == self.seen["rolls back"]
        if alone and any(group.name == "g" for group in action.groups) and not any(one.notes for one in reports):
            self._look_at_group("after its delivery")
        self.tell(Delivered(action.batch, reports))

    def _look_at_commit(self, resource: Resource, content: bytes, notes: tuple[str, ...], record: int) -> None:
        if resource.check_cmd is not None and (resource.name, content) not in self.checked:
            raise Wrong(f"{resource.name} was committed unchecked")
        if b"=" in content and resource in self.resources:
            self.fresh.discard(resource.name)
        if record:
            self._take_counted({resource.name: content.count(b"=")})
        if self._has_backup(resource.name):
            self.backed_up.add(resource.name)
        if resource.reload_cmd is not None:
            self.commits[str(resource.reload_cmd)] += 1
            self.tries.pop(str(resource.reload_cmd), None)
        for note in notes:
            self.note(f"notes {note.split(':')[0].split('(')[0]}")
            self.unsynced = self.unsynced or "could not be synced" in note
            self.unkept = self.unkept or note.startswith("the ledger cannot be written")
        if self.kernel.content(resource.dest) == content and not any("could not be synced" in note for note in notes):
            self.lasting[resource.dest] = content

    def _has_backup(self, name: str) -> bool:
        versions = {f".{name}{BACKUP_MARK}{number}" for number in (1, 2)}  # a death may come between two renames
        return any(not versions.isdisjoint(folder.names) for folder in self.kernel.folders.values())

    def _take_counted(self, counts: Mapping[str, int]) -> None:
        """Note what the ledger says by now. A count of 0 says as little as none: what follows it may be lost, too."""
        self.counted.difference_update(counts)
        self.counted.update(name for name, keys in counts.items() if keys)
        self.uncounted -= self.counted

    def _restore(self, action: Restore) -> None:
        for one in (*self.resources, *self.removed):
            self.lasting.pop(one.dest, None)
        self.note("rolls back")
        self.tries.clear()  # also programs of other members are told
        contents = {one.name: self.kernel.content(one.dest) for one in self.resources}
        restored = rollback.restore(action.key, self.ledger, self.disk)
        for one in self.resources:
            if one.name in restored.refused and not one.group and (refused := contents[one.name]) is not None:
                self.refused[one.name] = (refused, self.now)
        for report in restored.reports:
            self.note(f"restored {report.outcome}")
            self.torn = self.torn or isinstance(report.error, TargetTorn)
        self.tell(restored)

    # --- commands --------------------------------------------------------------------------------------------------

    def run_command(self, command: str, environment: Mapping[str, str], timeout: float) -> Ran:
        random = self.random
        took = random.choice((0.01, 0.01, 0.1, 0.5, 3.0))
        fails = not self.calm and random.random() < self.sloppy_commands
        hangs = fails and random.random() < 0.3
        word = command.partition(" ")[0]
        late = word == "reload" and random.random() < 0.5
        seen = self._inputs(word, command, environment)
        refuses = command == FIT and not self._fit(seen)
        if word == "reload" and not self.calm and self.deadly_reloads and self.apart.random() < self.deadly_reloads:
            self.note("reload takes confpy down")
            raise Died
        running = [command, self.now + (timeout if hangs else took)]
        until = running[1]
        self.running.append(running)
        began = self.now
        self._until(0.0, running)
        self.running.remove(running)
        if late:
            seen = self._inputs(word, command, environment)
        killed = running[1] < until
        self.note(f"{word} {'is killed' if killed else 'hangs' if hangs else 'fails' if fails else 'succeeds'}")
        if killed or hangs:
            return Ran(-signal.SIGKILL, self.now - began, timed_out=hangs and not killed)
        if fails:
            return Ran(1, took)
        if refuses:
            self.note("check refuses what does not fit")
            return Ran(1, took)
        if word == "check":
            self.checked |= {(name, content) for name, content in seen.items() if content is not None}
        elif word == "reload":
            by_name = {one.name: one for one in (*self.removed, *self.resources)}
            for name, content in seen.items():
                self.loaded[by_name[name].dest] = content
                self.excused.discard(by_name[name].dest)
        return Ran(0, took)

    def _fit(self, seen: Mapping[str, bytes | None]) -> bool:
        found = [seen[one.name] for one in self.resources if one.check_cmd == FIT]
        versions = {content and content.split(b"\n")[0].split()[-1] for content in found}
        self.note(f"check sees {len(found)} that have to fit")
        return len(versions) == 1 and None not in versions

    def _inputs(self, word: str, command: str, environment: Mapping[str, str]) -> dict[str, bytes | None]:
        """Return what a command reads: resource → content."""
        if command == FIT:
            having = [one for one in (*self.resources, *self.removed) if one.check_cmd == FIT]
            return {one.name: self.kernel.content(one.dest) for one in having}
        if word == "check" and command == "check all":
            return {one.name: self.kernel.content(one.dest) for one in (*self.resources, *self.removed)}
        if word == "check" and command.startswith("check all"):
            named = {name: environment.get(f"CONFPY_SRC_{name.upper()}") for name in ("r0", "r1", "r2", "r3")}
            return {name: self.kernel.content(path) for name, path in named.items() if path}
        if word == "check":
            return {environment["CONFPY_RESOURCE"]: self.kernel.content(command.split()[1].strip("'"))}
        if word == "reload":
            readers = [one for one in (*self.resources, *self.removed) if one.reload_cmd == command]
            seen = {one.name: self.kernel.content(one.dest) for one in readers}
            for one in readers:
                self._look_at_what_is_read(one, seen[one.name])
            return seen
        return {}

    def _look_at_what_is_read(self, resource: Resource, content: bytes | None) -> None:
        if (
            not (self.torn or self.unkept)
            and resource.check_cmd is not None
            and content is not None
            and (resource.name, content) not in self.checked
            and (resource.dest, content) not in self.foreign
        ):
            raise Wrong(f"{resource.name} is read by its program, and was never checked")

    def _reload(self, action: Reload) -> None:
        key = str(action.command)
        if key in self.reloading:
            raise Wrong(f"{key} runs twice at once")
        if len(self.reloading) >= RELOADS_AT_ONCE:
            raise Wrong("too many reloads at once")
        self._look_at_wait(key)
        self.reloading.append(key)
        answer = reload(action, self.shell, _at_once)
        self.reloading.remove(key)
        self.successes[key] += answer.error is None
        if answer.error is None:
            self.tries.pop(key, None)
        self.tell(answer)

    def _look_at_wait(self, key: str) -> None:
        """A reload that failed, or took confpy down with it, is tried ever more rarely, also by the next start."""
        times, last = self.tries.get(key, (0, -NEVER))
        least = 0.1 * min(LONGEST, 2.0 ** (times - 1)) if times else 0.0
        if self.now - last < least - 0.2 and not (self.unkept or STATE in self.kernel.suspect):
            raise Wrong(f"{key} ran {times} times in vain, and is tried again after {self.now - last:.1f} s")
        self.tries[key] = (times + 1, self.now)

    # --- the store -------------------------------------------------------------------------------------------------

    def _read(self, action: Read) -> None:
        if self._fails(0.1):
            self.note("store fails a read")
            self.later(0.1, Listed(action.read, None, StoreError("the read failed")))
            return
        snapshot = self.server.snapshot(action)
        if self.lies and self._fails(0.15) and self.now > self.lied_at + 200:
            self.lied_at = self.now
            snapshot = self._lie(snapshot)
        self.later(self.random.random() * 0.5, Listed(action.read, snapshot))
        if self.streams and self._fails(0.3):  # what the answer does not have yet overtakes it
            self.note("put during a read")
            self.server.put(self.random.choice(KEYS))
            self.stir()

    def _lie(self, snapshot: Snapshot) -> Snapshot:
        """Answer without keys that are there."""
        empty = self.random.random() < 0.6
        self.note("store answers empty" if empty else "store answers in part")
        listings = {}
        for prefix, listing in snapshot.listings.items():
            keys = {} if empty else {key: it for key, it in listing.keys.items() if self.random.random() < 0.5}
            listings[prefix] = Listing(listing.revision, keys, listing.error)
        return Snapshot(listings, snapshot.identity, snapshot.counts)

    def _again(self, stream: Stream) -> None:
        """A stream that has delivered all waits until there is more: most of a life is quiet."""
        if stream.life != self.server.life or self._behind(stream):
            super()._again(stream)
        else:
            stream.idle = True

    def _behind(self, stream: Stream) -> bool:
        if stream.stalled:
            return False
        least = min(stream.places.values(), default=0)
        drops = self.server.drops
        for revision, key, _ in reversed(self.server.history):
            if revision <= least:
                break
            for prefix, place in stream.places.items():
                if revision > place and (covers(prefix, key) or (revision in drops and covers(key, prefix))):
                    return True
        return any(self.server.refusal(prefix) for prefix in stream.places) if self.server.denied else False

    def stir(self) -> None:
        """Something changed in the store: streams go on."""
        for number, stream in self.streams.items():
            if stream.idle:
                stream.idle = False
                self.later(self.random.random() * 0.05, ("stream", number))
        self._look_for_empty()

    def _look_for_empty(self) -> None:
        for prefixes in READS:
            for prefix in prefixes:
                if not any(covers(prefix, key) for key in self.server.keys):
                    self.emptied.add(prefix)

    # --- what happens ----------------------------------------------------------------------------------------------

    def disturb(self) -> None:
        """Let one thing happen."""
        random = self.random
        dice = random.random() * 100
        if dice < 50:
            self._disturb_store(dice)
        elif dice < 60:
            self._edit_target()
        elif dice < 66:
            self._edit_configuration()
        elif dice < 76:
            if self.disk_fails:
                self._disturb_disk()
        elif dice < 90:
            if self.dies:
                self._light_fuse()
        elif dice < 94:
            if self.dies:
                self.disk.dead = True
                self.die("between two steps")
        elif dice < 96:
            self.note("SIGTERM")
            self._signal(signal.SIGTERM)
        elif dice < 97:
            self.note("SIGHUP")
            self.refused.clear()
            self.tries.clear()
            self._signal(signal.SIGHUP)

    def _signal(self, number: int) -> None:
        if not self.disk.dead:
            try:
                self.tell(Signalled(number))
            except Died:
                self.die("stopped")

    def _light_fuse(self) -> None:
        self.note("fuse")
        self.kernel.fuse = self.random.randint(1, 30)

    def _disturb_store(self, dice: float) -> None:
        random, server = self.random, self.server
        key = random.choice(KEYS)
        if dice < 34:
            server.put(key)
            self.note("put")
        elif dice < 41:
            if not (self.lies and key == STAYS):
                server.delete(key)
                self.note("delete")
        elif dice < 43:
            folder = random.choice(("/b", "/b/x", "/c") if self.lies else ("/a", "/b", "/b/x", "/c"))
            server.drop(folder)
            self.note("drop")
        elif dice < 44:
            server.compacted = random.randint(server.compacted, server.revision)
            self.note("compact")
        elif dice < 45:
            if self.stalls:
                self.streams.clear()
                self.note("streams vanish")
        elif dice < 46.5:
            if random.random() < 0.7:
                for _ in range(4):
                    server.put(random.choice(KEYS))
                self.stir()
                self.run(random.choice((0.01, 0.03, 0.06)))
            for number in list(self.streams):
                self.streams[number].life = -1
            self.note("streams break")
        elif dice < 48:
            server.denied ^= {random.choice(("/a", "/b/x", "/c"))}
            self.note("rights change")
        elif self.restores:
            server.restore(random, other_identity=random.random() < 0.5)
            self._newest.clear()
            self.note("store comes back from a backup")
        self.stir()

    def _edit_target(self) -> None:
        """Somebody else writes, removes or links a target."""
        random, kernel = self.random, self.kernel
        one = random.choice((*self.resources, *self.removed))
        mounted = one.dest in kernel.mounts
        self.lasting.pop(one.dest, None)
        self.touched.add(one.dest)
        match random.randint(0, 4):
            case 0 if not mounted:
                kernel.remove(one.dest)
                self.note("target removed")
            case 1 if not mounted:
                kernel.remove(one.dest)
                kernel.link(one.dest, f"{ELSEWHERE}/{one.name}")
                self.excused.add(one.dest)  # it may lead to what confpy wants there: nothing is changed then
                self.note("target linked")
            case _:
                kernel.write(one.dest, b"by hand %d\n" % kernel.tick())
                self.note("target written by hand")
        self._note_foreign(one.dest)
        self._note_states()

    def _edit_configuration(self) -> None:
        random = self.random
        match random.randint(0, 3):
            case 0:
                self.template += 1
                self.note("template edited")
            case 1 if len(self.resources) > 1:
                gone = random.choice(self.resources)
                self.removed.append(gone)
                self.resources = tuple(one for one in self.resources if one is not gone)
                self.note("resource removed")
            case 2 if self.removed:
                self.resources += (self.removed.pop(),)
                self.note("resource added")
            case _:
                was = random.choice(self.resources)
                changed = replace(
                    was,
                    prefixes=random.choice(READS),
                    settle=random.choice((0.0, 0.1, 1.0)),
                    on_reload_failure=random.choice(("retry", "rollback", "keep")),
                    backup=random.choice((0, 2)),
                )
                self.resources = tuple(changed if one is was else one for one in self.resources)
                self.note("resource edited")
        self._note_states()
        if not self.disk.dead:
            self.later(0.01, Edited())

    def _disturb_disk(self) -> None:
        random, kernel = self.random, self.kernel
        match random.randint(0, 3):
            case 0:
                kernel.full = not kernel.full
                self.note("disk full" if kernel.full else "room again")
                kernel.suspect |= set(FOLDERS)
            case 1:
                folder = random.choice((OUT, ELSEWHERE, MOUNTED, MOUNTED, STATE))
                kernel.read_only ^= {folder}
                self.locked_up.add(folder)
                kernel.suspect.add(folder)
                self.note(f"{folder} {'read-only' if folder in kernel.read_only else 'writable again'}")
            case _:
                kernel.failing = random.choice((0.0, 0.05))
                self.note("syncs fail" if kernel.failing else "syncs succeed")

    # --- groups ----------------------------------------------------------------------------------------------------

    def _state(self) -> frozenset[tuple[str, bytes | None]]:
        return frozenset((one.dest, self.kernel.content(one.dest)) for one in self.resources if one.group)

    def _note_states(self) -> None:
        """What somebody else made of a group's targets is one of the states that it may be in."""
        self.states.add(self._state())

    def _note_state_of(self, group: Group) -> None:
        """A group becomes what is delivered; from the keys of before only those that are missing are made."""
        if group.name == "g":
            pairs = [(one, self.kernel.content(one.resource.dest)) for one in group.candidates]
            self.states.add(
                frozenset(
                    (one.resource.dest, was if one.only_missing and was is not None else one.content)
                    for one, was in pairs
                )
            )

    def _look_at_group(self, when: str) -> None:
        """A group goes as a whole, with those that are members by then."""
        if not (self.torn or self.unkept or self.unsynced):
            state = self._state()
            if not state.isdisjoint(self.foreign):  # what somebody else made of a member is left alone
                return
            if not any(state <= one or one <= state for one in self.states):
                raise Wrong(f"the group is half new {when}: {sorted(state)}")

    def _look_after_recovery(self) -> None:
        if self.boots:
            self._boot()
        if not (self.unkept or STATE in self.kernel.suspect or self.torn):
            self._look_at_targets("after a start", all_=True)
            self._look_at_group("after a start")

    # --- the end ---------------------------------------------------------------------------------------------------

    def note(self, what: str, fields: Mapping[str, object] | None = None) -> None:
        self.seen[what] += 1
        self.digest = zlib.crc32(f"{self.now:.6f} {what}".encode(), self.digest)
        if self.verbose:
            self._show(f"{what} {dict(fields) if fields else ''}")

    def _show(self, line: str) -> None:
        print(f"{self.now:10.3f} {line}")  # noqa: T201

    def expected(self) -> dict[str, bytes]:
        found = {}
        for one in self.resources:
            keys = {
                key: value
                for key, (_, value) in self.server.keys.items()
                if any(covers(prefix, key) for prefix in one.prefixes)
            }
            found[one.dest] = text(self._template(one.src), keys)
        return found

    def amiss(self) -> str:
        """Say what is not as it should be by now, empty where all is."""
        if not self.agent._loaded:
            return "it has only begun"
        for dest, content in self.expected().items():
            if self.kernel.content(dest) != content:
                return f"{dest} is {self.kernel.content(dest)!r} instead of {content!r}"
        for one in self.resources:
            if one.reload_cmd is None or one.dest in self.excused or self.torn:
                continue
            if self.loaded.get(one.dest) != self.kernel.content(one.dest):
                return f"the program of {one.dest} has read {self.loaded.get(one.dest)!r} last"
        if torn := [name for name, track in self.agent._tracks.items() if track.torn]:
            return f"{torn} are still to be checked"
        if self.agent._debts:
            return f"reloads are owed: {self.agent._debts.owed()}"
        held = [one for one in self.ledger._book.records.values() if one.done or not self.torn]
        if held:  # one that is torn for good stays open until its target is taken up again
            return f"the ledger still holds {held}"
        return ""

    def finish(self) -> None:
        """Let the faults be over; raises ``Wrong`` where all is not right then, and stays so."""
        self.calm = True
        kernel = self.kernel
        kernel.full, kernel.failing, kernel.fuse = False, 0.0, 0
        kernel.read_only.clear()
        self.server.denied.clear()
        self.stir()
        self.note("the faults are over")
        began = self.now
        end = self.now + LONG * (2 if self.restores else 1)
        while self.now < end:
            self.run(5.0 if self.now < began + 60 else 60.0)
            if self.agent._rejections:
                self.note("a person mends a program, and says so")
                self.refused.clear()
                self.tries.clear()
                self._signal(signal.SIGHUP)
            if self.now > began + 100:  # by now no lie is told, and none is believed
                self._accept()
            if not self.amiss() and (not self.lies or self.now > began + 100):
                break
        if wrong := self.amiss():
            raise Wrong(wrong)
        reloads, commits = self.successes.total(), self.commits.total()
        self.run(self.period * 1.2 + 5.0)
        if wrong := self.amiss():
            raise Wrong(f"later: {wrong}")
        if (reloads, commits) != (self.successes.total(), self.commits.total()):
            raise Wrong("it delivers or reloads though nothing changes")
        if not (self.stalls or self.lies or self.restores) and self.seen["says watch.missed"]:
            raise Wrong("a stream lost changes")
        for key, count in self.successes.items():
            if count > self.commits[key] + self.starts + self.seen["rolls back"] * 2:
                raise Wrong(f"{key} ran {count} times for {self.commits[key]} commits and {self.starts} starts")
        # What was paid could not be noted: it is paid twice.
        unsure = self.unkept or self.torn or STATE in self.kernel.suspect
        self._stop()
        self._start_again(unsure=unsure)
        self._look_at_what_is_left(unsure=unsure)

    def _accept(self) -> None:
        """Somebody looks at what is held back, and accepts it."""
        folder = StateFolder(STATE, self._say, SimDisk(self.kernel))
        for one in folder.names(HELD):
            record = folder.read(one)
            if record is not None and not record["accepted"]:
                self.note("a person accepts")
                accept(folder, str(record["resource"]))

    def _stop(self) -> None:
        """Stop as a service is stopped."""
        try:
            self.tell(Signalled(signal.SIGTERM))
            self._until(self.now + 10)
        except Died:
            pass
        if self.ended not in {0, 128 + signal.SIGTERM}:
            raise Wrong(f"it ended with {self.ended}")
        self.die("stopped")

    def _start_again(self, *, unsure: bool) -> None:
        """Start where all is right: nothing is delivered, nothing is reloaded."""
        before = self.successes.total(), self.commits.total()
        self.run(10.0)
        if unsure and self.amiss():  # a ledger that could not be read then is read now, and speaks of long ago
            self._accept()
            self.run(100.0)
        if wrong := self.amiss():
            raise Wrong(f"after another start: {wrong}")
        if before != (self.successes.total(), self.commits.total()) and not unsure:
            raise Wrong("a start delivers or reloads though nothing has changed")
        self._stop()

    def _look_at_what_is_left(self, *, unsure: bool) -> None:
        names = {f"{folder}/{name}" for folder in FOLDERS for name in self.kernel.folders[folder].names}
        # What was removed is swept no more; what is torn for good keeps the old files.
        gone = {one.name for one in (*self.removed, *(self.resources if self.torn else ()))}
        for path in sorted(names):
            folder, _, name = path.rpartition("/")
            staged = staged_for(name.removesuffix(OLD_MARK))
            old = name.endswith(OLD_MARK)
            if folder == ELSEWHERE and (self.seen["target removed"] or self.seen["target linked"]):
                continue  # no link leads there any more, or did not when it was swept
            # A power cut may bring back what was removed from a folder that could not be synced.
            stays = self.unkept or folder in self.locked_up or self.seen["syncs fail"]
            if staged is not None and staged not in gone and not (old and stays):
                raise Wrong(f"{path} was left behind")
        lost = [name for name in sorted(self.backed_up) if not self._has_backup(name)]
        if lost and not self.unsynced:
            raise Wrong(f"no older version of {lost} is left")
        ledgers = [path for path in names if path.startswith(f"{STATE}/ledger-")]
        size = sum(len(self.kernel.content(path) or b"") for path in ledgers)
        if len(ledgers) > 1 or (size > LEDGER_END and not unsure):
            raise Wrong(f"{len(ledgers)} ledgers of {size} bytes are left")
        for one in (*self.resources, *self.removed):
            inode = self.kernel.find(self.path(one.dest))
            if inode is not None and not stat.S_ISREG(inode.mode):
                raise Wrong(f"{one.dest} is no file any more")


def live(seed: int, *, verbose: bool = False) -> Life:
    """Live one life to its end; raises ``Wrong`` for a promise that was broken."""
    tokens = Random(seed)
    with mock.patch.object(os, "urandom", tokens.randbytes):
        life = Life(seed, verbose=verbose)
        for _ in range(life.random.randint(4, 16)):
            life.disturb()
            life.run(life.random.choice((0.0, 0.02, 0.2, 0.5, 2.0, 20.0)))
        life.finish()
        life.seen.update(life.kernel.faults)
    return life
