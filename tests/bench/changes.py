"""What one change costs a daemon: the time until it is in its file, processor time, memory."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence

from tests.bench.bench import Bench, say
from tests.bench.clients import Delay, Keys, StreamReader, less_the_put
from tests.bench.confdirs import PAIRS, Confdir, Content
from tests.bench.figures import FLOOR
from tests.bench.folders import Folder
from tests.bench.once import start, start_names
from tests.bench.processes import Running, cpu, proportional, resident
from tests.bench.stores import Store, opened

GAP, CONSUL_GAP = 0.02, 0.15
"""Seconds between two changes: what follows a delivery is over by then."""
STEPS = 10
"""Resources whose keys become more from step to step."""


class Follower:
    """A daemon over a confdir that is at rest; its keys are changed one at a time."""

    def __init__(self, confdir: Confdir, running: Running, keys: Keys) -> None:
        self.confdir = confdir
        self.running = running
        self.changed: dict[str, str] = {}
        self._keys = keys
        self._turns = itertools.count()
        self._folder = Folder(confdir.folder / "out")

    def change(self, *, limit: float = 30) -> Delay:
        """Change one key; return when it was in its file."""
        turn = next(self._turns)
        number = (turn * 47 + 13) % self.confdir.resources
        return self.change_of(number, self.confdir.key(number, turn % self.confdir.keys), f"turn{turn}.", limit=limit)

    def change_of(self, number: int, key: str, mark: str, *, limit: float = 30) -> Delay:
        """Change this key of a resource; return the same."""
        target, wanted = self.confdir.target(number), mark.encode()
        self.changed[key] = mark
        self._folder.drain()
        began = time.perf_counter()
        self._keys.put(key, self.confdir.content.value(mark))
        put = time.perf_counter()
        return Delay(self._folder.wait(lambda: wanted in target.read_bytes(), limit) - began, put - began)

    def batch(self, size: int, gap: float) -> tuple[float, float]:
        """Make ``size`` changes; return their latency, and the processor time for one."""
        used = cpu(self.running.pid)
        delays = []
        for _ in range(size):
            delays.append(self.change())
            time.sleep(gap)
        time.sleep(0.15)  # what is put off until it is quiet is done as well
        return less_the_put(delays), (cpu(self.running.pid) - used) / size

    def stop(self) -> None:
        self.running.stop()
        self._folder.close()


@contextlib.contextmanager
def followers(
    bench: Bench, confdirs: Sequence[Confdir], store: Store, place: str, *more: str
) -> Iterator[list[Follower]]:
    """Start daemons, one after another, and note what that cost; yield those that have made their files."""
    found: list[Follower] = []
    try:
        for confdir in confdirs:
            with bench.trying(confdir.program, start_names(place)):
                running, values = start(bench, confdir, store, *more)
                found.append(Follower(confdir, running, store.keys))
                for figure, value in zip(start_names(place), values, strict=True):
                    bench.figures.add(figure, confdir.program.name, value)
        yield found
    finally:
        for follower in found:
            follower.stop()


def names(place: str) -> list[str]:
    place = place if place.startswith("haproxy") else f"change.{place}"
    return [f"{place}.{what}" for what in ("latency", "cpu", "memory", "shared-memory")]


def measure_changes(
    bench: Bench, named: str, resources: int, keys: int, *, kinds: Sequence[str], content: Content = PAIRS
) -> None:
    """Measure changes in turns: a batch of each daemon, and on etcd one of a bare reader of its stream."""
    place = f"{named}.{resources}x{keys}" if content is PAIRS else f"haproxy.{keys}-servers"
    say(f"changes, {place}")
    sizes = bench.sizes
    changes, gap = (sizes.changes, GAP) if named == "etcd" else (sizes.consul_changes, CONSUL_GAP)
    # Changes of one resource that follow within the pause that makes a burst would wait for it.
    more = ("-settle", "0s") if resources == 1 else ()
    latency, processor, memory, shared = names(place)
    with opened(named) as store:
        confdirs = [bench.confdir(program, resources, keys, content) for program in bench.of(*kinds)]
        for confdir in confdirs:
            store.keys.put_all(confdir.all_keys())
        with followers(bench, confdirs, store, place, *more) as ready:
            reader = StreamReader(store.port, "/floor/") if named == "etcd" else None
            for turn in range(sizes.batches + 1):
                for follower in ready:
                    program = follower.confdir.program
                    if bench.figures.failed(latency, program.name):
                        continue
                    with bench.trying(program, [latency, processor]):
                        delay, used = follower.batch(changes, gap)
                        if turn:  # the first is not counted
                            bench.figures.add(latency, program.name, delay)
                            bench.figures.add(processor, program.name, used)
                if reader:
                    delays = []
                    for one in range(changes):
                        delays.append(reader.change(store.keys, f"/floor/{one}", f"floor{turn}.{one}."))
                        time.sleep(gap)
                    bench.figures.add(latency, FLOOR, less_the_put(delays))
            if reader:
                reader.close()
            for follower in ready:
                name, pid = follower.confdir.program.name, follower.running.pid
                with bench.trying(follower.confdir.program, [memory, shared]):
                    follower.running.alive()
                    bench.figures.add(memory, name, resident(pid))
                    bench.figures.add(shared, name, proportional(pid))
                    follower.confdir.check(follower.changed)
    if named == "etcd":
        bench.figures.over_floor(latency, f"{latency}-over-floor")
