"""Many confpys on one etcd: the memory of each, the load on etcd, and how soon one put has reached all."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any

from tests.bench.bench import Bench, say
from tests.bench.confdirs import Confdir
from tests.bench.folders import Folder
from tests.bench.processes import Running, cpu, proportional, resident
from tests.bench.rows import shown
from tests.bench.stores import Store, opened

FLEET = 10_000
"""What the figures are extrapolated to."""


def measure_fleet(bench: Bench, number: int, *, puts: int = 20, rest: float = 20) -> dict[str, Any]:
    """Return what ``number`` daemons cost that all follow the same 20 keys: bytes and seconds."""
    say(f"a fleet of {number}")
    with opened("etcd") as store, contextlib.ExitStack() as stack:
        assert store.server is not None
        assert store.server.process is not None
        etcd = store.server.process.pid
        confdirs = [bench.confdir(bench.own, 1, 20) for _ in range(number)]
        store.keys.put_all(confdirs[0].all_keys())
        time.sleep(1)
        alone, at_rest = resident(etcd), rate(etcd, rest / 2)
        began, used = time.perf_counter(), cpu(etcd)
        running = [stack.enter_context(bench.started(confdir, store)) for confdir in confdirs]
        for one, confdir in zip(running, confdirs, strict=True):
            one.wait(confdir.complete, 300)
        started = time.perf_counter() - began
        start = {"wall": started, "etcd_cpu": cpu(etcd) - used - at_rest * started}
        say("  all have made their files")
        time.sleep(3)
        found: dict[str, Any] = {
            "number": number,
            "start": start,
            "memory": {
                "resident": of([resident(one.pid) for one in running]),
                "proportional": of([proportional(one.pid) for one in running]),
            },
            "etcd": {"memory_alone": alone, "memory": resident(etcd), "watchers": watchers(store)},
        }
        own = [cpu(one.pid) for one in running]
        busy = rate(etcd, rest)
        found["rest"] = {
            "etcd_cpu_a_minute_alone": at_rest * 60,
            "etcd_cpu_a_minute": busy * 60,
            "cpu_a_minute": statistics.median(cpu(one.pid) - then for one, then in zip(running, own, strict=True))
            * 60 / rest,
        }  # fmt: skip
        found["put"] = fan_out(store, (etcd, busy), confdirs, running, puts)
    return found | {"extrapolated": extrapolated(found)}


def rate(pid: int, seconds: float) -> float:
    """Return the share of a processor that a process takes for some seconds."""
    used, began = cpu(pid), time.perf_counter()
    time.sleep(seconds)
    return (cpu(pid) - used) / (time.perf_counter() - began)


def of(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "most": max(values), "sum": sum(values)}


def watchers(store: Store) -> int:
    """Return how many watches etcd has."""
    connection = HTTPConnection("127.0.0.1", store.port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("etcd_debugging_mvcc_watcher_total"))


def fan_out(
    store: Store, at_rest: tuple[int, float], confdirs: Sequence[Confdir], running: Sequence[Running], puts: int
) -> dict[str, Any]:
    """Return how long after the answer to a put the first, the median and the last file have it, and what that costs.

    ``at_rest`` are etcd's pid, and what it takes of a processor without any put.
    """
    etcd, busy = at_rest
    first, middle, last, at_etcd, at_each = [], [], [], [], []
    with contextlib.closing(Folder(*(confdir.folder / "out" for confdir in confdirs))) as folder:
        for turn in range(puts + 1):
            mark, began = f"turn{turn}.", time.perf_counter()
            used, own = cpu(etcd), sum(cpu(one.pid) for one in running)
            left = {confdir.target(0) for confdir in confdirs}
            times: list[float] = []
            folder.drain()
            store.keys.put(confdirs[0].key(0, turn % 20), mark)
            put = time.perf_counter()

            def done(left=left, times=times, mark=mark, put=put) -> bool:
                for target in [one for one in left if mark in one.read_text()]:
                    left.remove(target)
                    times.append(time.perf_counter() - put)
                return not left

            folder.wait(done, 60)
            time.sleep(1)
            if turn:
                first.append(min(times))
                middle.append(statistics.median(times))
                last.append(max(times))
                at_etcd.append(cpu(etcd) - used - busy * (time.perf_counter() - began))
                at_each.append((sum(cpu(one.pid) for one in running) - own) / len(running))
    return {
        "first": statistics.median(first), "median": statistics.median(middle), "last": statistics.median(last),
        "last_at_most": max(last), "etcd_cpu": statistics.median(at_etcd), "cpu_of_each": statistics.median(at_each),
    }  # fmt: skip


def extrapolated(found: dict[str, Any], fleet: int = FLEET) -> dict[str, Any]:
    """Return what a larger fleet would cost etcd, if each daemon costs what each does in this one."""
    times, etcd, rest = fleet / found["number"], found["etcd"], found["rest"]
    alone = rest["etcd_cpu_a_minute_alone"]
    return {
        "number": fleet,
        "etcd_memory": etcd["memory_alone"] + (etcd["memory"] - etcd["memory_alone"]) * times,
        "etcd_watchers": etcd["watchers"] * times,
        "etcd_cpu_of_a_put": found["put"]["etcd_cpu"] * times,
        "etcd_cpu_a_minute_at_rest": alone + (rest["etcd_cpu_a_minute"] - alone) * times,
        "etcd_cpu_of_the_start": found["start"]["etcd_cpu"] * times,
    }


def told(found: dict[str, Any]) -> list[str]:
    """Return it as rows: what, figure, and the figure extrapolated."""
    memory, etcd, put, more = found["memory"], found["etcd"], found["put"], found["extrapolated"]
    rows = [
        ("memory of each: resident", shown(memory["resident"]["median"], "B"), ""),
        ("memory of each: proportional", shown(memory["proportional"]["median"], "B"), ""),
        ("one put: in the first file after", shown(put["first"], "s"), ""),
        ("one put: in half of the files after", shown(put["median"], "s"), ""),
        ("one put: in all files after", shown(put["last"], "s"), ""),
        ("one put: CPU of each confpy", shown(put["cpu_of_each"], "s"), ""),
        ("one put: CPU of etcd", shown(put["etcd_cpu"], "s"), shown(more["etcd_cpu_of_a_put"], "s")),
        ("watches of etcd", f"{etcd['watchers']:,}", f"{more['etcd_watchers']:,.0f}"),
        ("memory of etcd", shown(etcd["memory"], "B"), shown(more["etcd_memory"], "B")),
        (
            "CPU of etcd a minute, at rest",
            shown(found["rest"]["etcd_cpu_a_minute"], "s"),
            shown(more["etcd_cpu_a_minute_at_rest"], "s"),
        ),
        ("CPU of each confpy a minute, at rest", shown(found["rest"]["cpu_a_minute"], "s"), ""),
        (
            "start of all: CPU of etcd",
            shown(found["start"]["etcd_cpu"], "s"),
            shown(more["etcd_cpu_of_the_start"], "s"),
        ),
    ]
    head = f"| | {found['number']} | extrapolated to {more['number']:,} |"
    return [head, "|---|---|---|", *(f"| {what} | {figure} | {further} |" for what, figure, further in rows)]
