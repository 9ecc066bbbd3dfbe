"""A real ZooKeeper in a temporary folder: started, wounded, brought back, and gone without a trace."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.interfaces import IAsyncResult

from confpy.keys.prefixes import ROOT, ancestors
from tests.servers.persistent import PersistentServer
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

JAR = "/usr/share/java/zookeeper.jar"
"""Of Debian's libzookeeper-java; it names the jars that it needs."""
ENTRY = "org.apache.zookeeper.server.ZooKeeperServerMain"

LOGS = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.SimpleLayout
"""


class ZooKeeper(PersistentServer):
    """One server. ``endpoint`` stays the same through restarts."""

    name = "zookeeper"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.endpoint = f"zookeeper://127.0.0.1:{self.port}"
        (self.folder / "data").mkdir()
        (self.folder / "zoo.cfg").write_text(
            f"tickTime=500\ndataDir={self.folder}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxSessionTimeout=60000\n"
        )
        (self.folder / "log4j.properties").write_text(LOGS)
        self.client: KazooClient | None = None
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start it (again) on what its folder holds; return when it answers."""
        command = [
            find("java"), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
            "-cp", f"{self.folder}:{JAR}", ENTRY, str(self.folder / "zoo.cfg"),
        ]  # fmt: skip
        self.run(command, {"PATH": os.defpath})
        wait_until(self._answers, seconds=90, what=f"ZooKeeper answers at {self.endpoint}")
        # It divides the time for an answer by the number of hosts: a server that has just started may never give one.
        self.client = KazooClient(",".join([f"127.0.0.1:{self.port}"] * 10), timeout=30)
        self.client.start(60)

    def _answers(self) -> bool:
        self.alive()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
            probe.settimeout(5)
            probe.sendall(b"ruok")
            return probe.recv(100) == b"imok"

    def kill(self) -> None:
        if self.client is not None:
            self.client.stop()
            self.client.close()
            self.client = None
        super().kill()

    # --- keys --------------------------------------------------------------------------------------------------------

    @property
    def at(self) -> KazooClient:
        assert self.client is not None
        return self.client

    def put(self, path: str, value: str) -> None:
        self.update({path: value})

    def delete(self, path: str) -> None:
        self.update({path: None})

    def update(self, keys: Mapping[str, str | None]) -> None:
        """Put keys, with the nodes above them, and delete those that are None; raises ``ZooKeeperSaysNo``."""
        put = {key: value.encode("utf-8", "surrogateescape") for key, value in keys.items() if value is not None}
        sent = {key: self.at.set_async(key, value) for key, value in put.items()}
        absent = [key for key, one in sent.items() if not _succeeds(one, NoNodeError)]
        new = sorted({above for key in absent for above in ancestors(key) if above != ROOT})
        made = [self.at.create_async(path, put.get(path, b"")) for path in new]
        made += [self.at.delete_async(key) for key, value in keys.items() if value is None]
        for one in made:
            _succeeds(one, NodeExistsError, NoNodeError)

    def replace(self) -> None:
        """Start a new and empty one at the same address."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        (self.folder / "data").mkdir()
        self.start()

    def clear(self) -> None:
        """Remove everything."""
        paths = [ROOT]
        for parent in paths:
            below = self.at.get_children(parent)
            paths += [f"{parent.rstrip(ROOT)}/{child}" for child in below if child != "zookeeper"]
            if len(below) > 1000:  # no node below such a one has children here
                break
        for one in [self.at.delete_async(path) for path in reversed(paths[1:])]:
            _succeeds(one, NoNodeError)


def _succeeds(result: IAsyncResult, *errors: type[KazooException]) -> bool:
    """Whether what was asked for was done, or one of these errors stood against it."""
    try:
        result.get()
    except errors:
        return False
    return True


ZooKeeperSaysNo = KazooException
