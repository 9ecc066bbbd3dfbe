"""A whole confpy that watches a real etcd, and what happens to etcd: the next change arrives, and nothing spins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Confpy
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

SHORT_OUTAGE = 20.0
"""Seconds."""


class Follower:
    """A confpy over ``prefixes``, each a resource that prints its keys."""

    def __init__(
        self,
        folder: Path,
        *nodes: str,
        backend: str = "etcdv3",
        prefixes: tuple[str, ...] = ("/app",),
        resync: str = "2s",
    ) -> None:
        self.folder = folder
        for name in ("conf.d", "templates", "out"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_text(
            '{% for key, value in gets("/*/*") + gets("/*/*/*") %}{{ key }}={{ value }}\n{% endfor %}'
        )
        for number, prefix in enumerate(prefixes):
            (folder / "conf.d" / f"{number:04}.toml").write_text(
                f'[template]\nsrc = "t.j2"\ndest = "{folder}/out/{number:04}"\nkeys = ["{prefix}"]\n'
            )
        flags = [part for node in nodes for part in ("-node", node)]
        self.confpy = Confpy(
            "-watch", "-backend", backend, *flags, "-confdir", str(folder), "-resync", resync, folder=folder
        )

    def text(self, number: int = 0) -> str:
        target = self.folder / "out" / f"{number:04}"
        return target.read_text() if target.exists() else ""

    def shows(self, line: str, *, number: int = 0, seconds: float = 30) -> None:
        wait_until(lambda: line in self.text(number).splitlines(), seconds=seconds, what=f"{line} in the target")

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.confpy.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def waits(self) -> int:
        """How often its threads have begun to wait so far."""
        found = 0
        for task in Path(f"/proc/{self.confpy.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended
                found += int((task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return found

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.confpy.process.pid}/task"))


def uptime() -> float:
    """Seconds since the machine started."""
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.fixture
def follower(tmp_path: Path, etcd: Etcd) -> Iterator[Follower]:
    etcd.put("/app/a", "1")
    found = Follower(tmp_path, etcd.endpoint)
    with found.confpy:
        found.shows("/app/a=1")
        yield found
    assert not [event for event in found.confpy.events if "a bug in confpy" in str(event)]


def test_a_change_after_etcd_was_killed_and_restarted_arrives(etcd, follower):
    etcd.kill()
    follower.confpy.says("watch.lost")
    etcd.start()
    etcd.put("/app/b", "2")
    follower.shows("/app/b=2")


def test_a_change_during_and_after_twenty_frozen_seconds_arrives(etcd, follower):
    etcd.freeze()
    since = uptime()
    follower.confpy.says("store.lost", seconds=20)
    wait_until(lambda: uptime() - since > 20, seconds=25, what="20 s have passed")
    etcd.thaw()
    etcd.put("/app/b", "2")
    follower.shows("/app/b=2")
    follower.confpy.says("store.recovered")


def test_changes_that_were_compacted_while_nobody_watched_arrive(tmp_path, etcd, proxy):
    etcd.put("/app/a", "1")
    follower = Follower(tmp_path, proxy.endpoint, resync="300s")
    with follower.confpy:
        follower.shows("/app/a=1")
        proxy.refuse()
        proxy.reset()
        follower.confpy.says("watch.lost")
        etcd.put("/app/b", "2")
        etcd.delete("/app/a")
        etcd.put("/other", "x")
        etcd.compact()
        proxy.heal()
        follower.shows("/app/b=2")
        assert "/app/a" not in follower.text()
        etcd.put("/app/c", "3")
        follower.shows("/app/c=3")


def test_a_store_restored_from_an_older_backup_is_followed(etcd, follower):
    backup = etcd.backup()
    etcd.put("/app/lost", "1")
    follower.shows("/app/lost=1")
    etcd.restore(backup)
    etcd.put("/app/b", "2")
    follower.shows("/app/b=2")
    wait_until(lambda: "/app/lost" not in follower.text(), seconds=30, what="the key that never was is gone")


def test_another_cluster_at_the_same_address_is_followed(etcd, follower):
    etcd.replace()
    etcd.put("/app/b", "2")
    follower.shows("/app/b=2")
    wait_until(lambda: "/app/a" not in follower.text(), seconds=30, what="the other cluster's keys are gone")


def test_an_established_stream_that_falls_silent_is_late_by_no_more_than_a_resync(tmp_path, etcd, proxy):
    etcd.put("/app/a", "1")
    # The store is asked on a connection of its own; the node of the stream is the one that says nothing.
    follower = Follower(tmp_path, proxy.endpoint, etcd.endpoint, resync="2s")
    with follower.confpy:
        follower.shows("/app/a=1")
        proxy.black_hole()
        etcd.put("/app/b", "2")
        follower.shows("/app/b=2", seconds=60)


def test_an_outage_is_spent_asleep_however_long_it_lasts(etcd, follower):
    threads = follower.threads()
    etcd.kill()
    follower.confpy.says("store.lost")
    cpu, waits, since = follower.cpu(), follower.waits(), uptime()
    wait_until(lambda: uptime() - since > SHORT_OUTAGE, seconds=90, what="the outage has lasted")
    # One thread that spins uses as much processor time as passes, one that polls waits a hundred times a second.
    assert follower.cpu() - cpu < SHORT_OUTAGE / 3
    assert follower.waits() - waits < SHORT_OUTAGE * 30
    assert follower.threads() <= threads + 4
    etcd.start()
    etcd.put("/app/b", "2")
    follower.shows("/app/b=2", seconds=90)


def test_interleaved_changes_of_two_watches_survive_a_reconnect_in_the_middle(tmp_path, etcd, proxy):
    etcd.put_all({"/one/k": "0", "/two/k": "0"})
    follower = Follower(tmp_path, proxy.endpoint, prefixes=("/one", "/two"), resync="300s")
    with follower.confpy:
        follower.shows("/one/k=0", number=0)
        follower.shows("/two/k=0", number=1)
        for number in range(1, 301):
            etcd.put(("/one/k", "/two/k")[number % 2], str(number))
            etcd.put(f"/{('two', 'one')[number % 2]}/n{number}", "x")
            if number % 100 == 50:
                proxy.reset()
        follower.shows("/two/k=299", number=1)
        follower.shows("/one/k=300", number=0)
        for number in range(1, 301):
            follower.shows(f"/{('two', 'one')[number % 2]}/n{number}=x", number=(number + 1) % 2)


@pytest.mark.parametrize(
    ("prefixes", "reads"),
    [
        (tuple(f"/svc/{number:04}" for number in range(1000)), 2),
        (("/svc",) * 1000, 1),
    ],
    ids=["different prefixes", "one prefix"],
)
def test_a_thousand_resources_cost_the_store_a_small_number_of_reads_and_one_stream(
    tmp_path, etcd, proxy, prefixes, reads
):
    etcd.put_all({f"{prefix if reads > 1 else '/svc/0999'}/a": "1" for prefix in prefixes})
    follower = Follower(tmp_path, proxy.endpoint, prefixes=prefixes, resync="300s")
    with follower.confpy:
        wait_until(lambda: len(list((tmp_path / "out").iterdir())) == 1000, seconds=60, what="all targets are there")
        wait_until(lambda: proxy.count("/watch"), what="the stream is open")
        etcd.put("/svc/0999/a", "2")
        follower.shows("/svc/0999/a=2", number=999)
        assert (proxy.count("kv/txn") + proxy.count("kv/range"), proxy.count("/watch")) == (reads, 1)
