"""The threads that run jobs: ``confpy.daemon.threads.Workers``."""

from __future__ import annotations

import threading
import weakref
from queue import SimpleQueue

import pytest

from confpy.daemon import threads
from confpy.daemon.threads import Workers
from confpy.errors import StoreError
from tests.waiting import wait_until


class Answer:
    """What a job returns here: the thread that it ran on."""

    def __init__(self):
        self.thread = threading.current_thread()
        self.name = self.thread.name


@pytest.fixture
def posted():
    return SimpleQueue()


@pytest.fixture
def workers(posted):
    workers = Workers(posted.put)
    yield workers
    workers.close()


def wait_for(posted, what):
    assert posted.get(timeout=10) == what


def test_a_job_that_the_answer_to_another_leads_to_runs_on_the_same_thread(workers, posted):
    answers = []
    for number in range(20):
        workers.start(f"job-{number}", Answer, str)
        answers.append(posted.get(timeout=10))
    assert len({answer.thread for answer in answers}) == 1
    assert [answer.name for answer in answers] == [f"confpy-job-{number}" for number in range(20)]


def test_a_job_that_hangs_holds_up_no_other(workers, posted):
    goes_on = threading.Event()
    for number in range(20):
        workers.start("hangs", lambda n=number: goes_on.wait(20) and n, str)
    workers.start("other", lambda: "other", str)
    wait_for(posted, "other")
    goes_on.set()
    assert sorted(posted.get(timeout=10) for _ in range(20)) == list(range(20))


def burst(workers, posted):
    """Jobs that all run at the same time; returns their threads."""
    everybody = threading.Barrier(20)

    def job():
        everybody.wait(10)
        return Answer()

    for _ in range(20):
        workers.start("burst", job, str)
    found = {posted.get(timeout=10).thread for _ in range(20)}
    assert len(found) == 20
    return found


def test_after_a_burst_there_is_one_thread_that_waits_for_a_job(workers, posted):
    for _ in range(10):
        found = burst(workers, posted)
        wait_until(lambda found=found: sum(thread.is_alive() for thread in found) <= 1, what="the end of the others")


def test_a_thread_ends_when_there_is_nothing_to_do_for_long(workers, posted, monkeypatch):
    monkeypatch.setattr(threads, "IDLE", 0.2)
    found = burst(workers, posted)
    wait_until(lambda: not any(thread.is_alive() for thread in found), what="the end of the threads")
    workers.start("later", lambda: "later", str)
    wait_for(posted, "later")


def test_no_job_is_lost_to_a_thread_that_is_about_to_end(workers, posted, monkeypatch):
    monkeypatch.setattr(threads, "IDLE", 0.0)
    for number in range(500):
        workers.start("job", lambda n=number: n, str)
        wait_for(posted, number)


def test_an_idle_thread_holds_nothing_of_its_last_job(workers, posted):
    workers.start("job", Answer, str)
    answer = weakref.ref(posted.get(timeout=10))
    wait_until(lambda: answer() is None, what="the answer to be forgotten")


@pytest.mark.parametrize("error", [StoreError("down"), ZeroDivisionError("down")])
def test_a_job_that_fails_is_answered_and_its_thread_goes_on(workers, posted, error):
    def job():
        raise error

    workers.start("job", job, lambda found: type(error).__name__ in repr(found.fields()) or found is error)
    wait_for(posted, True)
    workers.start("job", lambda: "next", str)
    wait_for(posted, "next")
