"""Memory of a daemon: what is freed goes back to the system, and what stays is not scanned again and again.

A one-shot does none of this: it ends before it would pay.
"""

from __future__ import annotations

import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's ``mallopt``."""
LARGE = 128 << 10
"""Bytes from which on a block is mapped alone, and unmapped when it is freed. It is glibc's first value, too, but that
raises it when such a block is freed, to 32 MiB: what a store was read into once would be held for good."""
RUNNING = gc.get_threshold()
FILLING = (10_000, 50, 1_000)
"""Thresholds of the collector until the first pass is over. Nearly all that is made meanwhile stays: with those of
Python, to scan it took a sixth of a start with 10,000 resources. Garbage stays bounded, also where no store is reached
for weeks."""


def prepare() -> None:
    """Set up the allocator, before there are threads, and turn the collector on: what there is, is not scanned."""
    # One heap for all threads: they run Python one at a time, and each heap of its own holds free memory of its own.
    _call("mallopt", M_ARENA_MAX, 1)
    _call("mallopt", M_MMAP_THRESHOLD, LARGE)
    _call("mallopt", M_TRIM_THRESHOLD, LARGE)
    gc.freeze()
    gc.set_threshold(*FILLING)
    gc.enable()


def settle() -> None:
    """After the first pass: what there is, stays, and is not scanned again; what the pass needed is given back."""
    gc.collect()  # what is frozen as garbage is never freed
    gc.freeze()
    gc.set_threshold(*RUNNING)
    _call("malloc_trim", 0)


def _call(function: str, *numbers: int) -> None:
    """Call a function of glibc; another C library does not have it, and some Pythons cannot call it."""
    try:
        from ctypes import CDLL

        getattr(CDLL(None), function)(*numbers)
    except (ImportError, AttributeError, OSError):
        pass
