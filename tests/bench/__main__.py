"""What confpy costs, beside other programs and beside a floor. Figures for people, asserted nowhere.

Programs are measured in turns, in one run on one machine: compare ratios, not seconds of another day.
docs/performance.md says what the rows mean.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.bench import report, rows
from tests.bench.bench import FULL, QUICK, Bench, Sizes, say
from tests.bench.changes import measure_changes
from tests.bench.once import measure_cold_start, measure_once, measure_start
from tests.bench.programs import confpy, peers

ETCD, CONSUL = ("confpy", "confd"), ("confpy", "confd", "consul-template")


def parts(bench: Bench) -> dict[str, Callable[[], None]]:
    """Return what can be measured by itself, in the order in which it is."""
    sizes = bench.sizes

    def once() -> None:
        measure_once(bench, "etcd", sizes.many, 20, kinds=ETCD, rounds=sizes.rounds, cold=True)

    def once_consul() -> None:
        measure_once(bench, "consul", sizes.many, 20, kinds=CONSUL, rounds=sizes.rounds)

    def cold() -> None:
        measure_cold_start(bench)
        measure_once(bench, "etcd", sizes.few, 20, kinds=ETCD, rounds=sizes.starts)

    def scale() -> None:
        steps = (1, sizes.few, sizes.most) if sizes.many >= sizes.most else (1, 10, sizes.few, sizes.many, sizes.most)
        for size in steps:
            rounds = {sizes.most: 1, sizes.many: min(2, sizes.rounds)}.get(size, sizes.rounds)
            measure_once(bench, "etcd", size, 5, kinds=ETCD, rounds=rounds)
            measure_start(bench, size, 5, rounds=rounds)
        for run in ("once", "start"):
            bench.figures.per_resource(run, "cpu", (1, sizes.few, sizes.most), 5)

    def start() -> None:
        measure_start(bench, sizes.many, 20, rounds=sizes.rounds - 1)

    def change() -> None:
        for size in (1, sizes.few, sizes.many):
            measure_changes(bench, "etcd", size, 20, kinds=ETCD)

    def change_consul() -> None:
        measure_changes(bench, "consul", sizes.many, 20, kinds=("confpy", "consul-template"))

    return {
        "cold": cold,
        "once": once,
        "once-consul": once_consul,
        "start": start,
        "change": change,
        "change-consul": change_consul,
        "scale": scale,
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="measure confd=PATH or consul-template=PATH too",
    )
    parser.add_argument("--compare", metavar="CHECKOUT", help="measure another checkout of confpy too")
    parser.add_argument(
        "--only", metavar="PART,…", help="measure these parts alone: " + ", ".join(parts(Bench([], QUICK)))
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured")
    parser.add_argument("--resources", type=int, metavar="N", help="how many are many (1000)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="small sizes, once: whether all can be measured (a minute)")
    how.add_argument("--full", action="store_true", help="more rounds, more patience (two hours)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    sizes = QUICK if chosen.quick else FULL if chosen.full else Sizes()
    if chosen.rounds:
        sizes = replace(sizes, rounds=chosen.rounds, batches=chosen.rounds, starts=max(chosen.rounds, 3))
    if chosen.resources:
        sizes = replace(sizes, many=chosen.resources)
    try:
        bench = Bench([confpy(), *peers(chosen.peer, chosen.compare)], sizes)
    except ValueError as error:
        say(str(error))
        return 2
    only = chosen.only.split(",") if chosen.only else []
    about = report.machine()
    runs = parts(bench)
    if unknown := set(only) - set(runs):
        say(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(runs)}")
        return 2
    wanted = rows.of_parts(rows.table(sizes.few, sizes.many, sizes.most), only)
    try:
        for name, run in runs.items():
            if not only or name in only:
                try:
                    run()
                except Exception:  # noqa: BLE001 - the other parts are worth having, and its rows are missing in the end
                    traceback.print_exc()
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
        cells = report.paired(bench, wanted)
        sys.stdout.write("\n".join(report.lines(cells)) + "\n")
        if chosen.json:
            Path(chosen.json).write_text(report.document(bench, about, wanted), encoding="utf-8")
    # A program that is too slow, or a peer that fails, is a figure; a figure of this confpy that is missing is not.
    missing = [now.row.what for now, _ in cells if now.own is None or (now.own.failed and not now.own.limit)]
    for what in missing:
        say(f"not measured: {what}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
