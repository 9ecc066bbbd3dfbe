"""A real Consul server in a temporary folder: started, wounded, brought back, and gone without a trace."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.servers.life import Living
from tests.servers.ports import free_port
from tests.waiting import wait_until

FETCHED = Path(__file__).parents[2] / ".cache" / "consul" / "consul"
BINARY = os.environ.get("CONFPY_TEST_CONSUL") or shutil.which("consul") or str(FETCHED)
"""Which Consul to run."""

TXN_OPERATIONS = 64
"""The most operations that Consul takes in one transaction."""
MASTER = "00000000-aaaa-bbbb-cccc-000000000001"
"""The token that may do everything, where access is controlled."""


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


class ConsulSaysNo(Exception):
    """An answer other than 200."""


class Consul(Living):
    """One server, one datacenter. ``endpoint`` stays the same through restarts."""

    name = "consul"

    def __init__(self, *, acl: bool = False, lists: bool = False, https: int = -1, **config: Any) -> None:
        """``acl``: control access, deny by default; ``lists``: recursive reads need a right of their own.

        ``https`` is a port for HTTPS, beside that of HTTP. ``config`` goes to Consul's configuration as it stands.
        """
        super().__init__()
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.token = MASTER if acl else ""
        ports = {name: free_port() for name in ("server", "serf_lan", "serf_wan")}
        settings: dict[str, Any] = {
            "server": True, "bootstrap_expect": 1, "node_name": "n", "datacenter": "dc1",
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "data_dir": str(self.folder / "data"),
            "ports": {"http": self.port, "https": https, "dns": -1, "grpc": -1, **ports},
            "performance": {"raft_multiplier": 1}, "disable_update_check": True, "leave_on_terminate": False,
            "limits": {"http_max_conns_per_client": 200, "txn_max_req_len": 8 << 20, "kv_max_value_size": 512 << 10},
        }  # fmt: skip
        if acl:
            tokens = {"master": MASTER, "agent": MASTER}
            settings["acl"] = {
                "enabled": True, "default_policy": "deny", "enable_key_list_policy": lists, "tokens": tokens,
            }  # fmt: skip
        (self.folder / "consul.json").write_text(json.dumps(settings | config))
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it (again) on what its folder holds; return when it can be written to."""
        command = [BINARY, "agent", f"-config-file={self.folder / 'consul.json'}", "-log-level=warn"]
        self.run(command, {"PATH": os.defpath})
        wait_until(self._answers, seconds=30, what=f"Consul answers at {self.endpoint}")

    def _answers(self) -> bool:
        self.alive()
        try:
            self.put("confpy-test-probe", "")
            self.delete("confpy-test-probe")
        except (OSError, http.client.HTTPException, ConsulSaysNo):
            return False
        return True

    # --- keys --------------------------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, body: bytes = b"", *, token: str | None = None, seconds: float = 10
    ) -> tuple[Any, int]:
        """Return the answer to a request below ``/v1/``, and its index."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, f"/v1/{path}", body, {"X-Consul-Token": token or self.token})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ConsulSaysNo(f"{response.status} {answer.decode(errors='replace')}")
        return json.loads(answer), int(response.headers.get("X-Consul-Index") or 0)

    def put(self, key: str, value: str | bytes) -> None:
        """Write one key (Consul's spelling: no leading slash)."""
        self.ask("PUT", f"kv/{quote(key)}", _bytes(value))

    def delete(self, key: str, *, prefix: bool = False) -> None:
        """Delete the key, or with ``prefix`` all keys that begin with it."""
        self.ask("DELETE", f"kv/{quote(key)}" + ("?recurse" if prefix else ""))

    def get(self, key: str) -> bytes:
        """Return the value of a key that is there."""
        return base64.b64decode(self.ask("GET", f"kv/{quote(key)}")[0][0]["Value"] or "")

    def index(self, prefix: str) -> int:
        """Return the index of a string prefix that holds keys."""
        return self.ask("GET", f"kv/{quote(prefix)}?keys")[1]

    def transact(self, keys: Mapping[str, str | bytes | None]) -> None:
        """Write keys, and delete those that are None, 64 a transaction."""
        operations = [
            {"KV": {"Verb": "delete", "Key": key}}
            if value is None
            else {"KV": {"Verb": "set", "Key": key, "Value": base64.b64encode(_bytes(value)).decode()}}
            for key, value in keys.items()
        ]
        for start in range(0, len(operations), TXN_OPERATIONS):
            self.ask("PUT", "txn", json.dumps(operations[start : start + TXN_OPERATIONS]).encode())

    def grant(self, rules: str, *, policies: Sequence[str] = ()) -> str:
        """Return a new token that may do what the rules say."""
        name = f"p{os.urandom(4).hex()}"
        self.ask("PUT", "acl/policy", json.dumps({"Name": name, "Rules": rules}).encode())
        names = [{"Name": one} for one in (name, *policies)]
        token, _ = self.ask("PUT", "acl/token", json.dumps({"Policies": names}).encode())
        return str(token["SecretID"])
