"""Backends come and go behind a HAProxy under load: followed without a reload by confpy, or with one by others.

``python -m tests.bench.registrations --help``. It prints a table; docs/haproxy-without-reloads.md shows one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from tests.e2e.examples import HAPROXY
from tests.e2e.running import ROOT, command, environment
from tests.servers.etcd import Etcd
from tests.servers.haproxy import HAProxy, haproxies
from tests.servers.ports import free_port
from tests.servers.runtime import ask

Follows: TypeAlias = Callable[[Path, str], list[str]]
"""Returns the command of a follower, from a folder and the endpoint of etcd."""
STANDING = 20
"""Backends that are registered at any time."""
KEPT, STREAMS, REQUESTS = 1000, 100, 100
"""Connections that are kept open, requests whose answers do not end, and requests a second."""
SAMPLED = 5
"""Of so many registrations one is waited for."""
MOST_MEMORY = 3 << 30
"""Bytes of HAProxy's processes at which a run is given up."""

CONFD = """[template]
src = "haproxy.cfg.tmpl"
dest = "{folder}/haproxy.cfg"
mode = "0644"
keys = ["/services/web"]
check_cmd = "haproxy -c -f {{{{.src}}}}"
reload_cmd = "kill -USR2 $(cat {folder}/haproxy.pid)"
"""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --- the load, in processes of their own -----------------------------------------------------------------------------


async def serve(port: int) -> None:
    """Answer requests: with a stream that goes on for ever, or with a few bytes."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /stream"):
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    while True:
                        writer.write(b"2\r\n.\n\r\n")
                        await writer.drain()
                        await asyncio.sleep(1)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, "0.0.0.0", port, backlog=1024)  # all addresses of 127.0.0.0/8
    await server.serve_forever()


async def load(port: int) -> None:
    """Keep connections, follow streams and ask; print what failed when the input ends."""
    told = {"requests": 0, "failed": 0, "cut": 0, "streams": 0, "kept": 0}
    running = asyncio.Event()

    async def stream() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" in await reader.readline()
        told["streams"] += 1
        if told["streams"] == STREAMS:
            running.set()
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass
        told["cut"] += 1

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        return b" 200 " in head.split(b"\r\n", 1)[0] and await reader.readexactly(2) == b"ok"

    async def kept() -> None:
        """A connection on which a request is made every ten seconds; closed while idle, it is opened anew."""
        told["kept"] += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                await asyncio.sleep(0 if reader.at_eof() else 10)
                if reader.at_eof():
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                told["requests"] += 1
                told["failed"] += not await answer(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                told["failed"] += 1
                await asyncio.sleep(0.5)
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask_once() -> None:
        told["requests"] += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            told["failed"] += not await answer(reader, writer)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            told["failed"] += 1

    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(stream()) for _ in range(STREAMS)]
    for _ in range(KEPT):
        tasks.append(asyncio.ensure_future(kept()))
        await asyncio.sleep(0.001)
    ended = loop.run_in_executor(None, sys.stdin.read)
    await running.wait()
    _say("ready")
    due = loop.time()
    while not ended.done():
        tasks.append(asyncio.ensure_future(ask_once()))
        due += 1 / REQUESTS
        await asyncio.sleep(max(0.0, due - loop.time()))
    cut = told["cut"]
    await asyncio.sleep(1)
    _say(json.dumps({**told, "cut": cut}))
    os._exit(0)


# --- one run ---------------------------------------------------------------------------------------------------------


class Watcher:
    """Looks at HAProxy: how many workers there were, their memory, and when a backend is routed to."""

    def __init__(self, folder: Path, master: int) -> None:
        self.workers: set[int] = set()
        self.memory: list[int] = []
        self.delays: list[float] = []
        self.late = 0
        self._admin, self._master = folder / "admin.sock", master
        self._wanted: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._look, self._wait)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, address: str, since: float) -> None:
        self._wanted.put((address, since))

    def stop(self) -> None:
        self._wanted.put(None)
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.25):
            children = _children(self._master)
            self.workers |= children
            self.memory.append(sum(_resident(one) for one in (*children, self._master)))

    def _wait(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            address, since = wanted
            host, _, port = address.partition(":")
            while time.perf_counter() - since < 10:
                if self._is_routed(host, port):
                    self.delays.append(time.perf_counter() - since)
                    break
                time.sleep(0.0005)
            else:
                self.late += 1

    def _is_routed(self, host: str, port: str) -> bool:
        try:
            lines = [line.split() for line in ask(self._admin, "show servers state web").splitlines()[2:]]
        except OSError:
            return False
        return any(one and (one[4], one[18]) == (host, port) and not int(one[6]) & 35 for one in lines)


def _children(master: int) -> set[int]:
    with contextlib.suppress(OSError):
        return {int(one) for one in Path(f"/proc/{master}/task/{master}/children").read_text().split()}
    return set()


def _resident(process: int) -> int:
    """Return what memory a process has for itself alone: workers share what they have inherited."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
    return 0


class Keys:
    """etcd's gateway, over one connection."""

    def __init__(self, endpoint: str) -> None:
        self._connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))

    def put(self, key: str, value: str) -> None:
        self._call("put", {"key": _base64(key), "value": _base64(value)})

    def delete(self, key: str) -> None:
        self._call("deleterange", {"key": _base64(key)})

    def _call(self, what: str, body: dict[str, str]) -> None:
        self._connection.request("POST", f"/v3/kv/{what}", json.dumps(body))
        response = self._connection.getresponse()
        assert response.status == 200, response.read()
        response.read()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def run(
    name: str, program: str, follower: Callable[[Path, str], list[str]], chosen: argparse.Namespace
) -> dict[str, Any]:
    """Return what happened to one HAProxy while backends came and went."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir=chosen.folder))
    port, backends = free_port(), free_port()
    with _python("serve", backends), Etcd() as etcd:
        keys = Keys(etcd.endpoint)
        keys.put("/services/web/port", str(port))
        keys.put("/services/web/maxconn", "5000")
        if "slots" in name:
            keys.put("/services/web/slots", "64")
        for number in range(STANDING):
            keys.put(_key(number), _address(number, backends))
        follow = follower(folder, etcd.endpoint)
        own = [*command("-onetime", "-no-reload", "-backend", "etcdv3", "-node", etcd.endpoint), "-confdir"]
        first = [*own, str(HAPROXY.move(folder, ROOT / "examples" / "haproxy" / "runtime"))]
        subprocess.run(first, env=environment(folder), cwd=folder, check=True, capture_output=True)
        time.sleep(3)  # the file is older than HAProxy by more than a second
        haproxy = HAProxy(
            folder / "haproxy.cfg",
            pidfile=folder / "haproxy.pid", socket=folder / "master.sock", port=port, program=program,
        )  # fmt: skip
        with haproxy, (folder / "follower.log").open("wb") as log:
            following = subprocess.Popen(follow, env=environment(folder), cwd=folder, stdout=log, stderr=log)
            try:
                return {"name": name, **_measure(chosen, keys, backends, haproxy, folder)}
            finally:
                following.terminate()
                following.wait(20)


def _measure(chosen: argparse.Namespace, keys: Keys, backends: int, haproxy: HAProxy, folder: Path) -> dict[str, Any]:
    with _python("load", haproxy.port) as load_:
        assert load_.stdout is not None
        assert load_.stdin is not None
        assert load_.stdout.readline() == "ready\n"
        time.sleep(3)
        watcher = Watcher(folder, haproxy.process.pid)
        began, given_up = time.perf_counter(), 0
        count = chosen.changes // 2
        for number in range(STANDING, STANDING + count):
            since = time.perf_counter()
            keys.put(_key(number), _address(number, backends))
            if number % SAMPLED == 0:
                watcher.wait_for(_address(number, backends), since)
            _until(began + (2 * (number - STANDING) + 1) / chosen.rate)
            keys.delete(_key(number - STANDING))
            _until(began + 2 * (number - STANDING + 1) / chosen.rate)
            if watcher.memory and watcher.memory[-1] > MOST_MEMORY:
                given_up = 2 * (number - STANDING + 1)
                break
        seconds = time.perf_counter() - began
        time.sleep(3)
        watcher.stop()
        load_.stdin.close()
        told = json.loads(load_.stdout.readline())
    rest = {int(one[4].split(".")[3]) + 256 * int(one[4].split(".")[2]) for one in _served(folder)}
    right = {number % 65536 for number in range(number + 1 - STANDING, number + 1)}
    delays, memory = sorted(watcher.delays) or [0.0], watcher.memory
    return {
        "changes": given_up or 2 * count,
        "seconds": round(seconds, 1),
        "new_workers": len(watcher.workers) - 1,
        **told,
        "p50_ms": round(delays[len(delays) // 2] * 1000, 1),
        "p99_ms": round(delays[int(len(delays) * 0.99)] * 1000, 1),
        "samples": len(watcher.delays),
        "late": watcher.late,
        "memory_mib": [round(one / (1 << 20), 1) for one in (memory[0], max(memory), memory[-1])],
        "equal": rest == right,
    }


def _served(folder: Path) -> list[list[str]]:
    lines = [line.split() for line in ask(folder / "admin.sock", "show servers state web").splitlines()[2:] if line]
    return [one for one in lines if not int(one[6]) & 35]


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def _key(number: int) -> str:
    return f"/services/web/backends/n{number}"


def _address(number: int, port: int) -> str:
    """Return an address that no other registration has: all of 127.0.0.0/8 is this machine."""
    return f"127.1.{number >> 8 & 255}.{number & 255}:{port}"


@contextlib.contextmanager
def _python(what: str, port: int) -> Iterator[subprocess.Popen[str]]:
    found = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.registrations", f"--{what}", str(port)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield found
    finally:
        found.kill()
        found.wait()
        for stream in (found.stdin, found.stdout):
            assert stream is not None
            stream.close()


def confpy_follows(folder: Path, endpoint: str) -> list[str]:
    """Return the command of confpy with the example as it is."""
    return command("-watch", "-backend", "etcdv3", "-node", endpoint, "-confdir", str(folder / "confdir"))


def confd_follows(path: str, hard_stop: str | None) -> Follows:
    """Return what makes the command of a confd, with the same configuration and a reload for each change."""

    def follows(folder: Path, endpoint: str) -> list[str]:
        confdir = folder / "confd"
        for part in ("conf.d", "templates"):
            (confdir / part).mkdir(parents=True)
        (confdir / "conf.d" / "haproxy.toml").write_text(CONFD.format(folder=folder))
        text = (ROOT / "examples" / "haproxy" / "tests" / "haproxy.cfg.no-servers.expected").read_text()
        text = text.replace("/run/haproxy-admin.sock", f"{folder}/admin.sock")
        text = text.replace("'80'", "'{{getv \"/services/web/port\"}}'").replace("'2000'", "'5000'")
        if hard_stop:
            text = text.replace("    group haproxy\n", f"    group haproxy\n    hard-stop-after {hard_stop}\n")
        servers = '{{range gets "/services/web/backends/*"}}    server {{base .Key}} {{.Value}}\n{{end}}'
        (confdir / "templates" / "haproxy.cfg.tmpl").write_text(text + servers)
        return [path, "-watch", "-backend", "etcdv3", "-node", endpoint, "-confdir", str(confdir)]

    return follows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.registrations", description=__doc__)
    parser.add_argument("--changes", type=int, default=10_000, help="registrations and removals (10000)")
    parser.add_argument("--rate", type=float, default=50, help="of them in a second (50)")
    parser.add_argument("--peer", metavar="confd=PATH", help="the same with a confd and a reload for each change")
    parser.add_argument("--hard-stop", metavar="TIME", help="the hard-stop-after of a HAProxy that is reloaded (none)")
    parser.add_argument("--only", help="one row: " + ", ".join((*haproxies(), "confd")))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the files are written")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve or chosen.load:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(serve(chosen.serve) if chosen.serve else load(chosen.load))
        return 0
    rows = {name: (program, confpy_follows, "slots" * (name == "system")) for name, program in haproxies().items()}
    if chosen.peer:
        rows["confd"] = (haproxies()["system"], confd_follows(chosen.peer.partition("=")[2], chosen.hard_stop), "")
    found = []
    for name, (program, follower, more) in rows.items():
        if chosen.only in {None, name}:
            version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout.split()[2]
            who = "confd, reload" if name == "confd" else f"confpy{', slots' * bool(more)}"
            found.append(run(f"{who}, HAProxy {version.partition('-')[0]}", program, follower, chosen))
            _say(json.dumps(found[-1]))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1) + "\n")
    _say(table(found))
    return 0


def table(found: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        "| | changes | new workers | streams cut | failed requests | routed to after, p50 / p99 | HAProxy's memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        first, most, last = one["memory_mib"]
        lines.append(
            f"| {one['name']} | {one['changes']:,} in {one['seconds']:g} s | {one['new_workers']:,} |"
            f" {one['cut']} of {one['streams']} | {one['failed']:,} of {one['requests']:,} |"
            f" {one['p50_ms']} / {one['p99_ms']} ms | {first:g} → {last:g} MiB, {most:g} at most |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
