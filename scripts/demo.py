"""The demo of scripts/demo: confpy follows a file of keys. Exits with 1 if a step does not have the expected result."""

from __future__ import annotations

import difflib
import http.client
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 5.0
"""Seconds that each step may take."""
WIDTH = shutil.get_terminal_size((120, 0)).columns - 2
"""Columns: the terminal's, or those of the variable COLUMNS."""
BOLD, DIM, RED, GREEN, CYAN, PLAIN = (
    ("\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[36m", "\033[0m")
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    else ("",) * 6
)


class StepFailed(Exception):
    """A step of the demo did not have the expected result."""


class Keys:
    """The store: a YAML file, replaced as a whole at each change."""

    def __init__(self, file: Path, port: int) -> None:
        self.file = file
        self.port = port
        self.containers: dict[str, str] = {}
        self.maxconn = "1000"

    def write(self) -> None:
        lines = [f"      {name}: {address}" for name, address in self.containers.items()]
        web = [f"    port: {self.port}", f"    maxconn: {self.maxconn}", "    containers:", *lines]
        staged = self.file.with_suffix(".new")
        staged.write_text("\n".join(["services:", "  web:", *web, ""]))
        staged.rename(self.file)


class Confpy:
    """A confpy process, whose log is shown line by line."""

    def __init__(self, folder: Path, keys: Path, *flags: str) -> None:
        words = [*flags, "-backend", "file", "-file", keys.name, "-confdir", os.path.relpath(ROOT, folder)]
        echo(f"$ confpy {' '.join([*words[:-1], '.'])}", CYAN)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "confpy", *words], cwd=folder, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="log", daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_for(self, pattern: str) -> None:
        """Show the log until a line matches."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise StepFailed(f"confpy did not log {pattern!r}") from None
            if line is None:
                raise StepFailed(f"confpy ended with {self.process.wait()}")
            echo(textwrap.fill(f"confpy: {line}", WIDTH, initial_indent="  ", subsequent_indent="    "), DIM)
            if re.search(pattern, line):
                return

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Config:
    """The target, shown as a diff from its previous content."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seen: list[str] = []

    def show(self) -> None:
        lines = self.file.read_text().splitlines()
        for line in list(difflib.unified_diff(self.seen, lines, lineterm="", n=0))[2:]:
            if not line.startswith("@@"):
                echo(f"    {line}", GREEN if line.startswith("+") else RED)
        self.seen = lines

    def expect_unchanged(self) -> None:
        if self.file.read_text().splitlines() != self.seen:
            raise StepFailed(f"{self.file.name} changed")
        echo(f"    {self.file.name} is unchanged")


def echo(text: str, style: str = "") -> None:
    print(f"{style}{text}{PLAIN if style else ''}", flush=True)


def chapter(text: str) -> None:
    echo(f"\n{text}", BOLD)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def container(name: str) -> Iterator[str]:
    """Serve HTTP like a container; each response is its name. Yields its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=name, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def haproxy(folder: Path) -> Iterator[None]:
    command = ["haproxy", "-W", "-db", "-p", "haproxy.pid", "-f", "haproxy.cfg"]
    echo(f"$ {' '.join(command)}", CYAN)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def expect_responses_from(port: int, expected: set[str]) -> None:
    """Send requests to HAProxy until the responses come from exactly these containers."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if {response(port) for _ in range(2 * len(expected) + 2)} == expected:
            echo(f"    HAProxy responds: {', '.join(sorted(expected))}")
            return
        time.sleep(0.05)
    raise StepFailed(f"HAProxy's responses do not come from {', '.join(sorted(expected))}")


def response(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def demo(folder: Path, ends: ExitStack) -> None:
    port = free_port()
    keys = Keys(folder / "keys.yaml", port)
    config = Config(folder / "haproxy.cfg")
    address = {name: ends.enter_context(container(name)) for name in ("web-1", "web-2", "web-3")}

    chapter("Two containers run and are listed in a file of keys. confpy renders HAProxy's configuration from it.")
    keys.containers = {name: address[name] for name in ("web-1", "web-2")}
    keys.write()
    first = Confpy(folder, keys.file, "-onetime", "-no-reload")
    ends.callback(first.stop)
    first.wait_for(r"resource\.changed .*resource=haproxy")
    config.show()
    runs = bool(shutil.which("haproxy"))
    if runs:
        ends.enter_context(haproxy(folder))
        expect_responses_from(port, {"web-1", "web-2"})
    else:
        echo("    (HAProxy is not installed: a simple check replaces it, and nothing is reloaded.)")
    reloaded = "true" if runs else "false"
    confpy = Confpy(folder, keys.file, "-watch", *(() if runs else ("-no-reload",)))
    ends.callback(confpy.stop)
    confpy.wait_for(r"confpy\.ready")

    def serves(*names: str) -> None:
        if runs:
            expect_responses_from(port, set(names))

    chapter("A third container starts.")
    keys.containers["web-3"] = address["web-3"]
    keys.write()
    confpy.wait_for(rf"resource\.changed .*reloaded={reloaded}")
    config.show()
    serves("web-1", "web-2", "web-3")

    chapter("The first container stops.")
    del keys.containers["web-1"]
    keys.write()
    confpy.wait_for(rf"resource\.changed .*reloaded={reloaded}")
    config.show()
    serves("web-2", "web-3")

    chapter("A container is registered with an invalid port. It is skipped, the others stay.")
    keys.containers["web-4"] = "10.0.0.4:99999"
    keys.write()
    confpy.wait_for(r"value\.skipped .*web-4")
    config.expect_unchanged()
    serves("web-2", "web-3")

    chapter('maxconn is set to "plenty". The check fails, the old file stays.')
    keys.maxconn = "plenty"
    keys.write()
    confpy.wait_for(r"resource\.failed ")
    config.expect_unchanged()
    serves("web-2", "web-3")

    chapter("maxconn is corrected.")
    keys.maxconn = "500"
    keys.write()
    confpy.wait_for(rf"resource\.changed .*reloaded={reloaded}")
    config.show()
    serves("web-2", "web-3")

    chapter("SIGTERM: confpy stops, and leaves nothing unfinished.")
    code = confpy.stop()
    echo(f"    exit code {code}")
    if code != 0:
        raise StepFailed("confpy should have exited with 0")
    left = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    if left:
        raise StepFailed(f"it left {', '.join(left)}")


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="confpy-demo-") as folder, ExitStack() as ends:
        try:
            demo(Path(folder), ends)
        except StepFailed as error:
            log = Path(folder, "haproxy.log")
            echo(f"\nThe demo failed: {error}.", RED)
            if log.exists():
                echo(log.read_text(errors="replace"), DIM)
            return 1
    chapter(f"Done in {time.monotonic() - began:.1f} s. All files of the demo are removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
