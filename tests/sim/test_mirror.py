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
from tests.sim.world import World

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


def equal(world: World, prefixes: tuple[str, ...]) -> bool:
    wanted = {key: value for key, (_, value) in world.server.keys.items() if any(covers(one, key) for one in prefixes)}
    return dict(world.mirror.tree.items("/")) == wanted


def holds(world: World, prefixes: tuple[str, ...]) -> bool:
    """Say whether the tree has what the store has below these prefixes, and leave open what else it has."""
    kept = {key: value for key, (_, value) in world.server.keys.items()}
    return all(
        dict(world.mirror.tree.items(prefix)) == {key: value for key, value in kept.items() if covers(prefix, key)}
        for prefix in prefixes
    )


def show_dead_streams(world: World) -> None:
    """Let what went without a word show by what it does not bring: to an ask, as a full read would hide it."""
    for _ in range(2):
        for key in KEYS:
            world.server.put(key)
        world.run(4 * PERIOD)


def timely(world: World, prefixes: tuple[str, ...]) -> bool:
    """Say whether changes come by the stream, and not only by the next resync, once all is calm."""
    show_dead_streams(world)
    for _ in range(8):
        world.server.put(world.random.choice(KEYS))
        world.run(1.0)
        if not equal(world, prefixes):
            return False
    return True


def disturb(world: World, *, restores: bool) -> None:
    """Let something happen to the server."""
    random = world.random
    match random.randint(0, 40):
        case 0:
            world.server.compacted = random.randint(world.server.compacted, world.server.revision)
        case 1 if restores:
            world.server.restore(random, other_identity=random.random() < 0.5)
        case 2:
            if world.network.stalls:
                world.network.streams.clear()  # gone without a word
        case 3:
            world.server.drop(random.choice(("/services", "/services/web", "/app", "/app/x", "/certs")))
        case number if number < 12:
            world.server.delete(random.choice(KEYS))
        case _:
            world.server.put(random.choice(KEYS))


def refuse(world: World) -> None:
    """Let a right be taken away or given again."""
    random = world.random
    if random.random() < 0.15:
        world.server.denied ^= {random.choice(DENIED)}
    if random.random() < 0.02:
        world.server.denied.clear()


def want(world: World, number: int) -> None:
    """Follow what the first resources read."""
    world.take(world.mirror.want({str(index): prefixes for index, prefixes in enumerate(RESOURCES[:number])}))


def live(seed: int, *, restores: bool, follows: bool = True, refuses: bool = False) -> World:
    world = World(seed, follows=follows, period=PERIOD)
    want(world, world.random.randint(1, len(RESOURCES)))
    for _ in range(60):
        disturb(world, restores=restores)
        if refuses:
            refuse(world)
        world.run(world.random.choice((0.0, 0.05, 0.5, 5.0)))
        if world.random.random() < 0.03:
            want(world, world.random.randint(1, len(RESOURCES)))
    world.random.calm = True
    want(world, len(RESOURCES))
    # The faults are over. One backoff and two resyncs are enough for all but one: a store that came back from a backup
    # and has overtaken its old revision since cannot be told from itself, until the tenth resync reads in full.
    world.run(60 + (11 if restores else 3) * 1.1 * PERIOD)
    return world


@pytest.mark.parametrize("part", range(10))
def test_the_tree_ends_equal_to_the_store_whatever_is_delayed_lost_compacted_or_repeated(part):
    for seed in range(part, SEEDS, 10):
        world = live(seed, restores=False)
        assert equal(world, PREFIXES), f"seed {seed}"
        assert timely(world, PREFIXES), f"seed {seed}: late"


@pytest.mark.parametrize("part", range(10))
def test_the_tree_ends_equal_to_a_store_that_came_back_from_an_older_backup(part):
    for seed in range(part, SEEDS, 10):
        world = live(seed, restores=True)
        assert equal(world, PREFIXES), f"seed {seed}"


def test_streams_that_break_and_are_resumed_bring_every_change_themselves():
    for seed in range(100):
        world = World(seed, period=60.0)
        world.network.stalls = 0.0
        world.take(world.mirror.want({"one": PREFIXES[:1], "two": PREFIXES[2:4]}))
        world.run(5)
        for step in range(100):
            if step == 50:
                world.take(world.mirror.want({"one": PREFIXES[:2], "two": PREFIXES[2:]}))
            disturb(world, restores=False)
            world.run(world.random.choice((0.0, 0.05, 0.5)))
        world.random.calm = True
        world.run(10)
        assert equal(world, PREFIXES), f"seed {seed}: before any resync"
        assert "watch.missed" not in world.said, f"seed {seed}"


def test_polling_alone_ends_equal_to_the_store():
    for seed in range(150):
        world = live(seed, restores=True, follows=False)
        assert equal(world, PREFIXES), f"seed {seed}"


def given(world: World) -> tuple[str, ...]:
    """Return the prefixes that the server does not refuse."""
    return tuple(prefix for prefixes in RESOURCES for prefix in prefixes if world.server.refusal(prefix) is None)


@pytest.mark.parametrize("part", range(10))
def test_what_is_refused_is_not_ready_and_the_rest_goes_on_in_time(part):
    for seed in range(part, SEEDS, 10):
        world = live(seed, restores=False, refuses=True)
        for prefix in (prefix for prefixes in RESOURCES for prefix in prefixes):
            refused = world.server.refusal(prefix) is not None
            assert world.mirror.ready((prefix,)) == (not refused), f"seed {seed}: {prefix}"
            assert (world.mirror.error((prefix,)) is not None) == refused, f"seed {seed}: {prefix}"
        assert holds(world, given(world)), f"seed {seed}"
        show_dead_streams(world)
        before = len(world.said)
        for _ in range(8):
            world.server.put(world.random.choice(KEYS))
            world.run(1.0)
            assert holds(world, given(world)), f"seed {seed}: late"
        assert set(world.said[before:]) <= {"prefix.denied"}, f"seed {seed}"


@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("follows", [True, False])
def test_what_is_allowed_again_is_read_within_a_minute(part, follows):
    for seed in range(part, SEEDS, 10):
        world = live(seed, restores=False, refuses=True, follows=follows)
        world.server.denied.clear()
        world.run(62)
        assert equal(world, PREFIXES), f"seed {seed}"
        assert all(world.mirror.ready((prefix,)) for prefixes in RESOURCES for prefix in prefixes), f"seed {seed}"
        assert not follows or timely(world, PREFIXES), f"seed {seed}: late"


def test_refused_prefixes_cost_the_others_nothing_and_a_few_reads_a_minute_themselves():
    world = World(1)
    world.random.calm = True
    world.server.denied = {"/certs/a", "/certs/b"}
    want(world, len(RESOURCES))
    world.run(3000)
    quiet = World(1)
    quiet.random.calm = True
    want(quiet, len(RESOURCES))
    quiet.run(3000)
    assert world.network.opened == quiet.network.opened == 1
    assert world.network.polls <= quiet.network.polls + 1
    assert world.network.reads - quiet.network.reads < 3000 / LONGEST * 3, "full jitter: half of it on average"
    assert world.said.count("prefix.denied") < 8, "ever more rarely, one line for both"


def test_a_quiet_store_costs_one_read_one_stream_and_one_ask_per_period():
    world = World(1)
    world.random.calm = True
    world.take(world.mirror.want({"app": ("/app",)}))
    world.run(300)
    assert (world.network.reads, world.network.opened) == (1, 1)
    world.run(600)
    assert world.network.reads == 2, "every tenth resync reads in full"


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
