"""One exchange after the other with one HAProxy: who answers, what it has, what it is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

from confpy.frozen import replace
from confpy.haproxy.answers import UnknownAnswer, is_accepted, read_help, read_info, read_running
from confpy.haproxy.steps import questions
from confpy.haproxy.values import Command, Difference, Left, Plan, Process, Running
from confpy.haproxy.verify import unequal
from confpy.reload.haproxy import LONGEST_LOOK
from confpy.reload.runtime_ports import Doubt, RuntimePorts
from confpy.reload.taken import Worker

INFO, LEVEL, HELP = Command("show info float", ()), Command("show cli level", ()), Command("add server help", ())
GRAIN = 0.05
"""Seconds by which two looks at the start of one worker may differ, besides the time that the looks took."""
ENDS = frozenset({"commit", "del"})
"""Commands that end a change: sent when all before them has succeeded."""
SHOWN = 100
"""Characters that are shown of an answer that is not known."""
NO_LEVEL = "give it one: `stats socket … level admin`"


class Answering:
    """The worker that answered on a socket at first; what another one answers is in doubt."""

    def __init__(self, socket: str, ports: RuntimePorts, seconds: float) -> None:
        """Ask who answers; raises ``Doubt`` and ``OSError``. ``seconds``: for all that follows."""
        self.socket = socket
        self._ports = ports
        began = ports.seconds()
        self._until = began + min(seconds, LONGEST_LOOK)
        self._boot = ports.disk.boot()
        self.worker, self.process, (level, words) = self._identify(LEVEL, HELP)
        self._until = began + seconds
        if level != "admin":
            hint = NO_LEVEL if level in {"user", "operator"} else "is this the admin socket of a HAProxy worker?"
            raise Doubt(f"the socket {socket} has no level admin", hint=hint)
        self.process = replace(self.process, words=read_help(words))

    def is_same(self, other: Worker) -> bool:
        """Return whether a worker that was seen earlier is this one."""
        is_near = abs(other.start - self.worker.start) <= self.worker.slack + other.slack
        return (other.boot, other.pid) == (self.worker.boot, self.worker.pid) and is_near

    def running(self, difference: Difference, *, is_last: bool = False) -> Running:
        """Return all that a difference is compared with; raises ``Doubt`` and ``OSError``.

        ``is_last``: it is in doubt if another worker answers by now.
        """
        running = Running()
        try:
            while asked := questions(difference, running):
                commands = [Command(text, ()) for text in asked]
                if is_last:  # on a connection that is younger than all changes: of two workers the new one accepts it
                    worker, _, answers = self._identify(*commands)
                    if not self.is_same(worker):
                        raise Doubt("another worker of HAProxy has taken over meanwhile")
                else:
                    answers = self._ask(commands)
                running = read_running(dict(zip(asked, answers, strict=True)), running)
        except UnknownAnswer as error:
            raise Doubt(f"HAProxy's answer to `{error}` is not known: is it newer than this confpy?") from None
        return running

    def apply(self, plan: Plan, users: Collection[int]) -> tuple[Left, ...]:
        """Send a plan; return the servers that it leaves in maintenance.

        ``users``: who may listen where a key is sent. Raises ``Doubt`` at the first answer that is not
        known to be good, and ``OSError``.
        """
        left = [*plan.left]
        for _, some in groupby(plan.commands, lambda one: one.text.partition(" ")[0] in ENDS):
            commands = [*some]
            is_secret = any(one.is_secret for one in commands)
            for command, answer in zip(commands, self._ask(commands, users if is_secret else None), strict=True):
                if is_accepted(answer, command.accepts):
                    continue
                if not is_accepted(answer, command.tolerates):
                    raise _refused(command, answer)
                if command.leaves is not None:
                    left.append(command.leaves)
        return tuple(left)

    def verify(self, difference: Difference) -> None:
        """Raise ``Doubt`` unless the worker, still the same one, is as a difference asks."""
        if wrong := unequal(difference, self.running(difference, is_last=True)):
            raise Doubt(f"HAProxy does not have what it was told: {', '.join(wrong[:3])}")

    def _identify(self, *also: Command) -> tuple[Worker, Process, list[str]]:
        before = self._ports.seconds()
        info, *others = self._ask([INFO, *also])
        after = self._ports.seconds()
        try:
            process = read_info(info)
        except UnknownAnswer:
            raise Doubt(f"{self.socket} does not answer as HAProxy does: is it its admin socket?") from None
        middle, slack = (before + after) / 2, (after - before) / 2 + GRAIN
        return Worker(self._boot, process.pid, middle - process.uptime, slack), process, others

    def _ask(self, commands: Sequence[Command], users: Collection[int] | None = None) -> list[str]:
        seconds = self._until - self._ports.seconds()
        if seconds <= 0:
            raise TimeoutError
        return self._ports.talks.exchange(self.socket, commands, seconds, users)


def _refused(command: Command, answer: str) -> Doubt:
    """Return the error for an answer that is not known to be good. No payload is shown: it may hold a key."""
    said = answer.partition("\n")[0][:SHOWN] if not command.is_secret else "…"
    return Doubt(f"HAProxy answered `{command.text[:SHOWN]}` with {said!r}" if said else f"no answer to {command.text}")
