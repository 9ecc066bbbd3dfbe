"""The page of a running confpy in a real browser: it follows changes, and everybody can read it.

``python -m tests.e2e.test_status_page`` draws the picture of it for the manual.
"""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from confpy.config.address import Address
from confpy.status.endpoints import Endpoints
from confpy.status.inquiries import FRESH, Seen, Wanted
from confpy.status.listening import Listener
from confpy.status.model import ReloadStatus, ResourceStatus, Status, StoreStatus
from confpy.status.page import Delivery, Shown
from confpy.status.request import own_hosts
from confpy.status.server import StatusServer
from tests.e2e.running import ROOT, Confpy
from tests.servers.browser import Browser, browsing
from tests.servers.ports import free_port
from tests.waiting import wait_until

PICTURE = ROOT / "docs" / "images" / "status-page.png"
TAB, ENTER = "\ue004", "\ue007"
AXE = files("axe_core_python") / "axe.min.js"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


class Site:
    """A confpy over a file of keys, with a resource whose reload fails while ``broken`` is there."""

    def __init__(self, folder: Path, name: str = "web") -> None:
        self.folder = folder
        self.keys = folder / "keys.json"
        self.broken = folder / "broken"
        self.target = folder / f"{name}.cfg"
        for part in ("conf.d", "templates"):
            (folder / part).mkdir()
        (folder / "templates" / "web.j2").write_text("server {{ getv('/web/a') }}\n")
        self.add(name, self.target)
        self.put("10.0.0.4")

    def add(self, name: str, target: Path, more: str = "") -> None:
        (self.folder / "conf.d" / f"{name}.toml").write_text(
            f'[template]\nsrc = "web.j2"\ndest = "{target}"\nkeys = ["/web"]\nmode = "0644"\n'
            f'reload_cmd = "test ! -e {self.broken}"\n{more}'
        )

    def put(self, value: str) -> None:
        written = self.folder / "keys.new"
        written.write_text(json.dumps({"web": {"a": value}}))
        written.rename(self.keys)

    def confpy(self, address: str, *more: str) -> Confpy:
        flags = ["-watch", "-backend", "file", "-file", str(self.keys), "-confdir", str(self.folder), *more]
        return Confpy(*flags, "-status-addr", address, folder=self.folder)


def shows(browser: Browser, text: str) -> None:
    """Wait until the page has a text, without loading it again."""
    wait_until(lambda: text in browser.texts("body")[0], what=f"{text} in {browser.texts('body')}")


def test_the_page_shows_a_change_by_itself_and_an_end(browser: Browser, tmp_path: Path) -> None:
    site, port = Site(tmp_path), free_port()
    with site.confpy(f"127.0.0.1:{port}") as confpy:
        confpy.says("confpy.ready")
        browser.log()
        browser.open(f"http://127.0.0.1:{port}/")
        shows(browser, "All is well: 1 resource")
        browser.run("window.stays = true")
        site.broken.touch()
        site.put("10.0.0.5")
        confpy.says("reload.failed")
        shows(browser, "1 of 1 resource needs attention")
        shows(browser, "↻ owed")
        site.broken.unlink()
        shows(browser, "All is well: 1 resource")
        assert browser.run("return window.stays") is True
        assert browser.log() == []
    shows(browser, "No answer from confpy: this is how it was.")
    assert "All is well" in browser.texts("body")[0]


def test_what_the_page_asks_for_is_less_than_two_seconds_old() -> None:
    script = (files("confpy.status") / "page.js").read_text()
    (period,) = (
        int(line.split("=")[1].strip(" ;\n")) for line in script.splitlines() if line.startswith("const PERIOD")
    )
    assert period / 1000 + FRESH < 2


# --- what can be shown of any status ---------------------------------------------------------------------------------


class Answers:
    """Inquiries that answer at once, with the same status."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def want(self, _: Wanted, done: Callable[[Seen], None]) -> None:
        done(Seen(self.status, responds=True))


def example() -> tuple[Status, Shown]:
    """Return a status with much to see."""
    now = time.time()
    haproxy, nginx, app = "/etc/haproxy/haproxy.cfg", "/etc/nginx/nginx.conf", "/etc/app/app.conf"
    failed = {"error": "no such key", "template": "app.conf.j2", "line": 12, "key": "/services/app/port"}
    why = "its reload failed: the command failed with 1; it has failed 2 times and is tried again"
    resources = (
        ResourceStatus(
            "haproxy", haproxy, state="owed", cause="reload retry", why=why, since=now - 75, changed_at=now - 75,
            revision=418, digest="5d41402abc4b2a76b9719d911017c592" * 2, reload="systemctl reload haproxy",
            next_at=now + 12, error={"error": "the command failed with 1", "command": "systemctl reload haproxy"},
        ),
        ResourceStatus(
            "nginx", nginx, group="web", since=now - 4000, changed_at=now - 4000, revision=400, digest="7d793037a0" * 7
        ),
        ResourceStatus(
            "app", app, state="failed", cause="backoff", why="no such key; it is tried again", since=now - 30,
            error=failed, next_at=now + 3,
        ),
    )  # fmt: skip
    reload = ReloadStatus(
        "systemctl reload haproxy", ("haproxy",), now - 75, 2, waits_for="it has failed 2 times and is tried again",
        cause="reload retry", next_at=now + 12, error={"error": "the command failed with 1"},
    )  # fmt: skip
    store = StoreStatus("etcdv3", ("http://10.0.0.1:2379", "http://10.0.0.2:2379"), True, 418, now - 3, "open")
    status = Status(
        "0.1.0", 4711, "/etc/confpy", "etcdv3", "watch", now - 90_000, now, True, resources, (store,), (reload,)
    )
    diff = (f"--- {haproxy}", f"+++ {haproxy}", "@@ -7,4 +7,4 @@", " backend web", "-    server a 10.0.0.4:80 check",
            "+    server a 10.0.0.5:80 check", "     server b 10.0.1.4:80 check")  # fmt: skip
    history = (
        Delivery("haproxy", haproxy, now - 75, 418, "1 key changed: /services/web/a; reload owed"),
        Delivery("nginx", nginx, now - 4000, 400, "2 keys changed; checked, reloaded"),
    )
    return status, Shown("", {haproxy: diff}, history)


@contextmanager
def served() -> Iterator[str]:
    """Serve a page with much to see."""
    status, shown = example()
    endpoints = Endpoints(Answers(status), shows_content=True, max_stale=0.0, additions=lambda _: shown)  # type: ignore[arg-type]
    endpoints._host = "lb1"
    port = free_port()
    listener = Listener(Address(host="127.0.0.1", port=port))
    hosts = own_hosts((), is_local=True)
    server = StatusServer(listener, endpoints.answer, hosts, tick=lambda now: now + 60, failed=print)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Browser]:
    browser.open(address)
    yield browser
    browser.command("Emulation.clearDeviceMetricsOverride")
    browser.command("Emulation.setEmulatedMedia", features=[])
    browser.command("Emulation.setScriptExecutionDisabled", value=False)


def as_phone(page: Browser) -> None:
    page.command("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "phone"])
def test_axe_finds_nothing_to_mend(page: Browser, scheme: str, width: str) -> None:
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    if width == "phone":
        as_phone(page)
    page.run("document.querySelector('details').open = true")
    page.run(AXE.read_text())
    found = page.wait_for("axe.run().then(arguments[0])")
    assert [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
    assert len(found["passes"]) > 20


def test_on_a_phone_nothing_has_to_be_scrolled_sideways(page: Browser) -> None:
    as_phone(page)
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert page.run("return innerWidth") == 360


def test_all_is_there_without_a_script(page: Browser, address: str) -> None:
    page.command("Emulation.setScriptExecutionDisabled", value=True)
    page.open(address)
    page.command("Emulation.setScriptExecutionDisabled", value=False)
    (text,) = page.texts("body")
    for part in ("2 of 3 resources need attention", "no such key", "Last deliveries", "10.0.0.1:2379", "1 min ago"):
        assert part in text


def test_the_keyboard_reaches_all_there_is_to_use(page: Browser) -> None:
    reached = []
    for _ in range(7):
        page.press(TAB)
        reached.append(page.run("return document.activeElement.innerText.trim()"))
        if reached[-1] == "Last change of haproxy":
            assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
            page.press(ENTER)
            wait_until(lambda: page.run("return document.querySelector('details').open"))
    assert reached[0] == "Skip to the resources"
    assert {"Last change of haproxy", "status as JSON", "metrics", "readiness", "health"} <= {*reached}
    assert any("server a 10.0.0.5:80" in one for one in reached)


def test_what_was_opened_stays_open_when_something_changes(page: Browser) -> None:
    page.run("document.querySelector('details').open = true; document.getElementById('view').dataset.version = 'old'")
    wait_until(lambda: page.run("return document.getElementById('view').dataset.version") != "old")
    assert page.run("return document.querySelector('details').open") is True


# --- on a unix socket ------------------------------------------------------------------------------------------------


class Tunnel:
    """A port that leads to a unix socket, as ``ssh -L`` makes one."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as server:
                client.settimeout(5)
                try:
                    server.connect(self._path)
                    server.sendall(client.recv(65536))
                    while part := server.recv(65536):
                        client.sendall(part)
                except OSError:
                    continue

    def __enter__(self) -> str:
        self._thread.start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def test_our_own_user_sees_the_last_change_but_of_what_others_may_not_read(browser: Browser, tmp_path: Path) -> None:
    site, path = Site(tmp_path), tmp_path / "http.sock"
    site.add("secret", tmp_path / "secret.cfg", "sensitive = true\n")
    private = tmp_path / "private.cfg"
    site.add("private", private)
    toml = tmp_path / "conf.d" / "private.toml"
    toml.write_text(toml.read_text().replace("0644", "0600"))
    with site.confpy(f"unix:{path}") as confpy, Tunnel(path) as address:
        confpy.says("confpy.ready")
        site.put("10.0.0.5")
        wait_until(
            lambda: all("10.0.0.5" in (tmp_path / f"{name}.cfg").read_text() for name in ("web", "secret", "private"))
        )
        browser.open(address)
        wait_until(lambda: browser.texts("details summary"), what="a diff")
        shows(browser, "Last deliveries")
        assert browser.texts("details summary") == ["Last change of web"]
        browser.run("document.querySelector('details').open = true")
        # The history is written after a delivery: at first the page may have the one before.
        wait_until(lambda: "-server 10.0.0.4\n+server 10.0.0.5" in "".join(browser.texts("details pre")))
    assert not path.exists()


def draw(picture: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, browsing(Path(folder)) as browser, served() as address:
        browser.resize(1100, 1000)
        browser.open(address)
        browser.run("document.querySelector('details').open = true")
        picture.write_bytes(browser.screenshot())


if __name__ == "__main__":
    draw(PICTURE)
