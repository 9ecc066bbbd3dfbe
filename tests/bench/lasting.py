"""What a daemon does over time: a storm of changes, rest, and growth over very many changes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.bench import Bench, say
from tests.bench.changes import Follower, followers
from tests.bench.confdirs import Confdir
from tests.bench.processes import TooSlowError, cpu, resident, wakeups
from tests.bench.stores import Store, opened

PUTS = 100
"""In one transaction."""


def puts(confdir: Confdir, number: int, mark: str) -> Iterator[dict[str, str]]:
    """Yield transactions that write ``number`` keys in all, resource after resource: key → mark."""
    for start in range(0, number, PUTS):
        yield {
            confdir.key(one % confdir.resources, one // confdir.resources % confdir.keys): f"{mark}.{one}."
            for one in range(start, min(start + PUTS, number))
        }


def final(follower: Follower, limit: float) -> float:
    """Return the time at which all files are as the keys, each of which is looked at until it is."""
    confdir, deadline = follower.confdir, time.perf_counter() + limit
    for number in reversed(range(confdir.resources)):
        while not confdir.is_final(number, follower.changed):
            follower.running.alive()
            if time.perf_counter() > deadline:
                raise TooSlowError(limit)
            time.sleep(0.005)
    return time.perf_counter()


def measure_storm(bench: Bench) -> None:
    """Measure a storm of puts to all resources: when the files are final, and what that took."""
    sizes = bench.sizes
    place = f"storm.etcd.{sizes.storm}"
    say(f"storm of {sizes.storm:,} puts")
    with opened("etcd") as store:
        confdirs = [bench.confdir(program, sizes.many, 20) for program in bench.of("confpy", "confd")]
        for confdir in confdirs:
            store.keys.put_all(confdir.all_keys())
        figures = [f"{place}.{what}" for what in ("wall", "cpu", "memory")]
        with followers(bench, confdirs, store, f"etcd.{sizes.many}x20") as ready:
            for turn in range(max(1, sizes.rounds - 1)):
                for follower in ready:

                    def one(follower: Follower = follower, turn: int = turn) -> list[float]:
                        used, began = cpu(follower.running.pid), time.perf_counter()
                        for some in puts(follower.confdir, sizes.storm, f"storm{turn}"):
                            store.keys.transact(some)
                            follower.changed.update(some)
                        took = final(follower, bench.limit(follower.confdir.program)) - began
                        follower.running.rest()
                        return [took, cpu(follower.running.pid) - used, resident(follower.running.pid)]

                    bench.attempt(follower.confdir.program, figures, one)


def measure_rest(bench: Bench) -> None:
    """Measure what daemons do a minute that have nothing to do, all at once."""
    seconds, few = bench.sizes.idle, bench.sizes.few
    say(f"rest for {seconds:g} s")
    with opened("etcd") as store:
        confdirs = [bench.confdir(program, few, 20) for program in bench.of("confpy", "confd")]
        for confdir in confdirs:
            store.keys.put_all(confdir.all_keys())
        with followers(bench, confdirs, store, f"etcd.{few}x20") as ready:
            for follower in ready:
                follower.change()
            time.sleep(min(5, seconds))
            pids = {follower.confdir.program.name: follower.running.pid for follower in ready}
            first = {name: (wakeups(pid), cpu(pid)) for name, pid in pids.items()}
            time.sleep(seconds)
            for name, pid in pids.items():
                woken, used = first[name]
                bench.figures.add("rest.etcd.wakeups", name, (wakeups(pid) - woken) * 60 / seconds)
                bench.figures.add("rest.etcd.cpu", name, (cpu(pid) - used) * 60 / seconds)


def measure_growth(bench: Bench) -> None:
    """Measure how memory grows over very many changes, delivered a thousand at a time."""
    few, number = bench.sizes.few, bench.sizes.growth
    say(f"growth over {number:,} changes")
    with opened("etcd") as store:
        confdir = bench.confdir(bench.own, few, 20)
        store.keys.put_all(confdir.all_keys())
        with followers(bench, [confdir], store, f"etcd.{few}x20") as ready:
            for follower in ready:
                with bench.trying(bench.own, ["growth.etcd.growth"]):
                    grow(bench, follower, store, number)


def grow(bench: Bench, follower: Follower, store: Store, number: int) -> None:
    """Make ``number`` changes after a tenth as many that do not count; note memory and processor time on the way."""
    program, pid, step = follower.confdir.program, follower.running.pid, number // 20
    done, before, used = 0, 0, 0.0
    while done <= number:
        deliver(bench, follower, store, step)
        if not before:  # what is loaded and cached once has been
            deliver(bench, follower, store, step)
            before, used = resident(pid), cpu(pid)
        else:
            done += step
            bench.figures.add(f"growth.etcd.after-{done}.memory", program.name, resident(pid))
            bench.figures.add(f"growth.etcd.after-{done}.cpu", program.name, cpu(pid) - used)
        if done == number:
            break
    follower.running.rest()
    bench.figures.add("growth.etcd.growth", program.name, max(0, resident(pid) - before))


def deliver(bench: Bench, follower: Follower, store: Store, number: int) -> None:
    """Make changes, some at a time, and wait for their files."""
    size = 10 * PUTS
    for start in range(0, number, size):
        for some in puts(follower.confdir, min(size, number - start), f"change{time.monotonic_ns()}"):
            store.keys.transact(some)
            follower.changed.update(some)
        final(follower, bench.limit(follower.confdir.program))
