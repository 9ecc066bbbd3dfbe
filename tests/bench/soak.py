"""A soak: random changes, restarts of the store and edits of the confdir, for as long as one likes.

What the files have to be is worked out here from the keys and edits alone. Memory, threads, descriptors and the size of
what is stored are sampled; where they stay flat, nothing piles up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.bench import Bench, say
from tests.bench.processes import Running, cpu, descriptors, proportional, resident, threads
from tests.bench.rows import shown
from tests.servers.etcd import Etcd

RESOURCES, KEYS = 50, 10
EACH = 10.0
"""Seconds between two looks at the files and at the process."""
PATIENCE = 60.0
"""Seconds within which the files have to be right once nothing changes any more."""
KINDS = ("resident", "proportional", "threads", "descriptors", "stored")


@dataclass
class World:
    """The keys, and what each resource's template begins with: all that the files follow from."""

    folder: Path
    keys: dict[str, str] = field(default_factory=dict)
    heads: dict[int, str] = field(default_factory=dict)

    def key(self, number: int, key: int) -> str:
        return f"/soak/{number:03}/{key:02}"

    def write(self, number: int, head: str) -> None:
        """Write a resource and its template, as an editor does."""
        self.heads[number] = head
        template = f'{head}\n{{% for key, value in gets("/soak/{number:03}/*") %}}{{{{ key }}}}={{{{ value }}}}\n'
        (self.folder / "templates" / f"{number:03}.j2").write_text(template + "{% endfor %}")
        (self.folder / "conf.d" / f"{number:03}.toml").write_text(
            f'[template]\nsrc = "{number:03}.j2"\ndest = "{self.target(number)}"\nkeys = ["/soak/{number:03}"]\n'
        )

    def remove(self, number: int) -> None:
        """Remove a resource; its file stays as it is."""
        del self.heads[number]
        (self.folder / "conf.d" / f"{number:03}.toml").unlink()

    def target(self, number: int) -> Path:
        return self.folder / "out" / f"{number:03}"

    def wrong(self) -> list[int]:
        """Return the resources whose files are not what they have to be."""
        found = []
        for number, head in self.heads.items():
            prefix = f"/soak/{number:03}/"
            lines = [f"{key}={value}\n" for key, value in sorted(self.keys.items()) if key.startswith(prefix)]
            try:
                right = self.target(number).read_text() == f"{head}\n{''.join(lines)}"
            except FileNotFoundError:
                right = False
            if not right:
                found.append(number)
        return found


class Soak:
    """One run of it, whose chances come of ``seed``."""

    def __init__(self, bench: Bench, etcd: Etcd, seed: int) -> None:
        self._chance = random.Random(seed)
        self._etcd = etcd
        self.counts: dict[str, int] = {}
        self.samples: list[dict[str, float]] = []
        self.late: list[str] = []
        self.folder = bench.fresh("soak")
        for part in ("conf.d", "templates", "out", "state", "cache"):
            (self.folder / part).mkdir(parents=True, mode=0o700)
        self.world = World(self.folder)
        for number in range(RESOURCES):
            self.world.write(number, "# 0")
            self.world.keys |= {self.world.key(number, key): "0" for key in range(KEYS)}
        etcd.put_all(self.world.keys)
        command = [*bench.own.command, "-watch", "-backend", "etcdv3", "-confdir", str(self.folder)]
        self.running = Running([*command, "-node", etcd.endpoint], bench.own.environment(self.folder), self.folder)

    def run(self, seconds: float) -> None:
        """Go on for ``seconds``, and end at rest."""
        began, turn = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            self._spell(EACH * 0.6)
            if turn % 6 == 5:
                self._trouble()
            if turn % 2:
                self._edit()
            self._settle()
            self._sample(time.monotonic() - began)
            turn += 1
            if turn % 30 == 0:
                say(f"  {time.monotonic() - began:.0f} s: {shown(self.samples[-1]['resident'], 'B')}, {self.counts}")

    def _count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def _spell(self, seconds: float) -> None:
        """Change keys: one, several at once, deleted and made again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            number = self._chance.randrange(RESOURCES)
            key, value = self.world.key(number, self._chance.randrange(KEYS)), f"{self._chance.random():.12f}"
            kind = self._chance.random()
            if kind < 0.7:
                self._etcd.put(key, value)
                self.world.keys[key] = value
                self._count("puts")
            elif kind < 0.85:
                some = {self.world.key(self._chance.randrange(RESOURCES), one): value for one in range(KEYS)}
                self._etcd.transact(some)
                self.world.keys |= some
                self._count("transactions")
            else:
                self._etcd.delete(key)
                self.world.keys.pop(key, None)
                self._count("deletes")
            time.sleep(self._chance.expovariate(1 / 0.03))

    def _trouble(self) -> None:
        kind = self._chance.choice(("restart", "freeze", "compaction"))
        if kind == "restart":
            self._etcd.restart()
        elif kind == "freeze":
            self._etcd.freeze()
            time.sleep(self._chance.uniform(0.5, 4))
            self._etcd.thaw()
        else:
            self._etcd.compact()
        self._count(f"{kind}s of etcd")

    def _edit(self) -> None:
        """Edit a template, or remove a resource and bring it back later."""
        number = self._chance.randrange(RESOURCES)
        if number in self.world.heads and self._chance.random() < 0.3:
            self.world.remove(number)
            self._count("resources removed")
        else:
            self.world.write(number, f"# {self._chance.random():.12f}")
            self._count("templates edited or resources added")

    def _settle(self) -> None:
        """Wait until all files are right; note those that are not in time."""
        until = time.monotonic() + PATIENCE
        while wrong := self.world.wrong():
            self.running.alive()
            if time.monotonic() > until:
                self.late.append(f"wrong after {PATIENCE:g} s: {', '.join(map(str, wrong))}")
                return
            time.sleep(0.05)

    def _sample(self, at: float) -> None:
        pid = self.running.pid
        stored = 0
        for path in (path for part in ("state", "cache") for path in (self.folder / part).rglob("*")):
            with suppress(FileNotFoundError):  # of the history: it may go while it is looked at
                stored += path.stat().st_size
        self.samples.append(
            {
                "at": at, "resident": resident(pid), "proportional": proportional(pid), "threads": threads(pid),
                "descriptors": descriptors(pid), "stored": stored, "cpu": cpu(pid),
            }
        )  # fmt: skip


def measure_soak(bench: Bench, seconds: float, *, seed: int = 13) -> dict[str, Any]:
    """Return what a soak of so many seconds found."""
    say(f"a soak of {seconds / 60:g} minutes")
    with Etcd() as etcd:
        soak = Soak(bench, etcd, seed)
        with soak.running:
            soak.run(seconds)
            wrong = soak.world.wrong()
        return {
            "seconds": seconds, "seed": seed, "did": soak.counts, "late": soak.late, "wrong_in_the_end": len(wrong),
            "kinds": {kind: trend(soak.samples, kind) for kind in KINDS},
            "cpu": soak.samples[-1]["cpu"] if soak.samples else 0.0,
            "samples": soak.samples[:: max(1, len(soak.samples) // 100)],
        }  # fmt: skip


def trend(samples: Sequence[dict[str, float]], kind: str) -> dict[str, float]:
    """Return the first sample after a fifth of the time, the last, the least, the most, and the slope an hour."""
    late = samples[len(samples) // 5 :]
    values = [one[kind] for one in late]
    per_second = slope([(one["at"], one[kind]) for one in late])
    return {
        "first": values[0], "last": values[-1], "least": min(values), "most": max(values),
        "an_hour": per_second * 3600,
    }  # fmt: skip


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line that fits best (least squares); 0 for less than two points."""
    if len(points) < 2:
        return 0.0
    x = sum(one for one, _ in points) / len(points)
    y = sum(one for _, one in points) / len(points)
    wide = sum((one - x) ** 2 for one, _ in points)
    return sum((one - x) * (other - y) for one, other in points) / wide if wide else 0.0


def told(found: dict[str, Any]) -> list[str]:
    """Return it as lines of a page."""
    did = ", ".join(f"{number:,} {what}" for what, number in found["did"].items())
    files = "all right" if not found["late"] and not found["wrong_in_the_end"] else f"WRONG: {found['late']}"
    rows = []
    for kind in KINDS:
        one, size = found["kinds"][kind], "" if kind in ("threads", "descriptors") else "B"
        figures = " | ".join(shown(one[name], size) for name in ("first", "last", "most", "an_hour"))
        rows.append(f"| {kind} | {figures} |")
    return [
        f"{found['seconds'] / 60:g} minutes: {did}. Files: {files}.",
        "",
        "| | after a fifth | at the end | at most | slope an hour |",
        "|---|---|---|---|---|",
        *rows,
    ]
