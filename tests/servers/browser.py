"""A real browser without a window: Chromium, driven over the WebDriver protocol by its own driver."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port
from tests.servers.program import Program, find

SECONDS = 60.0


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """Return what a script returns; it is the body of a function."""
        return call("POST", f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def wait_for(self, script: str, *arguments: object) -> Any:
        """Return what a script passes to its last argument, a function."""
        return call("POST", f"{self._session}/execute/async", {"script": script, "args": arguments})

    def texts(self, selector: str) -> list[str]:
        found = self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)", selector)
        assert isinstance(found, list)
        return found

    def press(self, key: str) -> None:
        """Press a key; ``\\ue004`` is the tabulator (https://www.w3.org/TR/webdriver2/#keyboard-actions)."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        call("POST", f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def resize(self, width: int, height: int) -> None:
        call("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    def log(self) -> list[dict[str, Any]]:
        """Return what the console has said since it was asked last: errors of the page, and what its policy forbade."""
        found = call("POST", f"{self._session}/se/log", {"type": "browser"})
        assert isinstance(found, list)
        return found

    def command(self, name: str, **parameters: object) -> Any:
        """Give a command of Chromium's own protocol (https://chromedevtools.github.io/devtools-protocol/)."""
        return call("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screenshot(self) -> bytes:
        return base64.b64decode(call("GET", f"{self._session}/screenshot"))


@contextmanager
def browsing(folder: Path, *flags: str) -> Iterator[Browser]:
    """Start a browser whose files are in ``folder``."""
    port = free_port()
    # Chromium's sandbox refuses to run as root.
    arguments = [
        "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else []), *flags,
    ]  # fmt: skip
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": find("chromium"), "args": arguments},
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    command = [find("chromedriver"), f"--port={port}", "--allowed-ips="]
    with Program(command, port=port, log=folder / "chromedriver.log"):
        root = f"http://127.0.0.1:{port}/session"
        session = f"{root}/{call('POST', root, {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        try:
            yield Browser(session)
        finally:
            call("DELETE", session)


def call(method: str, url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None
