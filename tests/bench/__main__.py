"""What confpy costs, beside other programs and beside a floor. Figures for people, asserted nowhere.

Programs are measured in turns, in one run on one machine: compare ratios, not seconds of another day.
docs/performance.md says what the rows mean.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import fleet, report, rows, soak
from tests.bench.bench import FULL, QUICK, Bench, Sizes, say
from tests.bench.fleet import measure_fleet
from tests.bench.parts import PARTS
from tests.bench.programs import confpy, peers
from tests.bench.soak import measure_soak
from tests.bench.table import table


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
    parser.add_argument("--only", metavar="PART,…", help="measure these parts alone: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured")
    parser.add_argument("--resources", type=int, metavar="N", help="how many are many (1000)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="small sizes, once: whether all can be measured (a minute)")
    how.add_argument("--full", action="store_true", help="more rounds, more patience (two hours)")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--soak", metavar="TIME", help="run random changes for TIME (30m, 90s) in place of the table")
    other.add_argument("--fleet", type=int, metavar="N", help="run N confpys on one etcd in place of the table")
    return parser.parse_args()


def duration(text: str) -> float:
    """Return the seconds of ``90s``, ``30m`` or ``2h``; raises ``ValueError``."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def beside_the_table(bench: Bench, chosen: argparse.Namespace, about: dict[str, Any]) -> int:
    """Run the fleet or the soak; return the exit code: 1 where files were wrong."""
    try:
        if chosen.fleet:
            name, found = "fleet", measure_fleet(bench, chosen.fleet)
            lines, wrong = fleet.told(found), False
        else:
            name, found = "soak", measure_soak(bench, duration(chosen.soak))
            lines, wrong = soak.told(found), bool(found["late"] or found["wrong_in_the_end"])
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    sys.stdout.write("\n".join(lines) + "\n")
    if chosen.json:
        what = {"measured": report.measured(), "machine": about, "version": bench.own.version(), **found}
        report.update(Path(chosen.json), {name: what})
    return int(wrong)


def main() -> int:
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended
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
    if chosen.fleet or chosen.soak:
        return beside_the_table(bench, chosen, about)
    if unknown := set(only) - set(PARTS):
        say(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return 2
    wanted = rows.of_parts(table(sizes), only)
    try:
        for name, measure in PARTS.items():
            if not only or name in only:
                try:
                    measure(bench)
                except Exception:  # noqa: BLE001 - the other parts are worth having, and its rows are missing in the end
                    traceback.print_exc()
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
        cells = report.paired(bench, wanted)
        sys.stdout.write("\n".join(report.lines(cells)) + "\n")
        if chosen.json:
            report.update(Path(chosen.json), report.document(bench, about, wanted))
    # A program that is too slow, or a peer that fails, is a figure; a figure of this confpy that is missing is not.
    missing = [now.row.what for now, _ in cells if now.own is None or (now.own.failed and not now.own.limit)]
    for what in missing:
        say(f"not measured: {what}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
