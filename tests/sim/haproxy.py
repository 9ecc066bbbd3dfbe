"""A HAProxy on the simulated machine: its workers, their servers, and its admin socket.

The real client talks to it. It refuses, answers in part or not as is known, hangs, dies in the middle of a plan, is
reloaded and changed by others; a worker that starts reads the files some time before it takes the socket over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confpy.haproxy.values import Command
from confpy.reload.runtime_target import RuntimeTarget
from tests.sim.kernel import Died
from tests.sim.timeline import Wrong

if TYPE_CHECKING:
    from confpy.config.resource import Resource
    from tests.sim.simulation import Simulation

SOCKET = RuntimeTarget(("unix:/run/haproxy.sock",))
RELOAD = "reload one"
"""The command that reloads it."""
ESTIMATED = 0.2
"""Seconds within which it cannot be told from outside which of two workers was started first, or after a command."""
MAINTENANCE, DISABLED, DRAIN = 1, 4, 8
COLUMNS = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    " srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state"
    " bk_f_forced_id srv_f_forced_id srv_fqdn srv_port"
)


def configuration(resource: Resource, version: str, keys: Mapping[str, str]) -> bytes:
    """Return a file of its configuration: a server for each key. Some changes of a key take a reload."""
    lines = [f"# {version}", "global", f"    maxconn {1000 + max(map(revision, keys.values()), default=0) // 16}"]
    lines += ["defaults", "    mode http", f"backend {resource.name}", "    balance roundrobin"]
    for key in sorted(keys):
        number = revision(keys[key])
        words = ["server", key.strip("/").replace("/", "_"), f"10.0.{number >> 8}.{number & 255}:8000"]
        words += ["weight", str(1 + number % 3)] if number % 2 else []
        words += ["disabled"] if number % 7 == 0 else []
        words += ["check"] if number % 23 == 0 else []
        lines.append(f"    {' '.join(words)} # {key}={keys[key]}")
    return "\n".join([*lines, f"# end of {len(keys)}", ""]).encode()


def revision(value: str) -> int:
    """Return what a value of the simulated store ends with."""
    return int(value.rpartition(":")[2])


def foreign(text: str) -> bytes:
    """Return a file that somebody else wrote, and that it starts with."""
    return f"global\n    description {text}\n".encode()


@dataclass
class Server:
    """A server of a worker."""

    address: str
    port: int
    weight: int
    admin: int
    check: int = 0
    initial: int = 1
    is_by_hand: bool = False
    """Its administrative state is what a person wanted."""
    busy_until: float = 0.0

    def shown(self) -> tuple[object, ...]:
        """Return what has to be as the file says."""
        return self.address, self.port, self.weight, bool(self.admin & MAINTENANCE), bool(self.check & 4)


@dataclass
class Parsed:
    """What a file says."""

    fixed: tuple[str, ...]
    """What only a start reads."""
    servers: dict[str, Server]
    backend: str = ""


def parse(content: bytes) -> Parsed:
    """Read a file as HAProxy does."""
    fixed: list[str] = []
    servers: dict[str, Server] = {}
    backend = ""
    for line in content.decode().split("\n"):
        words = line.partition("#")[0].split()
        if words[:1] != ["server"] or len(words) < 3:  # one that was written in part is read as it is
            fixed += [" ".join(words)] if words else []
            backend = words[1] if len(words) > 1 and words[0] == "backend" else backend
            continue
        address, _, port = words[2].partition(":")
        if not port.isdecimal() or words[-1] == "weight":
            fixed.append(" ".join(words))
            continue
        weight = int(words[words.index("weight") + 1]) if "weight" in words else 1
        admin = MAINTENANCE | DISABLED if "disabled" in words else 0
        servers[words[1]] = Server(address, int(port), weight, admin, 6 if "check" in words else 0, weight)
    return Parsed(tuple(fixed), servers, backend)


@dataclass
class Worker:
    """A process that serves with what it read when it was started."""

    pid: int
    started: float
    files: dict[str, Parsed] = field(default_factory=dict)
    backends: dict[str, dict[str, Server]] = field(default_factory=dict)


class Haproxy:
    """All workers; one of them, at most, answers on the socket."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._kernel = simulation.machine.kernel
        self._timeline = simulation.machine.timeline
        self._random = simulation.plan.later
        self.worker: Worker | None = None
        self.is_excused = False
        """Somebody else has reloaded it: whatever it had read by then shows at the next look."""
        self.is_new = False
        """It was started, and not by confpy: confpy has not looked at it since."""
        self.began = 0.0
        """When confpy's last reload began."""
        self.is_blind = False
        """It was an owed one that began before confpy knew that there is a HAProxy to wait for."""
        self._pids = 100
        self._coming: list[tuple[float, Worker]] = []
        """Workers that have read the files, and take the socket over at their time."""

    # --- its life ----------------------------------------------------------------------------------------------------

    def readers(self) -> list[Resource]:
        """Return the resources whose targets are its configuration."""
        from tests.sim.plan import reload_line

        return [one for one in self._simulation.invariants.resources if reload_line(one) == RELOAD]

    def boot(self) -> None:
        """Start with the files that are there."""
        self._coming.clear()
        self.worker = self._start()
        self.is_excused = False

    def cut_power(self) -> None:
        """Be no more, until the machine has booted."""
        self.worker = None
        self._coming.clear()

    def end_look(self) -> None:
        """Take it that confpy has compared it with its files: what somebody else did has shown."""
        self.take_over()
        if not self._coming:
            self.is_excused = self.is_new = False

    def _start(self) -> Worker:
        self._pids += 1
        worker = Worker(self._pids, self._simulation.now)
        contents = {one.dest: self._kernel.content(one.dest) for one in self.readers()}
        for dest, content in contents.items():
            worker.files[dest] = parse(content) if content is not None else Parsed(("is missing",), {})
            if worker.files[dest].backend:
                worker.backends[worker.files[dest].backend] = worker.files[dest].servers
        for servers in worker.backends.values():
            for one in servers.values():
                self._occupy(one)
        self._simulation.invariants.note_read(
            {one.name: contents[one.dest] for one in self.readers() if one.reload_haproxy is None and one.item is None}
        )
        return worker

    def _occupy(self, server: Server) -> None:
        server.busy_until = self._simulation.now + (self._random.choice((1.0, 90.0)) if self._chance(0.2) else 0.0)

    def _chance(self, chance: float) -> bool:
        return not self._simulation.random.calm and self._random.random() < chance

    def reload(self) -> None:
        """Start a worker that reads the files now, and takes over soon."""
        others = [one for one in (self.worker, *(one for _, one in self._coming)) if one is not None]
        if self.worker is None or self.is_blind or any(abs(one.started - self.began) < ESTIMATED for one in others):
            self.is_excused = True  # another one is being started just now: which of the two serves shows later
        soon = self._random.choice((0.0, 0.0, 0.05, 0.5, 3.0)) if not self._simulation.random.calm else 0.02
        self._coming.append((self._simulation.now + soon, self._start()))
        self.take_over()

    def take_over(self) -> None:
        """Let those serve whose time has come, the last that was started in the end."""
        due = [worker for moment, worker in self._coming if moment <= self._simulation.now]
        self._coming = [one for one in self._coming if one[0] > self._simulation.now]
        if due:
            newest = max(due, key=lambda worker: worker.pid)
            if self.worker is None or newest.pid > self.worker.pid:
                self.worker = newest
                self._coming = [one for one in self._coming if one[1].pid > newest.pid]

    def crash(self) -> None:
        """End; whoever watches over it starts it again."""
        self._simulation.note("haproxy dies")
        self.is_new = True
        self.worker = None
        self._coming.clear()
        self._coming.append((self._simulation.now + self._random.choice((0.0, 0.3, 2.0)), self._start()))

    def disturb(self) -> None:
        """Do to it what other people and programs do."""
        self.take_over()
        match self._random.randint(0, 3):
            case 0:
                self.crash()
            case 1:
                self._simulation.note("haproxy is reloaded by somebody")
                self.is_excused = self.is_new = True
                self.reload()
            case _:
                self._set_by_hand()

    def _set_by_hand(self) -> None:
        servers = [one for some in (self.worker.backends if self.worker else {}).values() for one in some.values()]
        if servers:
            one = self._random.choice(servers)
            one.admin = self._random.choice((0, MAINTENANCE, DRAIN)) | (one.admin & DISABLED)
            one.is_by_hand = True
            self._simulation.note("server set by hand")

    # --- what it should be -------------------------------------------------------------------------------------------

    def wrong(self, resources: Collection[Resource]) -> Iterator[str]:
        """Yield in what the worker that serves is not as the targets of these say."""
        self.take_over()
        worker = max((one for _, one in self._coming), key=lambda one: one.pid, default=self.worker)
        if worker is None:
            return  # it reads them when it is started
        for one in resources:
            content = self._kernel.content(one.dest)
            if content is None or one.reload_haproxy is None:
                continue
            wanted, has = parse(content), worker.files.get(one.dest)
            if has is None or has.fixed != wanted.fixed:
                yield f"{one.dest}: it has read another"
                continue
            running = worker.backends.get(wanted.backend, {})
            for name in dict.fromkeys((*wanted.servers, *running)):
                if why := _differs(wanted.servers.get(name), running.get(name)):
                    yield f"{wanted.backend}/{name} {why}"

    # --- its socket --------------------------------------------------------------------------------------------------

    def exchange(
        self, socket: str, commands: Sequence[Command], seconds: float, users: Collection[int] | None = None
    ) -> list[str]:
        """As in ``Talks``; raises ``Died``, too."""
        if (socket,) != SOCKET.sockets:
            raise Wrong(f"{socket} is not its socket")
        assert users is None, "nothing here is secret"
        sloppy = self._simulation.plan.sloppy_haproxy
        self.take_over()
        if self.worker is None or self._chance(sloppy):
            raise self._fault(ConnectionRefusedError)
        worker = self.worker  # a connection stays with the worker that accepted it
        answers = []
        for one in commands:
            self._pass(self._random.choice((0.0, 0.0, 0.0, 0.001, 0.05)))
            if self._chance(sloppy / 4):
                self._disturb_within()
            if self.worker is None:
                raise self._fault(ConnectionResetError)
            if self._chance(sloppy / 4):
                raise self._cut(seconds)
            if self._chance(sloppy / 8):
                self._simulation.note("haproxy answers something unknown")
                answers.append("Something is not as it was.")
                continue
            if one.accepts and sloppy and self._chance(0.2):
                self._simulation.note("haproxy says that it has done what it has not")
                answers.append(one.accepts[0])
                continue
            answers.append(self._answer(worker, one.text))
        return answers

    def _fault(self, kind: type[OSError]) -> OSError:
        self._simulation.note(f"haproxy: {kind.__name__}")
        return kind()

    def _disturb_within(self) -> None:
        self._simulation.note("haproxy is disturbed within an exchange")
        self.disturb()

    def _cut(self, seconds: float) -> OSError:
        if self._random.random() < 0.5:
            return self._fault(BrokenPipeError)
        self._pass(seconds)
        return self._fault(TimeoutError)

    def _pass(self, seconds: float) -> None:
        """Let others go on; confpy may die meanwhile, as at a call to the disk."""
        kernel, disk = self._kernel, self._simulation.process.disk
        if disk.dead:
            raise Died
        if kernel.fuse:
            kernel.fuse -= 1
            if not kernel.fuse:
                disk.dead, disk.last = True, "a command to haproxy"
                kernel.faults["died before a command to haproxy"] += 1
                raise Died
        if seconds:
            self._simulation.wait(seconds)
            if disk.dead:
                raise Died

    def _answer(self, worker: Worker, text: str) -> str:
        match text.split(" "):
            case ["show", "info", "float"]:
                version = ".".join(map(str, self._simulation.plan.haproxy_version))
                uptime = self._simulation.now - worker.started
                return f"Name: HAProxy\nVersion: {version}.1\nPid: {worker.pid}\nUptime_sec: {uptime:.6f}"
            case ["show", "cli", "level"]:
                return "operator" if self._chance(self._simulation.plan.sloppy_haproxy / 4) else "admin"
            case ["add", "server", "help"]:
                return "Unknown command: 'add server help'"
            case ["show", "servers", "state", name]:
                return self._show(worker, name)
            case ["show", "env", "HAPROXY_CFGFILES"]:
                return f"HAPROXY_CFGFILES={';'.join(worker.files)}"
            case ["wait", _]:
                return "Done."
            case words:
                return self._change(worker, words)

    @staticmethod
    def _show(worker: Worker, name: str) -> str:
        if name not in worker.backends:
            return "Can't find backend."
        lines = ["1", f"# {COLUMNS}"]
        for number, (server, one) in enumerate(worker.backends.get(name, {}).items(), 1):
            state = 0 if one.admin & MAINTENANCE else 2
            lines.append(
                f"3 {name} {number} {server} {one.address} {state} {one.admin} {one.weight} {one.initial} 9 1 0 2"
                f" {one.check} 0 0 0 - {one.port}"
            )
        return "\n".join([*lines, ""])

    def _change(self, worker: Worker, words: list[str]) -> str:
        path = next((word for word in words if "/" in word), "/")
        backend, _, name = path.partition("/")
        servers = worker.backends.get(backend)
        if servers is None:
            return "No such backend."
        if words[:2] == ["add", "server"]:
            return self._add(servers, name, words[3:])
        if (one := servers.get(name)) is None:
            return "No such server."
        match words:
            case ["del", "server", _]:
                return self._delete(servers, name, one)
            case ["set", "server", _, "state", state]:
                one.admin &= ~(MAINTENANCE | DRAIN)
                one.admin |= {"maint": MAINTENANCE, "drain": DRAIN, "ready": 0}[state]
                one.is_by_hand = False
                return ""
            case ["set", "server", _, "weight", weight]:
                one.weight = int(weight)
                return ""
            case ["set", "server", _, "addr", address, *port]:
                one.address, one.port = address, int(port[1]) if port else one.port
                return f"IP changed from '' to '{address}' by 'stats socket command'"
            case ["enable" | "disable", "health", _]:
                one.check = one.check | 4 if words[0] == "enable" else one.check & ~4
                return ""
            case ["set", "server", _, "health", "up"]:
                return ""
        return "Unknown command."

    def _add(self, servers: dict[str, Server], name: str, words: list[str]) -> str:
        if self._simulation.plan.haproxy_version < (3, 0):
            raise Wrong("servers are added to a HAProxy that does that badly")
        if name in servers:
            return "Already exists a server with the same name in backend."
        address, _, port = words[0].partition(":")
        weight = int(words[words.index("weight") + 1]) if "weight" in words else 1
        check = 2 if "check" in words else 0
        servers[name] = Server(address, int(port), weight, MAINTENANCE, check, weight)
        self._occupy(servers[name])
        return "New server registered."

    def _delete(self, servers: dict[str, Server], name: str, one: Server) -> str:
        if self._simulation.plan.haproxy_version < (3, 0):
            raise Wrong("servers are removed from a HAProxy that does that badly")
        if not one.admin & MAINTENANCE:
            return "Only servers in maintenance mode can be deleted."
        if one.busy_until > self._simulation.now:
            self._simulation.note("server is busy")
            return "Server still has connections attached to it, cannot remove it."
        del servers[name]
        return "Server deleted."


def _differs(wanted: Server | None, has: Server | None) -> str:
    """Return in what a server is not as the file says; what a person has set is respected."""
    if wanted is None:
        return "" if has is None or has.admin & MAINTENANCE or has.is_by_hand else "is still there"
    if has is None:
        return "is missing"
    if (has.address, has.port, has.weight) != (wanted.address, wanted.port, wanted.weight):
        return f"is {has.shown()} instead of {wanted.shown()}"
    if has.is_by_hand:
        return ""
    if has.admin & DRAIN or bool(has.admin & MAINTENANCE) != bool(wanted.admin & MAINTENANCE):
        return f"is in state {has.admin} instead of {wanted.admin}"
    return "" if bool(has.check & 4) == bool(wanted.check & 4) else "is checked otherwise"
