"""One-shot runs, and starts of daemons, over few and many resources."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.bench import Bench, say
from tests.bench.confdirs import Confdir
from tests.bench.figures import FLOOR
from tests.bench.processes import BrokenError, Running, TooSlowError, cpu, resident, run
from tests.bench.programs import BEFORE
from tests.bench.stores import ENVIRONMENT, Store, opened


def run_once(bench: Bench, confdir: Confdir, store: Store, *, cold: bool = False) -> tuple[float, float]:
    """Return the wall and processor time of a one-shot run whose targets are in sync; ``cold``: without its cache."""
    if cold:
        confdir.forget("cache")
    cost = run(confdir.once(store), confdir.environment(), confdir.folder, limit=bench.limit(confdir.program))
    confdir.check()
    return cost.wall, cost.cpu


def make_files(bench: Bench, confdir: Confdir, store: Store) -> None:
    """Run it once, which fills its cache and makes its files, and takes longer than the runs that count."""
    limit = bench.limit(confdir.program) * (1 if confdir.program.name == BEFORE else 3)
    try:
        run(confdir.once(store), confdir.environment(), confdir.folder, limit=limit)
    except TooSlowError as error:  # says nothing of the other runs: no bound
        raise BrokenError(f"the first run {error}") from None


def measure_once(
    bench: Bench, named: str, resources: int, keys: int, *, kinds: Sequence[str], rounds: int, cold: bool = False
) -> None:
    """Measure one-shot runs over targets that are in sync; ``cold``: also such with an empty cache of templates."""
    place = f"{named}.{resources}x{keys}"
    say(f"one-shot, {place}")
    with opened(named) as store:
        confdirs = [bench.confdir(program, resources, keys) for program in bench.of(*kinds)]
        for confdir in confdirs:
            store.keys.put_all(confdir.all_keys())
        figures = [f"once.{place}.wall", f"once.{place}.cpu"]
        ready = []
        for confdir in confdirs:
            with bench.trying(confdir.program, figures):
                make_files(bench, confdir, store)
                ready.append(confdir)
        for _ in range(rounds):
            for confdir in ready:
                bench.attempt(confdir.program, figures, lambda one=confdir: run_once(bench, one, store))
        for _ in range(rounds if cold else 0):
            for confdir in ready:
                if confdir.program.kind == "confpy":
                    names = [f"once-cold.{place}.wall", f"once-cold.{place}.cpu"]
                    bench.attempt(confdir.program, names, lambda one=confdir: run_once(bench, one, store, cold=True))
    if cold:  # the others have no cache
        for program in bench.of("confd", "consul-template"):
            for what in ("wall", "cpu"):
                bench.figures.copy(f"once.{place}.{what}", f"once-cold.{place}.{what}", program.name)


def measure_cold_start(bench: Bench) -> None:
    """Measure a one-shot of one resource, beside the floor: a bare Python that imports Jinja and click."""
    say("one-shot, one resource")
    floor = [bench.own.command[0], "-c", "import jinja2, click"]
    with opened("etcd") as store:
        confdirs = [bench.confdir(program, 1, 1) for program in bench.of("confpy", "confd")]
        for confdir in confdirs:
            store.keys.put_all(confdir.all_keys())
        for turn in range(bench.sizes.starts + 1):
            for one_store in (ENVIRONMENT, store):
                name = one_store.name
                bare = run(floor, confdirs[0].environment(), confdirs[0].folder)
                if turn:
                    bench.figures.add(f"cold.{name}.cpu", FLOOR, bare.cpu)
                    bench.figures.add(f"cold.{name}.wall", FLOOR, bare.wall)
                for confdir in confdirs:
                    names = [f"cold.{name}.cpu", f"cold.{name}.wall"]
                    environment = {**confdir.environment(), f"{confdir.root}_SVC_00000_0000".upper(): "1"}
                    command = confdir.once(one_store)

                    def one(command=command, environment=environment, confdir=confdir) -> list[float]:
                        cost = run(command, environment, confdir.folder)
                        confdir.check()
                        return [cost.cpu, cost.wall]

                    if turn:
                        bench.attempt(confdir.program, names, one)
                    else:  # the first fills the cache, and is not counted
                        with bench.trying(confdir.program, names):
                            one()


def start(bench: Bench, confdir: Confdir, store: Store, *more: str) -> tuple[Running, list[float]]:
    """Start a daemon without targets; return it with the seconds until all are there, its processor time and memory.

    Raises ``TooSlowError`` and ``BrokenError``; the daemon has ended then.
    """
    confdir.forget("out", "state")
    running = bench.started(confdir, store, *more)
    try:
        took = running.wait(confdir.complete, bench.limit(confdir.program))
        used = cpu(running.pid)
        running.rest()
        confdir.check()
        return running, [took, used, resident(running.pid)]
    except BaseException:
        running.stop()
        raise


def start_names(place: str) -> list[str]:
    return [f"start.{place}.{what}" for what in ("wall", "cpu", "memory")]


def measure_start(bench: Bench, resources: int, keys: int, *, rounds: int) -> None:
    """Measure how long a daemon takes until it has made all targets, on etcd.

    Each starts once before it counts, as it is measured after a restart, not after it was installed: else the first of
    few rounds would compile all templates, and sizes with different rounds could not be compared.
    """
    place = f"etcd.{resources}x{keys}"
    say(f"daemon start, {place}")
    with opened("etcd") as store:
        confdirs = [bench.confdir(program, resources, keys) for program in bench.of("confpy", "confd")]
        for confdir in confdirs:
            store.keys.put_all(confdir.all_keys())
        for turn in range(rounds + 1):
            for confdir in confdirs:

                def one(confdir=confdir) -> list[float]:
                    running, values = start(bench, confdir, store)
                    running.stop()
                    return values

                if turn:
                    bench.attempt(confdir.program, start_names(place), one)
                else:
                    with bench.trying(confdir.program, start_names(place)):
                        one()
