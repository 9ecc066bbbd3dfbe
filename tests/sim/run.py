"""Live lives by hand: ``python -m tests.sim.run SEED`` shows one, ``… FIRST COUNT`` lives many and counts."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from collections import Counter

from tests.sim.life import Wrong, live


def show(seed: int) -> int:
    try:
        life = live(seed, verbose=True)
    except Wrong as wrong:
        print(f"seed {seed}: {wrong}")
        return 1
    print(f"seed {seed}: all right, {life.digest:08x}")
    return 0


def many(first: int, count: int) -> int:
    seen: Counter[str] = Counter()
    failed = 0
    began = time.monotonic()
    gc.disable()
    for seed in range(first, first + count):
        try:
            life = live(seed)
            seen += life.seen
        except Wrong as wrong:
            failed += 1
            print(f"seed {seed}: {wrong}", flush=True)
        except Exception:
            failed += 1
            print(f"seed {seed}: {traceback.format_exc(limit=-4)}", flush=True)
        if seed % 50 == 0:
            gc.collect()
    took = time.monotonic() - began
    for what, times in sorted(seen.items()):
        print(f"{times:12,} {what}")
    print(f"{count} lives, {failed} failed, {took:.1f} s, {took / count * 1000:.1f} ms each")
    return bool(failed)


def main() -> int:
    """Run."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names have to be walked in one order
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONHASHSEED": "0"})
    numbers = [int(word) for word in sys.argv[1:]]
    return many(*numbers) if len(numbers) > 1 else show(*numbers)


if __name__ == "__main__":
    sys.exit(main())
