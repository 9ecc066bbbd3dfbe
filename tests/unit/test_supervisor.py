"""When the program of ``-exec`` starts, which signals it gets, and what confpy exits with."""

from __future__ import annotations

import errno
import signal
from random import Random

import pytest

from confpy.agent.config import AgentConfig
from confpy.agent.reloads import PendingReloads
from confpy.agent.step import Step
from confpy.agent.supervisor import Supervisor
from confpy.clock import NEVER
from confpy.events import LogEvent
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild

TERM, USR1, USR2, QUIT = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT


class Program:
    """A supervised program, and what was done with it."""

    def __init__(self, **config):
        self.step = Step()
        given = {"supervises": True, "child_stop_timeout": 8.0, "forwarded": frozenset({USR2}), **config}
        self.reloads = PendingReloads(Random(1), longest_wait=1.0)
        self.supervisor = Supervisor(self.step, AgentConfig(**given), self.reloads)
        self.logged = []

    def at(self, now):
        """Begin a step at this time, in which what is due is done."""
        self.step.begin(now, 0.0)
        self.supervisor.do_what_is_due()
        return self

    def done(self):
        """Return what was done in this step; lines of the log are kept apart."""
        self.logged += [one for one in self.step.actions if isinstance(one, LogEvent)]
        return [one for one in self.step.actions if not isinstance(one, LogEvent)]


def started(**config):
    program = Program(**config).at(0.0)
    program.supervisor.start_if(is_started=True)
    assert program.done() == [StartChild()]
    return program


def test_without_a_program_nothing_is_waited_for_and_the_exit_code_is_confpys():
    supervisor = Program(supervises=False, forwarded=frozenset()).supervisor
    supervisor.stop(TERM)
    assert (supervisor.is_waiting, supervisor.runs, supervisor.exit_code(143)) == (False, False, 143)
    assert not supervisor.forwards(USR2)


def test_until_it_starts_nothing_is_reloaded_and_no_commit_owes_a_reload():
    program = Program().at(0.0)
    program.supervisor.start_if(is_started=False)
    assert (program.done(), program.reloads.is_held) == ([], True)
    program.supervisor.start_if(is_started=True)
    program.supervisor.start_if(is_started=True)
    assert (program.done(), program.reloads.is_held) == ([StartChild()], False)
    assert not Program(supervises=False).reloads.is_held


def test_a_program_that_was_never_started_changes_no_exit_code():
    program = Program().at(0.0)
    assert program.supervisor.is_waiting
    program.supervisor.stop(TERM)
    assert program.done() == []
    assert (program.supervisor.is_waiting, program.supervisor.runs, program.supervisor.exit_code(0)) == (
        False,
        False,
        0,
    )


@pytest.mark.parametrize(("configured", "sent"), [(0, QUIT), (USR1, USR1)])
def test_it_is_stopped_by_its_own_signal_or_by_the_one_that_confpy_got(configured, sent):
    program = started(child_stop_signal=configured).at(1.0)
    program.supervisor.stop(QUIT)
    assert program.done() == [SignalChild(sent)]


@pytest.mark.parametrize(
    ("ended", "code"), [(0, 0), (-USR1, 0), (128 + USR1, 0), (3, 3), (-TERM, 143), (143, 143), (-9, 137)]
)
def test_asked_to_stop_it_is_no_failure_to_end_with_0_or_by_that_signal(ended, code):
    program = started(child_stop_signal=USR1).at(1.0)
    program.supervisor.stop(TERM)
    program.supervisor.take(ChildEnded(ended))
    assert (program.supervisor.runs, program.supervisor.exit_code(143)) == (False, code)


@pytest.mark.parametrize(("ended", "code", "level"), [(0, 0, "warning"), (3, 3, "error"), (-11, 139, "error")])
def test_ended_unasked_its_code_is_that_of_confpy(ended, code, level):
    program = started().at(1.0)
    program.supervisor.take(ChildEnded(ended))
    assert program.supervisor.exit_code(0) == code
    program.done()
    assert (program.logged[-1].event, program.logged[-1].level, program.logged[-1].fields["code"]) == (
        "exec.ended",
        level,
        code,
    )


@pytest.mark.parametrize(("reason", "code"), [(errno.ENOENT, 127), (errno.EACCES, 126)])
def test_a_program_that_cannot_be_started_is_said_so_and_ends_confpy_as_a_shell_would(reason, code):
    program = started().at(1.0)
    program.supervisor.take(ChildEnded(code, reason))
    program.done()
    assert program.supervisor.exit_code(0) == code
    assert "cannot be started" in program.logged[-1].fields["error"]


def test_a_program_that_does_not_stop_gets_term_and_then_kill():
    program = started(child_stop_signal=USR1, child_stop_timeout=10.0).at(5.0)
    program.supervisor.stop(TERM)
    assert program.supervisor.next_at() == 13.0
    assert program.at(12.9).done() == []
    assert program.at(13.0).done() == [SignalChild(TERM)]
    assert program.supervisor.next_at() == 15.0
    assert program.at(15.0).done() == [SignalChild(signal.SIGKILL)]
    assert program.supervisor.next_at() == NEVER
    assert program.supervisor.runs


def test_one_that_ignores_term_is_killed_when_its_time_is_over():
    program = started(child_stop_timeout=10.0).at(0.0)
    program.supervisor.stop(TERM)
    assert program.at(9.9).done() == []
    assert program.at(10.0).done() == [SignalChild(signal.SIGKILL)]


def test_a_second_signal_ends_the_time_to_drain_and_a_third_kills():
    program = started(child_stop_signal=USR1, child_stop_timeout=600.0).at(1.0)
    program.supervisor.stop(USR1)
    program.at(2.0).supervisor.hurry()
    assert program.done() == [SignalChild(TERM)]
    assert program.supervisor.next_at() == 4.0
    program.at(3.0).supervisor.hurry()
    assert program.done() == [SignalChild(signal.SIGKILL)]


def test_signals_that_are_not_confpys_own_are_forwarded_while_it_runs():
    program = Program().at(0.0)
    assert program.supervisor.forwards(USR2)
    assert program.done() == []
    program = started().at(1.0)
    assert program.supervisor.forwards(USR2)
    assert not program.supervisor.forwards(TERM)
    assert program.done() == [SignalChild(USR2)]


@pytest.mark.parametrize("seed", range(300))
def test_whatever_comes_in_whatever_order_it_stops_in_time_and_its_code_is_known(seed):
    random = Random(seed)
    stop_signal = random.choice((0, USR1, TERM))
    timeout = random.choice((0.0, 1.0, 8.0, 600.0))
    program = Program(child_stop_signal=stop_signal, child_stop_timeout=timeout).at(0.0)
    supervisor, now, asked_at, sent = program.supervisor, 0.0, None, []
    for _ in range(30):
        now += random.choice((0.0, 0.5, 3.0, 1000.0))
        moment = min(now, supervisor.next_at())
        program.at(moment)
        now = moment
        match random.randrange(5):
            case 0:
                supervisor.start_if(is_started=True)
            case 1 if asked_at is None:
                supervisor.stop(random.choice((TERM, QUIT)))
                asked_at = now
            case 2 if asked_at is not None:
                supervisor.hurry()
            case 3:
                supervisor.forwards(USR2)
            case 4 if supervisor.runs and random.random() < 0.2:
                supervisor.take(ChildEnded(random.choice((0, 3, -9, -15))))
        sent += [one.number for one in program.done() if isinstance(one, SignalChild)]
        if asked_at is not None and supervisor.runs and now > asked_at + timeout:
            assert signal.SIGKILL in sent
        assert signal.SIGKILL not in sent or asked_at is not None
        assert sent.count(signal.SIGKILL) <= 1
        # Nothing that is due stays so: it would be looked at without end.
        assert supervisor.next_at() > now or supervisor.state == "stopping"
    assert supervisor.runs or isinstance(supervisor.exit_code(0), int)
