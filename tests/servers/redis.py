"""A real Redis in a temporary folder: started, wounded, brought back, and gone without a trace."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from typing import Any

from redis import Redis as Client
from redis.exceptions import RedisError

from tests.servers.persistent import PersistentServer
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

PASSWORD = "test-password"
"""Of everybody who has one here."""


class Redis(PersistentServer):
    """One server. ``endpoint`` stays the same through restarts."""

    name = "redis"

    def __init__(self, *, events: str = "AKE", started: bool = True, **config: str) -> None:
        """``events``: the notifications that it sends. ``config`` has its other settings, ``_`` for each ``-``."""
        super().__init__()
        self.port = free_port()
        self.endpoint = f"redis://127.0.0.1:{self.port}"
        self.socket = self.folder / "socket"
        (self.folder / "data").mkdir()
        settings = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder / "data"), "save": '""',
            "unixsocket": str(self.socket), "notify-keyspace-events": f'"{events}"', "appendonly": "no",
            **{name.replace("_", "-"): value for name, value in config.items()},
        }  # fmt: skip
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.folder / "redis.conf").write_text(lines)
        self.client = Client(port=self.port, socket_timeout=30)
        if started:
            try:
                self.start()
            except BaseException:
                self.stop()
                raise

    def start(self) -> None:
        """Start it (again) on what its folder holds; return when it answers."""
        self.run([find("redis-server"), str(self.folder / "redis.conf")], {"PATH": "/usr/bin:/bin"})
        wait_until(self._answers, seconds=60, what=f"Redis answers at {self.endpoint}")

    def _answers(self) -> bool:
        self.alive()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
            probe.settimeout(5)
            probe.sendall(b"PING\r\n")
            said = probe.recv(100)
            return said.startswith((b"+PONG", b"-NOAUTH"))

    def stop(self) -> None:
        self.client.close()
        super().stop()

    # --- keys --------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: str) -> None:
        self.client.set(_bytes(key), _bytes(value))

    def delete(self, key: str) -> None:
        self.client.delete(_bytes(key))

    def update(self, keys: Mapping[str, str | None]) -> None:
        """Put keys, and delete those that are None."""
        pipeline = self.client.pipeline(transaction=False)
        for key, value in keys.items():
            if value is None:
                pipeline.delete(_bytes(key))
            else:
                pipeline.set(_bytes(key), _bytes(value))
        pipeline.execute()

    def do(self, *command: Any) -> Any:
        """Run any command."""
        return self.client.execute_command(*command)

    def allow(self, user: str, *rules: str) -> None:
        """Let a user with the password do what the rules of an ACL say."""
        self.do("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *rules)

    def replace(self) -> None:
        """Start a new and empty one at the same address."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        (self.folder / "data").mkdir()
        self.start()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


RedisSaysNo = RedisError
