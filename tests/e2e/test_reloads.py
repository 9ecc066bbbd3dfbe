"""Reloads that are no commands, by the command ``confpy`` as its users run it."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
from pathlib import Path

from tests.e2e.running import Confpy, Ended, run_once
from tests.servers.signal_recorder import SignalRecorder
from tests.waiting import wait_until


def place(folder: Path, reload: str) -> None:
    """Make a confdir whose only resource is reloaded so."""
    for part in ("conf.d", "templates"):
        (folder / part).mkdir()
    (folder / "templates/t.j2").write_text("new")
    (folder / "conf.d/web.toml").write_text(f'[template]\nsrc = "t.j2"\ndest = "{folder}/out"\n{reload}\n')


def deliver(folder: Path) -> Ended:
    return run_once("-backend", "env", "-confdir", str(folder), folder=folder)


def test_a_signal_that_found_nobody_is_owed_and_sent_when_the_program_is_there(tmp_path):
    name = f"web{os.getpid()}"
    place(tmp_path, f'reload_signal = "HUP"\nreload_process = "{name}"')
    first = deliver(tmp_path)
    assert first.code == 7
    failed = first.find("reload.failed", resource="web", command=f"signal HUP to {name}")
    assert failed["error"] == f"no process is called {name}"

    with SignalRecorder(tmp_path, name) as program:
        assert deliver(tmp_path).find("reload.recovered")["reloaded"] is True
        wait_until(lambda: program.signal_handlers() == [f"{program.number} SIGHUP"], what="the program has heard")
        assert deliver(tmp_path).code == 0
        assert len(program.signal_handlers()) == 1


def test_a_request_that_is_not_answered_does_not_hold_up_the_end(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place(tmp_path, f'reload_http = "POST http://127.0.0.1:{silent.getsockname()[1]}/"')
        with Confpy("-backend", "env", "-confdir", str(tmp_path), "-stop-timeout", "300ms", folder=tmp_path) as confpy:
            asked, _ = silent.accept()
            began = time.monotonic()
            assert confpy.stop() == 143
            assert time.monotonic() - began < 5
            assert confpy.says("reload.owed")["resource"] == "web"
            asked.close()


def test_a_socket_that_says_nothing_is_told_of(tmp_path):
    """HAProxy's master says nothing before 2.7, but can be asked; this program can not."""
    signal_handlers: list[bytes] = []

    class Silent(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            signal_handlers.append(self.rfile.readline())

    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "master"), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        place(tmp_path, f'reload_socket = "unix:{tmp_path}/master reload"')
        with Confpy("-backend", "env", "-confdir", str(tmp_path), folder=tmp_path) as confpy:
            confpy.says("resource.changed", reloaded=True)
            unsure = confpy.says("reload.unsure", level="warning", resource="web")
            assert unsure["command"] == f"'reload' to unix:{tmp_path}/master"
            assert "reload_socket_expect" in unsure["hint"]
        server.shutdown()
        thread.join()
    assert signal_handlers[-1] == b"reload\n"
