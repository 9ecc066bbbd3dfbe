"""The real mirror against a simulated store: whatever happens, the tree ends equal to the store."""

from __future__ import annotations

from random import Random

import pytest

from confpy.events import LogEvent
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.messages import Changed, Listed, Opened, Polled, Watch, Woken
from confpy.mirror.denied import LONGEST
from confpy.mirror.mirror import Mirror
from tests.sim.mirror_simulation import MirrorSimulation

RESOURCES = (("/services/web", "/services/maxconn"), ("/app",), ("/app/x", "/app/y"), ("/certs/a", "/certs/b"))
PREFIXES = ("/services/web", "/services/maxconn", "/app", "/certs/a", "/certs/b")
KEYS = (
    *(f"/services/web/{name}" for name in "abc"),
    "/services/maxconn",
    "/services/webber/x",
    *(f"/app/{name}" for name in "xyz"),
    "/certs/a/1",
    "/certs/b/1",
)
DENIED = ("/services/web", "/services/maxconn", "/app", "/app/z", "/certs/a", "/")
SEEDS = 200
PERIOD = 5.0
"""Seconds between resyncs: short, so that many fall into a run."""


def equal(simulation: MirrorSimulation, prefixes: tuple[str, ...]) -> bool:
    wanted = {
        key: value for key, (_, value) in simulation.server.keys.items() if any(covers(one, key) for one in prefixes)
    }
    return dict(simulation.mirror.tree.items("/")) == wanted


def holds(simulation: MirrorSimulation, prefixes: tuple[str, ...]) -> bool:
    """Say whether the tree has what the store has below these prefixes, and leave open what else it has."""
    keys = {key: value for key, (_, value) in simulation.server.keys.items()}
    return all(
        dict(simulation.mirror.tree.items(prefix)) == {key: value for key, value in keys.items() if covers(prefix, key)}
        for prefix in prefixes
    )


def show_dead_streams(simulation: MirrorSimulation) -> None:
    """Let what went without a word show by what it does not bring: to an ask, as a full read would hide it."""
    for _ in range(2):
        for key in KEYS:
            simulation.server.put(key)
        simulation.run(4 * PERIOD)


def timely(simulation: MirrorSimulation, prefixes: tuple[str, ...]) -> bool:
    """Say whether changes come by the stream, and not only by the next resync, once all is calm."""
    show_dead_streams(simulation)
    for _ in range(8):
        simulation.server.put(simulation.random.choice(KEYS))
        simulation.run(1.0)
        if not equal(simulation, prefixes):
            return False
    return True


def disturb(simulation: MirrorSimulation, *, restores: bool) -> None:
    """Let something happen to the server."""
    random = simulation.random
    match random.randint(0, 40):
        case 0:
            simulation.server.compacted = random.randint(simulation.server.compacted, simulation.server.revision)
        case 1 if restores:
            simulation.server.restore(random, other_identity=random.random() < 0.5)
        case 2:
            if simulation.network.stalls:
                simulation.network.streams.clear()  # gone without a word
        case 3:
            simulation.server.drop(random.choice(("/services", "/services/web", "/app", "/app/x", "/certs")))
        case number if number < 12:
            simulation.server.delete(random.choice(KEYS))
        case _:
            simulation.server.put(random.choice(KEYS))


def deny(simulation: MirrorSimulation) -> None:
    """Let a right be taken away or given again."""
    random = simulation.random
    if random.random() < 0.15:
        simulation.server.denied ^= {random.choice(DENIED)}
    if random.random() < 0.02:
        simulation.server.denied.clear()


def want(simulation: MirrorSimulation, number: int) -> None:
    """Follow what the first resources read."""
    simulation.take(simulation.mirror.want({str(index): prefixes for index, prefixes in enumerate(RESOURCES[:number])}))


def live(seed: int, *, restores: bool, follows: bool = True, denies: bool = False) -> MirrorSimulation:
    simulation = MirrorSimulation(seed, follows=follows, period=PERIOD)
    want(simulation, simulation.random.randint(1, len(RESOURCES)))
    for _ in range(60):
        disturb(simulation, restores=restores)
        if denies:
            deny(simulation)
        simulation.run(simulation.random.choice((0.0, 0.05, 0.5, 5.0)))
        if simulation.random.random() < 0.03:
            want(simulation, simulation.random.randint(1, len(RESOURCES)))
    simulation.random.calm = True
    want(simulation, len(RESOURCES))
    # The faults are over. One backoff and two resyncs are enough for all but one: a store that came back from a backup
    # and has overtaken its old revision since looks like itself, until the tenth resync reads in full.
    simulation.run(60 + (11 if restores else 3) * 1.1 * PERIOD)
    return simulation


@pytest.mark.parametrize("part", range(10))
def test_the_tree_ends_equal_to_the_store_whatever_is_delayed_lost_compacted_or_repeated(part):
    for seed in range(part, SEEDS, 10):
        simulation = live(seed, restores=False)
        assert equal(simulation, PREFIXES), f"seed {seed}"
        assert timely(simulation, PREFIXES), f"seed {seed}: late"


@pytest.mark.parametrize("part", range(10))
def test_the_tree_ends_equal_to_a_store_that_came_back_from_an_older_backup(part):
    for seed in range(part, SEEDS, 10):
        simulation = live(seed, restores=True)
        assert equal(simulation, PREFIXES), f"seed {seed}"


def test_streams_that_break_and_are_resumed_bring_every_change_themselves():
    for seed in range(100):
        simulation = MirrorSimulation(seed, period=60.0)
        simulation.network.stalls = 0.0
        simulation.take(simulation.mirror.want({"one": PREFIXES[:1], "two": PREFIXES[2:4]}))
        simulation.run(5)
        for step in range(100):
            if step == 50:
                simulation.take(simulation.mirror.want({"one": PREFIXES[:2], "two": PREFIXES[2:]}))
            disturb(simulation, restores=False)
            simulation.run(simulation.random.choice((0.0, 0.05, 0.5)))
        simulation.random.calm = True
        simulation.run(10)
        assert equal(simulation, PREFIXES), f"seed {seed}: before any resync"
        assert "watch.missed" not in simulation.logged, f"seed {seed}"


def test_polling_alone_ends_equal_to_the_store():
    for seed in range(150):
        simulation = live(seed, restores=True, follows=False)
        assert equal(simulation, PREFIXES), f"seed {seed}"


def given(simulation: MirrorSimulation) -> tuple[str, ...]:
    """Return the prefixes that the server does not deny."""
    return tuple(prefix for prefixes in RESOURCES for prefix in prefixes if simulation.server.denial(prefix) is None)


@pytest.mark.parametrize("part", range(10))
def test_what_is_denied_is_not_ready_and_the_rest_goes_on_in_time(part):
    for seed in range(part, SEEDS, 10):
        simulation = live(seed, restores=False, denies=True)
        for prefix in (prefix for prefixes in RESOURCES for prefix in prefixes):
            refused = simulation.server.denial(prefix) is not None
            assert simulation.mirror.ready((prefix,)) == (not refused), f"seed {seed}: {prefix}"
            assert (simulation.mirror.error((prefix,)) is not None) == refused, f"seed {seed}: {prefix}"
        assert holds(simulation, given(simulation)), f"seed {seed}"
        show_dead_streams(simulation)
        before = len(simulation.logged)
        for _ in range(8):
            simulation.server.put(simulation.random.choice(KEYS))
            simulation.run(1.0)
            assert holds(simulation, given(simulation)), f"seed {seed}: late"
        assert set(simulation.logged[before:]) <= {"prefix.denied"}, f"seed {seed}"


@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("follows", [True, False])
def test_what_is_allowed_again_is_read_within_a_minute(part, follows):
    for seed in range(part, SEEDS, 10):
        simulation = live(seed, restores=False, denies=True, follows=follows)
        simulation.server.denied.clear()
        simulation.run(62)
        assert equal(simulation, PREFIXES), f"seed {seed}"
        assert all(simulation.mirror.ready((prefix,)) for prefixes in RESOURCES for prefix in prefixes), f"seed {seed}"
        assert not follows or timely(simulation, PREFIXES), f"seed {seed}: late"


def test_denied_prefixes_cost_the_others_nothing_and_themselves_less_than_three_reads_per_longest_interval():
    simulation = MirrorSimulation(1)
    simulation.random.calm = True
    simulation.server.denied = {"/certs/a", "/certs/b"}
    want(simulation, len(RESOURCES))
    simulation.run(3000)
    quiet = MirrorSimulation(1)
    quiet.random.calm = True
    want(quiet, len(RESOURCES))
    quiet.run(3000)
    assert simulation.network.opened == quiet.network.opened == 1
    assert simulation.network.polls <= quiet.network.polls + 1
    assert simulation.network.reads - quiet.network.reads < 3000 / LONGEST * 3, "full jitter: half of it on average"
    assert simulation.logged.count("prefix.denied") < 8, "at growing intervals, one line for both"


def test_a_quiet_store_costs_one_read_one_stream_and_one_ask_per_period():
    simulation = MirrorSimulation(1)
    simulation.random.calm = True
    simulation.take(simulation.mirror.want({"app": ("/app",)}))
    simulation.run(300)
    assert (simulation.network.reads, simulation.network.opened) == (1, 1)
    simulation.run(600)
    assert simulation.network.reads == 2, "every tenth resync reads in full"


def listed(mirror, listing, prefix="/web"):
    (read,) = mirror.want({"web": (prefix,)}).actions
    return mirror.step(Listed(read.read, Snapshot({prefix: listing}, "a")), 0.0)


def test_an_empty_folder_is_there_and_a_missing_one_is_not():
    for listing, missing in (
        (Listing(5), "/web"),
        (Listing(5, folders={"/web"}), None),
        (Listing(5, folders={"/web/sub"}), None),
        (Listing(5, {"/web/a": "1"}), None),
    ):
        mirror = Mirror(Random(1), follows=False, period=60)
        listed(mirror, listing)
        assert mirror.missing(("/web",)) == missing
    assert mirror.missing(("/web", "/web/none")) == "/web/none"


def test_a_folder_that_went_is_missing_and_one_whose_last_key_went_is_empty():
    mirror = Mirror(Random(1), follows=True, period=60)
    turn = listed(mirror, Listing(5, {"/web/a": "1", "/web/sub/b": "2"}))
    stream = next(action.stream for action in turn.actions if isinstance(action, Watch))
    mirror.step(Opened(stream), 0.0)

    def tell(revision, keys=(), **places):
        changes = Changes("/web", revision, dict(keys), **places)
        return mirror.step(Changed(stream, changes), 0.0).changed

    assert tell(6, {"/web/a": (6, None)}, folders={"/web": 6}) == {"/web/a", "/web"}
    assert tell(7, deleted={"/web/sub": 7}, folders={"/web": 7}) == {"/web/sub/b"}
    assert mirror.missing(("/web",)) is None
    assert tell(8, deleted={"/web": 8}) == set()
    assert mirror.missing(("/web",)) == "/web"
    assert tell(9, folders={"/web": 9}) == {"/web"}
    assert mirror.missing(("/web",)) is None
    assert tell(9, deleted={"/web": 9}) == set(), "a repeat"
    assert mirror.missing(("/web",)) is None


def test_a_store_that_cannot_keep_bytes_is_told_of_once_a_key():
    mirror = Mirror(Random(1), follows=False, period=60, binary=False)
    turn = listed(mirror, Listing(5, {"/web/a": "x\ufffdy", "/web/b": "fine"}))
    said = [action for action in turn.actions if isinstance(action, LogEvent)]
    assert [(one.level, one.event, one.fields["key"]) for one in said] == [("warning", "value.damaged", "/web/a")]
    assert "x\ufffdy" not in str(said)
    mirror.resync(1.0)
    (ask,) = mirror.step(Woken(), 1.0).actions
    (read,) = mirror.step(Polled(ask.poll, None), 1.0).actions
    turn = mirror.step(Listed(read.read, Snapshot({"/web": Listing(6, {"/web/a": "\ufffd"})}, "a")), 1.0)
    assert not [action for action in turn.actions if isinstance(action, LogEvent)]
    any_bytes = Mirror(Random(1), follows=False, period=60)
    assert not [one for one in listed(any_bytes, Listing(5, {"/web/a": "\ufffd"})).actions if isinstance(one, LogEvent)]
