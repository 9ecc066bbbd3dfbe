"""The status of a real daemon over HTTP, on the memory store: it is truthful, whatever is wrong."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from confpy.config.settings import Settings
from confpy.daemon import serving
from confpy.daemon.daemon import Daemon
from confpy.errors import UsageError
from confpy.log import Log
from confpy.status import inquiries, readiness
from confpy.status.endpoints import NO_METRICS
from confpy.stores.memory import MemoryStore
from confpy.stores.tree import Stores
from confpy.system.subprocesses import Shell
from tests.unit.test_daemon import Running, resource
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The limits, shorter than those that tests/unit/test_status_views.py holds below ten seconds."""
    monkeypatch.setattr(inquiries, "PATIENCE", 0.4)
    monkeypatch.setattr(inquiries, "FRESH", 0.02)
    monkeypatch.setattr(inquiries, "AGAIN", 0.02)
    monkeypatch.setattr(readiness, "SOON", 0.3)
    monkeypatch.setattr(readiness, "ANSWERS", 0.3)


class Site:
    """A confdir with one resource, and its daemon."""

    def __init__(self, folder, store=None, more="", template="{{ getv('/a') }}", **settings):
        self.folder = folder
        self.store = store or MemoryStore({"/a": "1"})
        self.path = str(folder / "http.sock")
        self.running = Running(
            folder, self.store, {"web": resource(folder, "web", "web.j2", more)}, {"web.j2": template},
            status_addr=f"unix:{self.path}", **settings,
        )  # fmt: skip

    def __enter__(self):
        self.daemon = self.running.__enter__()
        wait_until(lambda: self.get("/healthz")[0], what="the server answers")
        return self

    def __exit__(self, *error):
        self.running.__exit__(*error)

    def get(self, path):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(self.path)
            except OSError:
                return 0, ""
            connection.settimeout(20)
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.decode().partition("\r\n\r\n")
        return int(head.split()[1]), body

    def becomes(self, path, code, text=""):
        def is_so():
            found, body = self.get(path)
            return found == code and text in body and body

        return wait_until(is_so, what=f"{path} is {code} with {text}: {self.get(path)}")

    def starts(self):
        self.becomes("/readyz", 200)
        self.becomes("/readyz?strict", 200)


def test_an_owner_that_is_frozen_alone_is_known_and_so_is_that_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(inquiries, "ALIVE", 0.1)
    frozen, thawed = threading.Event(), threading.Event()
    with Site(tmp_path) as site:
        site.starts()
        real = site.daemon._agent.step

        def step(*arguments):
            if frozen.is_set():
                thawed.wait(30)
            return real(*arguments)

        monkeypatch.setattr(site.daemon._agent, "step", step)
        frozen.set()
        site.becomes("/healthz", 503, "has not answered")
        assert site.get("/readyz")[0] == 503
        code, body = site.get("/")
        assert (code, "confpy does not answer" in body, "web.out" in body) == (503, True, True)
        assert "confpy_healthy 0.0" in site.get("/metrics")[1]
        frozen.clear()
        thawed.set()
        site.becomes("/healthz", 200)
        site.starts()


def test_readiness_comes_with_the_start_and_then_stays_while_strict_readiness_tells_of_an_owed_reload(tmp_path):
    broken = tmp_path / "broken"
    with Site(tmp_path, more=f'reload_cmd = "test ! -e {broken}"', max_stale=600.0) as site:
        site.starts()
        broken.touch()
        site.store.set("/a", "2")
        site.becomes("/readyz?strict", 503, "resource web: its reload failed")
        assert site.get("/readyz") == (200, "ok")
        assert 'confpy_reload_owed{resource="web"} 1.0' in site.becomes("/metrics", 200)
        broken.unlink()
        site.becomes("/readyz?strict", 200)
        found = json.loads(site.get("/status")[1])
        assert found["totals"]["commits"] == found["totals"]["reloads"] == 2
        assert found["resources"][0]["loaded_at"] >= found["resources"][0]["changed_at"] > 0


def test_with_max_stale_readiness_ends_with_what_lasts_and_comes_back(tmp_path):
    broken = tmp_path / "broken"
    with Site(tmp_path, more=f'reload_cmd = "test ! -e {broken}"', max_stale=0.2) as site:
        site.starts()
        broken.touch()
        site.store.set("/a", "2")
        site.becomes("/readyz", 503, "resource web")
        broken.unlink()
        site.becomes("/readyz", 200)


def test_before_a_target_is_there_nothing_is_ready(tmp_path):
    with Site(tmp_path, store=MemoryStore({"/a/b": "1"})) as site:
        site.becomes("/readyz", 503, "resource web: ")
        assert site.get("/healthz") == (200, "ok")
        site.store.set("/a", "1")
        site.starts()


def test_a_package_that_metrics_need_and_that_is_missing_is_one_line_and_no_bug(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(serving, "find_spec", lambda _: None)
    with Site(tmp_path) as site:
        site.starts()
    (line,) = [json.loads(one) for one in capfd.readouterr().err.splitlines() if '"status.failed"' in one]
    assert (line["level"], line["error"]) == ("error", NO_METRICS)
    assert "pip install" in line["hint"]


class Silent(MemoryStore):
    """A store that answers no poll while it is told to be silent."""

    def __init__(self, keys):
        super().__init__(keys)
        self.answers = threading.Event()
        self.answers.set()

    def poll(self, prefixes):
        self.answers.wait(30)
        return super().poll(prefixes)


def test_a_store_that_falls_silent_is_known_though_it_is_asked_once_a_minute(tmp_path):
    store = Silent({"/a": "1"})
    with Site(tmp_path, store=store) as site:
        site.starts()
        store.answers.clear()
        site.becomes("/readyz?strict", 503, "store etcd: it has not answered")
        assert site.get("/readyz") == (200, "ok")
        store.answers.set()
        site.becomes("/readyz?strict", 200)


def test_a_worker_that_outlasts_the_timeout_of_its_command_is_known(tmp_path, monkeypatch):
    hangs, ends = threading.Event(), threading.Event()
    real = Shell.run

    def run(self, *arguments, **more):
        if hangs.is_set():
            ends.wait(30)
        return real(self, *arguments, **more)

    monkeypatch.setattr(Shell, "run", run)
    with Site(tmp_path, more='check_cmd = "true {{.src}}"\ncheck_cmd_timeout = "200ms"') as site:
        site.starts()
        hangs.set()
        site.store.set("/a", "2")
        site.becomes("/readyz?strict", 503, "resource web: it is being delivered")
        assert site.get("/readyz") == (200, "ok")
        hangs.clear()
        ends.set()
        site.becomes("/readyz?strict", 200)


def test_a_bug_in_the_status_stops_neither_the_daemon_nor_the_probe_of_its_life(tmp_path, monkeypatch, capfd):
    with Site(tmp_path) as site:
        site.starts()

        def fail():
            raise RuntimeError("a secret")

        monkeypatch.setattr(site.daemon._agent, "status", fail)
        log = []

        def is_logged():
            assert site.get("/status")[0] == 200  # the one of before
            log.append(capfd.readouterr().err)
            return "status.failed" in log[-1]

        wait_until(is_logged)
        assert site.get("/healthz") == (200, "ok")
        site.store.set("/a", "2")
        wait_until(lambda: (tmp_path / "web.out").read_text() == "2")
    assert "a secret" not in "".join(log)


def test_where_one_cannot_listen_the_daemon_does_not_start(tmp_path):
    path = tmp_path / "http.sock"
    path.write_text("a file")
    settings = Settings(confdir=str(tmp_path), cache_dir=None, watch=True, status_addr=f"unix:{path}")
    with pytest.raises(UsageError, match="cannot listen"):
        Daemon(settings, Stores(MemoryStore({})), Log(form="json"))._run()


def test_the_socket_goes_with_the_daemon(tmp_path):
    with Site(tmp_path) as site:
        site.starts()
    assert not (tmp_path / "http.sock").exists()
    assert "confpy-status" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("settings", [{"status_addr": None}, {"status_addr": "unix:/nowhere/x", "onetime": True}])
def test_who_wants_no_status_gets_no_server(tmp_path, settings):
    resources = {"web": resource(tmp_path, "web", "web.j2")}
    with Running(tmp_path, MemoryStore({"/a": "1"}), resources, {"web.j2": "x"}, **settings):
        wait_until((tmp_path / "web.out").exists)
        assert "confpy-status" not in {thread.name for thread in threading.enumerate()}
