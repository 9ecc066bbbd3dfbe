"""What confpy costs: start-up, a change among many resources, a burst, memory. Figures for people, asserted nowhere.

    scripts/bench [--peer /path/to/confd] [--resources 1000]

Each figure is the median of several, taken in one run on one machine; compare ratios, not seconds of another day.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.e2e.running import environment
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until

TICKS = os.sysconf("SC_CLK_TCK")


def row(name: str, figure: str) -> None:
    sys.stdout.write(f"{name:<58} {figure}\n")
    sys.stdout.flush()


def timed(run: Callable[[], object], times: int = 9) -> float:
    """Return the median of the seconds that ``run`` takes, after one that does not count."""
    run()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


class Place:
    """A confdir with many resources, each over a prefix of its own."""

    def __init__(self, folder: Path, resources: int, *, template: str, name: str, reload_cmd: str = "") -> None:
        self.folder = folder
        self.resources = resources
        for part in ("conf.d", "templates", "out"):
            (folder / part).mkdir(parents=True)
        (folder / "templates" / name).write_text(template)
        for number in range(resources):
            (folder / "conf.d" / f"{number:04}.toml").write_text(
                f'[template]\nsrc = "{name}"\ndest = "{self.target(number)}"\nkeys = ["/svc/{number:04}"]\n'
                + (f'reload_cmd = "{reload_cmd}"\n' if reload_cmd else "")
            )

    def target(self, number: int) -> Path:
        return self.folder / "out" / f"{number:04}"

    def shows(self, number: int, text: str) -> None:
        target = self.target(number)
        wait_until(lambda: target.exists() and text in target.read_text(), seconds=120, what=f"{text} in {target.name}")


JINJA = '{% for key, value in gets("/svc/*/*") %}{{ key }}={{ value }}\n{% endfor %}'
GO = '{{range gets "/svc/*/*"}}{{.Key}}={{.Value}}\n{{end}}'


def processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> float:
    """Return the resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_start(folder: Path, peer: str | None) -> None:
    place = Place(folder / "start", 1, template='{{ getv("/svc/0000", "x") }}\n', name="t.j2")
    ours = [sys.executable, "-m", "confpy", "-onetime", "-backend", "env", "-confdir", str(place.folder)]

    def run(command: Sequence[str]) -> None:
        subprocess.run(command, env=environment(folder), check=True, stderr=subprocess.DEVNULL)

    python = timed(lambda: run([sys.executable, "-c", "pass"]))
    confpy = timed(lambda: run(ours))
    row("one-shot, env, one resource in sync", f"{confpy * 1000:.0f} ms, of which Python itself {python * 1000:.0f}")
    if peer:
        (place.folder / "templates" / "t.j2").write_text('{{getv "/svc/0000" "x"}}\n')
        confd = timed(lambda: run([peer, *ours[3:], "-log-level", "error"]))
        row("  the peer", f"{confd * 1000:.0f} ms")


def measure_following(folder: Path, name: str, command: list[str], place: Place, resources: int) -> None:
    """Measure one follower of many resources: its start, one change, a burst."""
    with Etcd() as etcd, FaultProxy(etcd.port) as proxy:
        etcd.put_all({f"/svc/{number:04}/{key}": "1" for number in range(resources) for key in "abcd"})
        began = time.perf_counter()
        log = (folder / f"{name}.log").open("w")
        process = subprocess.Popen([*command, "-node", proxy.endpoint], env=environment(folder), stderr=log)
        try:
            for number in range(resources):
                place.shows(number, "a=1")
            row(f"{name}: {resources} resources, first pass", f"{time.perf_counter() - began:.2f} s")
            requests, passed = len(proxy.requests), proxy.bytes_down
            row("  requests and bytes for it", f"{requests}, {passed / 1e6:.2f} MB")
            row("  memory", f"{memory(process.pid):.0f} MB")
            delays, costs = [], []
            for turn in range(30):
                number, used = turn * 7 % resources, processor(process.pid)
                etcd.put(f"/svc/{number:04}/a", f"turn{turn}")
                put = time.perf_counter()
                target = place.target(number)
                while f"turn{turn}" not in target.read_text():
                    time.sleep(0.0002)
                delays.append(time.perf_counter() - put)
                costs.append(processor(process.pid) - used)
            row("  one change is in its file after", f"{statistics.median(delays) * 1000:.1f} ms (median of 30)")
            row("  processor time for each", f"{sum(costs) / len(costs) * 1000:.1f} ms")
            used, began = processor(process.pid), time.perf_counter()
            for turn in range(2000):
                etcd.put(f"/svc/{turn % 50:04}/b", f"burst{turn}")
            place.shows(1999 % 50, "burst1999")
            row("  2,000 puts to 50 resources", f"{time.perf_counter() - began:.1f} s")
            row("  processor time for them", f"{processor(process.pid) - used:.2f} s")
            row("  memory afterwards", f"{memory(process.pid):.0f} MB")
        finally:
            process.terminate()
            process.wait(20)
            log.close()


def measure_consul(folder: Path, resources: int) -> None:
    """Measure a change on Consul: resources of 20 keys each, one of which changes."""
    place = Place(folder / "consul", resources, template=JINJA, name="t.j2")
    command = [sys.executable, "-m", "confpy", "-watch", "-backend", "consul", "-confdir", str(place.folder)]
    with Consul() as consul:
        consul.transact({f"svc/{number:04}/{key:02}": "1" for number in range(resources) for key in range(20)})
        log = (folder / "consul.log").open("w")
        began = time.perf_counter()
        process = subprocess.Popen([*command, "-node", consul.endpoint], env=environment(folder), stderr=log)
        try:
            for number in range(resources):
                place.shows(number, "00=1")
            row(
                f"confpy on Consul: {resources} resources of 20 keys, first pass",
                f"{time.perf_counter() - began:.2f} s",
            )
            consul.put("svc/0000/00", "watched")
            place.shows(0, "watched")
            delays, used, turns = [], processor(process.pid), 20
            for turn in range(turns):
                number = (turn * 47 + 13) % resources
                target = place.target(number)
                time.sleep(0.5)  # each change finds it at rest
                consul.put(f"svc/{number:04}/07", f"turn{turn}")
                put = time.perf_counter()
                while f"turn{turn}" not in target.read_text():
                    time.sleep(0.0002)
                delays.append(time.perf_counter() - put)
            row("  one change is in its file after", f"{statistics.median(delays) * 1000:.1f} ms (median of {turns})")
            row("  processor time for each", f"{(processor(process.pid) - used) / turns * 1000:.1f} ms")
            row("  memory", f"{memory(process.pid):.0f} MB")
        finally:
            process.terminate()
            process.wait(20)
            log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a confd to measure beside it")
    parser.add_argument("--resources", type=int, default=1000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="confpy-bench-"))
    try:
        measure_start(folder, options.peer)
        place = Place(folder / "ours", options.resources, template=JINJA, name="t.j2")
        flags = ["-watch", "-backend", "etcdv3", "-confdir", str(place.folder)]
        ours = [sys.executable, "-m", "confpy", *flags]
        measure_following(folder, "confpy", ours, place, options.resources)
        measure_consul(folder, options.resources)
        if options.peer:
            place = Place(folder / "peer", options.resources, template=GO, name="t.tmpl")
            flags[-1] = str(place.folder)
            measure_following(folder, "the peer", [options.peer, *flags], place, options.resources)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
