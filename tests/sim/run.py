# ruff: noqa: T201 - it prints
"""Simulate runs by hand.

``python -m tests.sim.run SEED`` shows one. ``… FIRST COUNT`` simulates many and counts what happened. ``… --plant "BUG"
FIRST COUNT`` plants a bug and prints the run that finds it.

Sets of names have to be walked in one order, or a seed would not replay: so it begins itself anew where Python's hashes
are not fixed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence

from tests.sim.mutants_of_stores import MUTANTS
from tests.sim.simulation import Wrong, live


def show(seed: int) -> int:
    """Simulate one run, and print all that happens in it."""
    try:
        simulation = live(seed, verbose=True)
    except Wrong as wrong:
        print(f"seed {seed}: {wrong}")
        return 1
    print(f"seed {seed}: all right, {simulation.digest:08x}")
    return 0


def complaint(seed: int, seen: Counter[str]) -> str:
    """Simulate one run; returns what was wrong, empty where nothing was."""
    try:
        seen.update(live(seed).seen)
    except Wrong as wrong:
        return str(wrong)
    except Exception:  # noqa: BLE001 - a bug of confpy's or of the simulator's
        return traceback.format_exc(limit=-4)
    return ""


def many(seeds: Sequence[int], *, as_json: bool) -> int:
    """Simulate many runs, and count what happened."""
    seen: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    began = time.monotonic()
    for seed in seeds:
        if found := complaint(seed, seen):
            wrong[seed] = found
            if not as_json:
                print(f"seed {seed}: {found}", flush=True)
        if seed % 64 == 0:
            gc.collect()
    took = time.monotonic() - began
    if as_json:
        print(json.dumps({"wrong": wrong, "seen": seen}))
    else:
        for what, times in sorted(seen.items()):
            print(f"{times:14,} {what}")
        print(f"{len(seeds):,} runs, {len(wrong)} failed, {took:.1f} s")
    return bool(wrong)


def hunt(bug: str, seeds: Sequence[int]) -> int:
    """Print the run that finds a planted bug."""
    with MUTANTS[bug]():
        for seed in seeds:
            if found := complaint(seed, Counter()):
                print(json.dumps({"seed": seed, "found": found}))
                return 0
    return 1


def main(words: list[str]) -> int:
    """Run."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONHASHSEED": "0"})
    gc.disable()
    if words[0] == "--plant":
        return hunt(words[1], range(int(words[2]), int(words[2]) + int(words[3])))
    as_json = words[0] == "--json"
    numbers = [int(word) for word in words[as_json:]]
    if len(numbers) == 1:
        return show(numbers[0])
    return many(range(numbers[0], numbers[0] + numbers[1]), as_json=as_json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
