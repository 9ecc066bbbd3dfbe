"""A real etcd in a temporary folder: started, wounded, brought back, and gone without a trace."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from tests.servers.persistent import PersistentServer
from tests.servers.ports import free_ports
from tests.waiting import wait_until

BINARY = os.environ.get("CONFPY_TEST_ETCD", "etcd")
"""Which etcd to run: the tests hold on 3.3, 3.4, 3.5 and 3.6 alike."""
FETCHED = Path(__file__).parents[2] / ".cache" / "etcd" / "etcd"
"""A newer one than the system's, where that is old: ``scripts/test`` fetches it."""

Member = TypeVar("Member", bound="Etcd")

TXN_OPERATIONS = 128
"""The most operations that etcd takes in one transaction (``--max-txn-ops``)."""
ROOT_USER = ("root", "root's password")


@cache
def versions() -> dict[str, str]:
    """Return version → etcd, for all that are here: what the contract has to hold on."""
    here = [binary for binary in ("etcd", str(FETCHED), BINARY) if shutil.which(binary)]
    said = [subprocess.run([one, "--version"], capture_output=True, text=True, check=True).stdout for one in here]
    return {text.split()[2]: binary for text, binary in zip(said, here, strict=True)} or {"none": BINARY}


@cache
def _help(binary: str) -> str:
    return subprocess.run([binary, "--help"], capture_output=True, text=True, check=False).stdout


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _base64(text: str | bytes) -> str:
    return base64.b64encode(_bytes(text)).decode()


class Etcd(PersistentServer):
    """One member, one cluster. ``endpoint`` stays the same through restarts."""

    name = "etcd"

    def __init__(self, *arguments: str, binary: str = BINARY, scheme: str = "http", started: bool = True) -> None:
        """``arguments`` go to etcd as they stand; with ``scheme="https"`` they bring the certificates."""
        super().__init__()
        self.binary = binary
        self.arguments = arguments
        self.scheme = scheme
        self.port, self.peer_port = free_ports(2)
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self._cluster = 0
        self._api = ""
        self._guarded = False
        self._token = ""
        if started:
            try:
                self.start()
            except BaseException:
                self.stop()
                raise

    # --- life --------------------------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        peers = f"http://127.0.0.1:{self.peer_port}"
        command = [
            self.binary, "--name=m", f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.endpoint}", f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=m={peers}",
            f"--initial-cluster-token=confpy-{self._cluster}", "--heartbeat-interval=20", "--election-timeout=200",
        ]  # fmt: skip
        if "--unsafe-no-fsync" in _help(self.binary):
            command.append("--unsafe-no-fsync")
        return [*command, *self.arguments]

    def start(self) -> None:
        """Start it (again) on what its folder holds; return when it answers."""
        environment = {"PATH": os.environ.get("PATH", ""), "ETCD_UNSUPPORTED_ARCH": "arm64"}
        self.run(self._command(), environment)
        if self.scheme == "http":
            wait_until(self._answers, seconds=30, what=f"etcd answers at {self.endpoint}")
        else:
            wait_until(self._listens, seconds=30, what=f"etcd listens at {self.endpoint}")

    def _answers(self) -> bool:
        self.alive()
        try:
            self.ask("kv/range", {"key": _base64("/"), "count_only": True})
        except (OSError, http.client.HTTPException, EtcdSaysNo):
            self._api = ""
            return False
        return True

    def _listens(self) -> bool:
        self.alive()
        return b"ready to serve client requests" in (self.folder / "log").read_bytes()

    def replace(self) -> None:
        """Start a new and empty cluster at the same address."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        self._cluster += 1
        self._guarded = False
        self.start()

    # --- keys --------------------------------------------------------------------------------------------------------

    def ask(self, path: str, body: Mapping[str, Any], *, seconds: float = 10) -> dict[str, Any]:
        """POST ``body`` to its JSON gateway, at a path below the API's (``kv/range``); as root, once it is guarded."""
        if not self._guarded:
            return self._ask(path, body, seconds)
        for _ in range(2):
            with suppress(EtcdSaysNo):
                return self._ask(path, body, seconds)
            self._token = ""
            self._token = self.log_in(*ROOT_USER)
        return self._ask(path, body, seconds)

    def _ask(self, path: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            if not self._api:
                connection.request("GET", "/version")
                version = json.loads(connection.getresponse().read())["etcdserver"]
                self._api = "/v3beta/" if version.startswith("3.3.") else "/v3/"
            headers = {"Authorization": self._token} if self._guarded and self._token else {}
            connection.request("POST", self._api + path, json.dumps(body), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise EtcdSaysNo(str(answer.get("error") or answer.get("message")))
        return answer

    def put(self, key: str | bytes, value: str | bytes) -> int:
        """Write one key; returns its revision."""
        return int(self.ask("kv/put", {"key": _base64(key), "value": _base64(value)})["header"]["revision"])

    def put_all(self, pairs: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]) -> int:
        """Write many keys, 128 a revision; returns the last revision."""
        pairs = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
        puts = [{"request_put": {"key": _base64(key), "value": _base64(value)}} for key, value in pairs]
        return self._transact(puts)

    def transact(self, puts: Mapping[str, str | bytes], deletes: Sequence[str | bytes] = ()) -> int:
        """Write and delete keys in one transaction; returns its revision."""
        operations = [{"request_put": {"key": _base64(key), "value": _base64(value)}} for key, value in puts.items()]
        operations += [{"request_delete_range": {"key": _base64(key)}} for key in deletes]
        assert len(operations) <= TXN_OPERATIONS
        return self._transact(operations)

    def _transact(self, operations: list[dict[str, Any]]) -> int:
        revision = 0
        for start in range(0, len(operations), TXN_OPERATIONS):
            answer = self.ask("kv/txn", {"success": operations[start : start + TXN_OPERATIONS]}, seconds=60)
            revision = int(answer["header"]["revision"])
        return revision

    def delete(self, key: str | bytes, *, prefix: bool = False) -> int:
        """Delete the key, or with ``prefix`` all keys that begin with it; returns the revision."""
        body = {"key": _base64(key)}
        if prefix:
            end = _bytes(key)
            body["range_end"] = _base64(end[:-1] + bytes([end[-1] + 1]))
        return int(self.ask("kv/deleterange", body)["header"]["revision"])

    def get(self, key: str | bytes) -> bytes | None:
        """Return the value, or None where there is no such key."""
        found = self.ask("kv/range", {"key": _base64(key)}).get("kvs")
        return base64.b64decode(found[0].get("value", "")) if found else None

    def revision(self) -> int:
        """Return the newest revision of any key."""
        return int(self.ask("kv/range", {"key": _base64("/"), "count_only": True})["header"]["revision"])

    def leads(self) -> bool:
        """Whether it is the leader of its cluster."""
        status = self.ask("maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])

    def compact(self, revision: int | None = None) -> int:
        """Forget all history before ``revision``, the newest where none is given."""
        revision = self.revision() if revision is None else revision
        self.ask("kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    # --- users -------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: str, *reads: tuple[str, str]) -> None:
        """Add a user with a role of the same name, which may read these ranges: first key and end, "" for one key."""
        self.ask("auth/user/add", {"name": name, "password": password})
        self.ask("auth/role/add", {"name": name})
        for first, end in reads:
            self.grant(name, first, end)
        self.ask("auth/user/grant", {"user": name, "role": name})

    def grant(self, role: str, first: str, end: str = "") -> None:
        """Let the role read from ``first`` up to ``end``."""
        permission = {"permType": "READ", "key": _base64(first), "range_end": _base64(end)}
        self.ask("auth/role/grant", {"name": role, "perm": permission})

    def revoke(self, role: str, first: str, end: str = "") -> None:
        """Take back what ``grant`` gave."""
        self.ask("auth/role/revoke", {"role": role, "key": _base64(first), "range_end": _base64(end)})

    def enable_auth(self) -> None:
        """Let in users alone."""
        name, password = ROOT_USER
        self.ask("auth/user/add", {"name": name, "password": password})
        self.ask("auth/user/grant", {"user": name, "role": "root"})
        self.ask("auth/enable", {})
        self._guarded = True

    def log_in(self, name: str, password: str) -> str:
        """Return a token."""
        token: str = self._ask("auth/authenticate", {"name": name, "password": password}, 10)["token"]
        return token


class Etcd2(Etcd):
    """One member with the API of etcd v2, and that alone: keys of v2 and of v3 do not see each other."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        super().__init__("--enable-v2", *arguments, **options)
        self._connection: http.client.HTTPConnection | None = None
        self._authorization: dict[str, str] = {}

    def stop(self) -> None:
        super().stop()
        if self._connection is not None:
            self._connection.close()

    def request(self, method: str, path: str, **form: str | int) -> dict[str, Any]:
        """Send a form to a path below ``/v2``; returns the answer, or raises ``EtcdSaysNo``."""
        return self._send(method, path, urlencode(form, errors="surrogateescape"), "application/x-www-form-urlencoded")

    def _send(self, method: str, path: str, body: str, kind: str) -> dict[str, Any]:
        for attempt in (1, 2):
            self._connection = self._connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                self._connection.request(
                    method, "/v2" + quote(path, safe="/?=&"), body, {"Content-Type": kind, **self._authorization}
                )
                response = self._connection.getresponse()
                text = response.read()
                break
            except (OSError, http.client.HTTPException):  # it was restarted since
                self._connection.close()
                self._connection = None
                if attempt == 2:
                    raise
        answer: dict[str, Any] = json.loads(text or b"{}")
        if response.status >= 400:
            raise EtcdSaysNo(str(answer.get("message")))
        return answer

    def guard(self, *paths: str) -> None:
        """Let only root (password ``root``) see anything but these, and what is below them."""
        root = {"user": "root", "password": "root"}
        reads = [pattern for path in paths for pattern in (path, f"{path}/*")]
        guest = {"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}, "grant": {"kv": {"read": reads}}}
        self._send("PUT", "/auth/users/root", json.dumps(root), "application/json")
        self._send("PUT", "/auth/enable", "", "application/json")
        self._authorization = {"Authorization": "Basic " + base64.b64encode(b"root:root").decode()}
        self._send("PUT", "/auth/roles/guest", json.dumps(guest), "application/json")

    def set(self, key: str, value: str, **more: str | int) -> int:
        """Write a key, ``ttl`` seconds to live where that is given; returns its index."""
        return int(self.request("PUT", "/keys" + key, value=value, **more)["node"]["modifiedIndex"])

    def make(self, folder: str, **more: str | int) -> int:
        """Make a folder, or with ``prevExist="true"`` change one; returns its index."""
        return int(self.request("PUT", "/keys" + folder, dir="true", **more)["node"]["modifiedIndex"])

    def remove(self, key: str, *, recursive: bool = False) -> int:
        """Remove a key, or a folder with all in it; returns the index."""
        path = f"/keys{key}?recursive=true" if recursive else "/keys" + key
        return int(self.request("DELETE", path)["node"]["modifiedIndex"])


@contextmanager
def cluster(kind: type[Member]) -> Iterator[list[Member]]:
    """Three members of one cluster."""
    with ExitStack() as stack:
        members = [stack.enter_context(kind(started=False)) for _ in range(3)]
        peers = ",".join(f"m{number}=http://127.0.0.1:{one.peer_port}" for number, one in enumerate(members))
        for number, one in enumerate(members):
            own = (f"--name=m{number}", f"--initial-cluster={peers}", "--initial-cluster-token=three")
            one.arguments = (*one.arguments, *own)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(kind.start, members))  # none answers before two of them have started
        yield members


class EtcdSaysNo(Exception):
    """The gateway answered with an error."""
