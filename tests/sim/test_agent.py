"""The real mind in a simulated house: whatever fails on the way, targets and programs end right."""

from __future__ import annotations

import signal

import pytest

from confpy.config.resource import Resource
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.messages import Signalled
from confpy.reload.actions import CommandReload
from tests.sim.house import ADDRESS, House
from tests.sim.test_mirror import KEYS, disturb, show_dead_streams

RESOURCES = (
    Resource(
        "web", "", "web.j2", "/out/web", prefixes=("/services/web", "/services/maxconn"), reload_cmd=CommandReload("lb")
    ),
    Resource(
        "app", "", "app.j2", "/out/app", prefixes=("/app",), check_cmd="check app", reload_cmd=CommandReload("lb")
    ),
    Resource(
        "certs", "", "certs.j2", "/out/certs", prefixes=("/certs/a", "/certs/b"), reload_cmd=CommandReload("certs")
    ),
    Resource("plain", "", "plain.j2", "/out/plain", prefixes=("/app/x",)),
    Resource("keyless", "", "keyless.j2", "/out/keyless", reload_cmd=CommandReload("other")),
    Resource(
        "named",
        "",
        ADDRESS,
        "/out/named",
        prefixes=("/app/y",),
        check_cmd="check app",
        reload_cmd=CommandReload("named"),
    ),
    Resource(
        "warned", "", "warned.j2", "/out/warned", prefixes=("/app/z",), on_drift="warn", reload_cmd=CommandReload("lb")
    ),
)
SEEDS = 150


def expected(house: House) -> dict[str, bytes]:
    tree = KeyTree()
    for key, (_, value) in house.server.keys.items():
        tree.set(key, value)
    return {
        one.dest: house.printer.text(View(tree, one.prefixes), str(house.address) if one.src == ADDRESS else "")
        for one in house.resources
        if one.dest not in house.by_hand or one.on_drift != "warn"
    }


def targets(house: House) -> dict[str, bytes]:
    """Return the targets, but for those that somebody else may have changed."""
    left = {one.dest for one in house.resources if one.on_drift == "warn"} & house.by_hand
    return {dest: content for dest, content in house.targets.items() if dest not in left}


def live(seed: int, **config: bool) -> House:
    house = House(seed, RESOURCES, **config)
    for _ in range(60):
        disturb(house, restores=False)
        if house.random.random() < 0.1:
            house.address += 1
        if house.random.random() < 0.02:
            house.tell(Signalled(signal.SIGHUP))
        if house.random.random() < 0.05:
            house.touch(house.random.choice(RESOURCES).dest, house.random.choice((None, b"by hand")))
        house.run(house.random.choice((0.0, 0.05, 0.5, 5.0)))
    house.random.calm = True
    show_dead_streams(house)
    # One backoff of a store, one of a resource, one of a reload (up to 300 s), and the resyncs between them.
    house.run(600)
    return house


@pytest.mark.parametrize("part", range(10))
def test_targets_end_as_their_templates_over_the_stores_keys_and_programs_have_read_them(part):
    for seed in range(part, SEEDS, 10):
        house = live(seed)
        assert targets(house) == expected(house), f"seed {seed}"
        programs = {one.dest for one in RESOURCES if one.reload_cmd} & targets(house).keys()
        assert {dest: house.loaded.get(dest) for dest in programs} == {
            dest: house.targets[dest] for dest in programs
        }, f"seed {seed}"
        for _ in range(5):  # by the stream, and not only by the next resync
            house.server.put(house.random.choice(KEYS))
            house.run(3.0)
            assert targets(house) == expected(house), f"seed {seed}: late"


@pytest.mark.parametrize("manner", ["noop", "sync_only"])
def test_noop_writes_nothing_and_sync_only_reloads_nothing(manner):
    for seed in range(10):
        house = live(seed, **{manner: True})
        assert house.reloads == 0
        assert house.commits == 0 if manner == "noop" else targets(house) == expected(house)


def test_nothing_is_delivered_or_reloaded_when_nothing_changes():
    house = House(7, RESOURCES)
    house.random.calm = True
    house.run(60)
    commits, reloads = house.commits, house.reloads
    assert (commits, reloads) == (7, 4), "one commit a resource, one reload a command"
    house.run(600)
    assert (house.commits, house.reloads) == (commits, reloads)


def test_fifty_resources_with_one_reload_command_cause_one_reload():
    resources = tuple(
        Resource(
            f"r{number}", "", "t.j2", f"/out/{number}", prefixes=(f"/app/{number}",), reload_cmd=CommandReload("lb")
        )
        for number in range(50)
    )
    house = House(3, resources)
    house.random.calm = True
    house.run(20)
    assert (house.commits, house.reloads) == (50, 1)


def test_a_burst_is_delivered_a_few_times_and_ends_in_the_final_state():
    house = House(5, RESOURCES)
    house.random.calm = True
    house.run(20)
    house.network.slowest = 0.02
    before = house.commits
    for _ in range(500):
        house.server.put("/app/x")
        house.run(0.01)
    house.run(20)
    assert house.targets == expected(house)
    # "app" and "plain" read the key: at once, then every max_wait (2 s) of the 5 s, then the last.
    assert house.commits - before <= 2 * 5


@pytest.mark.parametrize("part", range(4))
def test_a_signal_at_any_time_ends_it_within_the_stop_timeout_with_0_unless_something_had_to_be_killed(part):
    for seed in range(part, 200, 4):
        house = House(seed, RESOURCES)
        house.hangs = seed % 2 == 0
        for _ in range(house.random.randint(0, 20)):
            disturb(house, restores=False)
            house.run(house.random.choice((0.0, 0.05, 0.5)))
        house.tell(Signalled(signal.SIGTERM))
        house.run(8.6)
        assert house.ended == (128 + signal.SIGTERM if house.terminated else 0), f"seed {seed}"


def test_many_commands_are_run_a_few_at_a_time():
    resources = tuple(
        Resource(
            f"r{number}", "", "t.j2", f"/out/{number}", prefixes=("/app",), reload_cmd=CommandReload(f"reload {number}")
        )
        for number in range(100)
    )
    house = House(3, resources)
    house.random.calm = True
    house.run(20)
    assert (house.commits, house.reloads) == (100, 100)


@pytest.mark.parametrize("seed", range(100))
def test_one_shot_ends_after_one_try_of_everything_with_the_code_of_what_failed(seed):
    house = House(seed, RESOURCES, onetime=True)
    house.random.calm = seed % 2 == 0
    house.run(120)
    assert house.ended is not None
    failed = [line for line in house.lines if line.event.endswith("failed")]
    assert (house.ended == 0) == (not failed)
    if house.ended == 0:
        assert house.targets == expected(house)
    assert house.reloads <= 4


def test_a_resource_whose_key_is_missing_keeps_its_target_until_the_key_is_there_again():
    keeps = Resource("keeps", "", "t.j2", "/out/keeps", prefixes=("/app",), on_missing="error")
    empties = Resource("empties", "", "t.j2", "/out/empties", prefixes=("/app",), on_missing="empty")
    follows_store = Resource("store", "", "t.j2", "/out/store", prefixes=("/app",))
    house = House(3, (keeps, empties, follows_store), on_missing="error")
    house.random.calm = True
    house.server.put("/app/x")
    house.run(10)
    full = dict(house.targets)
    house.server.drop("/app")
    house.run(30)
    assert house.targets["/out/keeps"] == full["/out/keeps"]
    assert house.targets["/out/store"] == full["/out/store"]
    assert house.targets["/out/empties"] != full["/out/empties"]
    said = [line.fields for line in house.lines if line.event == "resource.failed"]
    assert {line["resource"] for line in said} == {"keeps", "store"}
    assert {line["key"] for line in said} == {"/app"}
    house.server.put("/app/x")
    house.run(2)
    assert house.targets["/out/keeps"] == house.targets["/out/empties"] == house.targets["/out/store"]


def test_one_shot_fails_for_a_missing_key_and_delivers_the_rest():
    lost = Resource("lost", "", "t.j2", "/out/lost", prefixes=("/none",), on_missing="error")
    once = House(3, (lost, RESOURCES[1]), onetime=True)
    once.random.calm = True
    once.server.put("/app/x")
    once.run(20)
    assert once.ended == 3
    assert list(once.targets) == ["/out/app"]
