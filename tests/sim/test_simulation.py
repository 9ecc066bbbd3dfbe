"""Ten thousand simulated runs, and the planted bugs that they have to find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from confpy.system.disk import SystemCalls
from tests.sim.disk import SimDisk
from tests.sim.mutants_of_stores import FIRST_SEEDS, MUTANTS
from tests.sim.plan import HAPROXY, ITEMS, MOUNTS, RENAMES, UNDOES

RUNS = 10_000
PARTS = 20
HUNT = 10_000
"""Runs within which a planted bug has to be found."""
FOUND_BUGS = (
    4, 6, 11, 12, 13, 25, 32, 39, 66, 94, 120, 145, 185, 192, 218, 232, 346, 427, 477, 994, 1458, 1573, 2506, 2853,
    2994, 3298, 3932, 21938, 100831, 103162, 107903, 109042, 2001558, 3003838, 5001841, 5029876, 5033777, 5034119,
    5105632, 5106678, 5107943, 5133076, 5140833, 5149472, 5151049, 5217144, 6558612, 6618006, 10049792, 10050043,
    10119159, 10372123, 21012763, 770031009, 880000745, 4000000125, 4000000134, 4000000257, 4000000404, 4000000668,
    4000001453, 4000002637, 4000002972, 4000005102, 4000006723, 5000000073, 5000000355, 5000000364, 5000000524,
    5000000560, 5000001508, 6000000024, 6000000080, 6000000435, 6000012567, 6000020855, 6000100503, 6001005755,
    6001012844, 7001008076, 7001012631, 7001023577, 7001025598, 7001030122, 7100003580, 7600014420, 7200006841,
    7500013125, 7000000011, 7000000012, 7000000124, 7000000131, 7000001232, 7000002729, 7500000633,
)  # fmt: skip
"""Seeds that once showed a bug of confpy's, each described in ``docs/decisions/0010-simulator.md``."""
HAPPENS = (
    "EBUSY", "EIO", "ENOSPC", "EROFS", "check fails", "check hangs", "delivery held CheckError",
    "died before link", "died before rename", "died before sync", "died before write", "power cut", "reload fails",
    "reload hangs", "restored changed", "says keys.suspect", "says keys.returned", "says prefix.denied",
    "says reload.recovered", "says reload.rolled_back", "says stage.removed", "says state.not_saved",
    "says target.drifted", "says watch.lost", "store answers empty", "store answers in part", "verify fails",
)  # fmt: skip
"""What would have to happen in each part, or it would show little."""

HAPPENS_TO_HAPROXY = (
    "died before a command to haproxy", "haproxy answers something unknown", "haproxy dies",
    "haproxy is disturbed within an exchange", "haproxy is reloaded by somebody",
    "haproxy says that it has done what it has not", "haproxy: ConnectionRefusedError",
    "haproxy: TimeoutError", "look: needed", "power cut", "reload hangs", "runtime: equal", "runtime: needed",
    "runtime: sent", "says reload.rolled_back", "says runtime.set_by_hand",
)  # fmt: skip

HAPPENS_TO_STORES = (
    "a store goes away", "a store stays away", "power cut", "put back", "resource edited", "says keys.hidden",
    "says keys.suspect", "says prefix.denied", "says store.recovered", "says store.replaced", "says store.stale",
    "says watch.lost", "store answers empty", "store answers in part", "store comes back from a backup",
)  # fmt: skip

HAPPENS_TO_ITEMS = (
    "EROFS", "ENOSPC", "a store goes away", "check fails", "died before remove", "died before rename",
    "delivery failed CheckError", "for_each edited", "power cut", "resource removed", "restored changed",
    "says keys.suspect", "says resource.failed", "says target.drifted", "says target.warning", "store answers empty",
    "target written by hand",
)  # fmt: skip


def run(*words: object) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "tests.sim.run", *map(str, words))
    return subprocess.run(argv, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False)


def simulate(first: int, count: int) -> tuple[dict[str, str], Counter[str]]:
    """Return what was wrong, by seed, and how often what happened."""
    ended = run("--json", first, count)
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout)
    return found["wrong"], Counter(found["seen"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_faults_targets_programs_and_ledger_end_right(part):
    size = RUNS // PARTS
    wrong, seen = simulate(part * size, size)
    assert not wrong, "python -m tests.sim.run SEED shows one of these"
    assert [what for what in HAPPENS if not seen[what]] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
def test_what_people_undo_stays_so_until_they_accept_what_the_store_wants(part):
    wrong, seen = simulate(UNDOES + part * 500, 500)
    assert not wrong, "python -m tests.sim.run SEED shows one of these"
    happens = ("a person accepts what was held", "put back", "undo fails", "undo succeeds", "power cut")
    assert [what for what in happens if not seen[what]] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
def test_a_haproxy_that_is_told_of_changes_while_it_runs_ends_as_its_files_say(part):
    wrong, seen = simulate(HAPROXY + part * 400, 400)
    assert not wrong, "python -m tests.sim.run SEED shows one of these"
    assert [what for what in HAPPENS_TO_HAPROXY if not seen[what]] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
def test_several_stores_in_one_tree_fail_and_lie_each_by_itself(part):
    wrong, seen = simulate(MOUNTS + part * 200, 200)
    assert not wrong, "python -m tests.sim.run SEED shows one of these"
    assert [what for what in HAPPENS_TO_STORES if not seen[what]] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", [ITEMS, RENAMES])
def test_items_have_their_files_and_nobody_elses_is_touched(first):
    wrong, seen = simulate(first, 200)
    assert not wrong, "python -m tests.sim.run SEED shows one of these"
    assert [what for what in HAPPENS_TO_ITEMS if not seen[what]] == []


@pytest.mark.parametrize("seed", FOUND_BUGS)
def test_a_seed_that_once_showed_a_bug_shows_none(seed):
    wrong, _ = simulate(seed, 1)
    assert not wrong


@pytest.mark.timeout(900)  # one that shows late needs minutes on a busy machine
@pytest.mark.parametrize("bug", sorted(MUTANTS))
def test_a_planted_bug_is_found(bug):
    ended = run("--plant", bug, FIRST_SEEDS.get(bug, 0), HUNT)
    assert ended.returncode == 0, f"no run of {HUNT} finds it {ended.stderr}"


def test_a_seed_replays_the_same_run():
    runs = [run(seed).stdout.splitlines()[-1] for seed in (7, 7, 8)]
    assert runs[0].startswith("seed 7: all right, ")
    assert runs[0] == runs[1]
    assert runs[0].split()[-1] != runs[2].split()[-1]


def test_every_call_to_the_disk_goes_to_the_simulated_one():
    calls = [name for name in vars(SystemCalls) if not name.startswith("_")]
    assert [name for name in calls if getattr(SimDisk, name) is getattr(SystemCalls, name)] == []
