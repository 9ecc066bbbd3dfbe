"""What can be measured by itself, in the order in which it is."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.bench import Bench
from tests.bench.changes import STEPS, measure_changes
from tests.bench.confdirs import SERVERS
from tests.bench.haproxy import measure_hanging, measure_reloads
from tests.bench.lasting import measure_growth, measure_rest, measure_storm
from tests.bench.once import measure_cold_start, measure_once, measure_start
from tests.bench.plans import measure_plans
from tests.bench.templates import measure_templates

ETCD, CONSUL = ("confpy", "confd"), ("confpy", "confd", "consul-template")


def cold(bench: Bench) -> None:
    measure_cold_start(bench)
    measure_once(bench, "etcd", bench.sizes.few, 20, kinds=ETCD, rounds=bench.sizes.starts)


def once(bench: Bench) -> None:
    measure_once(bench, "etcd", bench.sizes.many, 20, kinds=ETCD, rounds=bench.sizes.rounds, cold=True)


def once_consul(bench: Bench) -> None:
    measure_once(bench, "consul", bench.sizes.many, 20, kinds=CONSUL, rounds=bench.sizes.rounds)


def start(bench: Bench) -> None:
    measure_start(bench, bench.sizes.many, 20, rounds=max(1, bench.sizes.rounds - 1))  # the changes bring one more


def change(bench: Bench) -> None:
    for size in (1, bench.sizes.few, bench.sizes.many):
        measure_changes(bench, "etcd", size, 20, kinds=ETCD)


def change_consul(bench: Bench) -> None:
    measure_changes(bench, "consul", bench.sizes.many, 20, kinds=("confpy", "consul-template"))


def scale(bench: Bench) -> None:
    sizes = bench.sizes
    for size in sorted({1, 10, sizes.few, sizes.many, sizes.most}):
        rounds = 1 if size == sizes.most else min(2, sizes.rounds) if size == sizes.many else sizes.rounds
        measure_once(bench, "etcd", size, 5, kinds=ETCD, rounds=rounds)
        measure_start(bench, size, 5, rounds=rounds)
    for run in ("once", "start"):
        bench.figures.per_resource(run, "cpu", (1, sizes.few, sizes.most), 5)


def keys(bench: Bench) -> None:
    measure_changes(bench, "etcd", bench.sizes.many, bench.sizes.keys, kinds=("confpy",))
    for number in bench.sizes.key_steps:
        measure_changes(bench, "etcd", STEPS, number, kinds=ETCD)


def servers(bench: Bench) -> None:
    measure_changes(bench, "etcd", 1, bench.sizes.servers, kinds=ETCD, content=SERVERS)


PARTS: dict[str, Callable[[Bench], None]] = {
    "cold": cold,
    "once": once,
    "once-consul": once_consul,
    "start": start,
    "change": change,
    "change-consul": change_consul,
    "storm": measure_storm,
    "rest": measure_rest,
    "growth": measure_growth,
    "keys": keys,
    "servers": servers,
    "reloads": measure_reloads,
    "hanging": measure_hanging,
    "templates": measure_templates,
    "plans": measure_plans,
    "scale": scale,
}
