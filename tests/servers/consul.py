"""A real Consul server in a temporary folder: started, wounded, brought back, and gone without a trace."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.servers.persistent import PersistentServer
from tests.servers.ports import free_ports
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


class Consul(PersistentServer):
    """One server, one datacenter. ``endpoint`` stays the same through restarts."""

    name = "consul"

    def __init__(
        self, *, acl: bool = False, lists: bool = False, https: int = -1, started: bool = True, **config: Any
    ) -> None:
        """``acl``: control access, deny by default; ``lists``: recursive reads need a right of their own.

        ``https`` is a port for HTTPS, beside that of HTTP. ``config`` goes to Consul's configuration as it stands.
        """
        super().__init__()
        names = ("http", "server", "serf_lan", "serf_wan")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.port = ports["http"]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.token = MASTER if acl else ""
        self.rpc = f"127.0.0.1:{ports['server']}"
        """What the other servers of its cluster call it."""
        self.gossip = f"127.0.0.1:{ports['serf_lan']}"
        settings: dict[str, Any] = {
            "server": True, "bootstrap_expect": 1, "node_name": "n", "datacenter": "dc1",
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "data_dir": str(self.folder / "data"),
            "ports": {"https": https, "dns": -1, "grpc": -1, **ports},
            "performance": {"raft_multiplier": 1}, "disable_update_check": True, "leave_on_terminate": False,
            "limits": {"http_max_conns_per_client": 200, "txn_max_req_len": 8 << 20, "kv_max_value_size": 512 << 10},
        }  # fmt: skip
        if acl:
            tokens = {"master": MASTER, "agent": MASTER}
            settings["acl"] = {
                "enabled": True, "default_policy": "deny", "enable_key_list_policy": lists, "tokens": tokens,
            }  # fmt: skip
        (self.folder / "consul.json").write_text(json.dumps(settings | config))
        if started:
            try:
                self.start()
            except BaseException:
                self.stop()
                raise

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it (again) on what its folder holds; return when it can be written to."""
        (self.folder / "services").mkdir(exist_ok=True)
        command = [BINARY, "agent", f"-config-file={self.folder / 'consul.json'}", "-log-level=warn"]
        command += [f"-config-dir={self.folder / 'services'}"]
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
        answer, headers = self._request(method, path, body, token=token, seconds=seconds)
        return json.loads(answer), int(headers.get("X-Consul-Index") or 0)

    def _request(
        self, method: str, path: str, body: bytes = b"", *, token: str | None = None, seconds: float = 10
    ) -> tuple[bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, f"/v1/{path}", body, {"X-Consul-Token": token or self.token})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ConsulSaysNo(f"{response.status} {answer.decode(errors='replace')}")
        return answer, response.headers

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

    def snapshot(self) -> bytes:
        """Return all that the servers hold, for ``restore_snapshot``."""
        return self._request("GET", "snapshot")[0]

    def restore_snapshot(self, snapshot: bytes) -> None:
        """Go back to it while everything runs on."""
        self._request("PUT", "snapshot", snapshot)

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

    # --- services ----------------------------------------------------------------------------------------------------

    def register(self, service: str, instance: str = "", **more: Any) -> None:
        """Register an instance with the agent, which checks it; ``more`` is as in its API."""
        body = {"Name": service, "ID": instance or service, **more}
        self._request("PUT", "agent/service/register", json.dumps(body).encode())

    def write_services(self, *services: Mapping[str, Any]) -> None:
        """Write the agent's service file, and let it read that; without any, it has none."""
        (self.folder / "services" / "services.json").write_text(json.dumps({"services": services}))
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def set_maintenance(self, instance: str) -> None:
        """Take an instance out of service."""
        self._request("PUT", f"agent/service/maintenance/{quote(instance, safe='')}?enable=true")

    def deregister(self, instance: str) -> None:
        """Remove an instance from the agent."""
        self._request("PUT", f"agent/service/deregister/{quote(instance, safe='')}")

    def set_check(self, check: str, status: str) -> None:
        """Say how an instance with a TTL check is: pass, warn or fail."""
        self._request("PUT", f"agent/check/{status}/{quote(check, safe='')}")

    def catalogue(self, instances: Mapping[tuple[str, str], Mapping[str, Any] | None], *, node: str = "") -> None:
        """Register instances on a node without an agent, and remove those that are None, some at a time.

        They are named by service and id; what they are is as in Consul's API. Each service has a node of its own if
        none is given: an id is unique to a node.
        """
        operations: list[dict[str, Any]] = []
        for (service, instance), what in instances.items():
            place = node or f"of-{service.encode().hex()[:60]}"
            one = {"Service": service, "ID": instance, **(what or {})}
            operations += [
                {"Node": {"Verb": "set", "Node": {"Node": place, "Address": "192.0.2.1"}}},
                {"Service": {"Verb": "delete" if what is None else "set", "Node": place, "Service": one}},
            ]
        for start in range(0, len(operations), TXN_OPERATIONS):
            self.ask("PUT", "txn", json.dumps(operations[start : start + TXN_OPERATIONS]).encode())

    def clear_catalogue(self) -> None:
        """Remove the nodes that have no agent, with all that is on them."""
        for node in self.ask("GET", "catalog/nodes")[0]:
            if node["Node"] != "n":
                self.ask("PUT", "catalog/deregister", json.dumps({"Node": node["Node"]}).encode())

    # --- access ------------------------------------------------------------------------------------------------------

    def grant(self, rules: str) -> str:
        """Return a new token that may do what the rules say."""
        token, _ = self.ask("PUT", "acl/token", b"{}")
        self.allow(token["SecretID"], rules)
        return str(token["SecretID"])

    def allow(self, token: str, rules: str) -> None:
        """Let a token do what the rules say, and nothing else from now on."""
        name = f"p{os.urandom(4).hex()}"
        self.ask("PUT", "acl/policy", json.dumps({"Name": name, "Rules": rules}).encode())
        accessor = self.ask("GET", "acl/token/self", token=token)[0]["AccessorID"]
        self.ask("PUT", f"acl/token/{accessor}", json.dumps({"Policies": [{"Name": name}]}).encode())


@contextmanager
def cluster(size: int = 3) -> Iterator[list[Consul]]:
    """Servers of one datacenter, each with a copy of all keys; one of them leads."""
    with ExitStack() as stack:
        servers: list[Consul] = []
        for number in range(size):
            others = [server.gossip for server in servers]
            options = {"node_name": f"n{number}", "bootstrap_expect": size, "retry_join": others}
            one = Consul(started=False, retry_interval="1s", **options)
            servers.append(stack.enter_context(one))
        with ThreadPoolExecutor(size) as pool:
            list(pool.map(Consul.start, servers))  # none answers before they have found each other
        yield servers


def leader(servers: Sequence[Consul]) -> Consul:
    """Return the one that leads, as soon as those that run agree on one of them."""

    def agreed() -> Consul | None:
        running = [server for server in servers if server.process is not None]
        try:
            said = {server.ask("GET", "status/leader")[0] for server in running}
        except (OSError, http.client.HTTPException, ConsulSaysNo):
            return None
        return next((server for server in running if {server.rpc} == said), None)

    return wait_until(agreed, seconds=30, what="the servers have a leader")  # type: ignore[return-value]
