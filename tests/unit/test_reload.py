"""Reloads that are no commands: signals to real processes, requests to real servers, lines to real sockets."""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from confpy.clock import LONGEST
from confpy.reload.actions import CommandReload, HttpReload, SignalReload, SocketReload, VerifyCommand
from confpy.reload.processes import Pidfile, Process, look, masters, objection
from confpy.reload.run import reload
from confpy.reload.spec import ReloadResult, ReloadSpec
from confpy.system.subprocesses import Shell
from tests.run_as_user import EXTRA_GROUP, as_nobody
from tests.servers.authority import Authority
from tests.servers.haproxy import HAProxy
from tests.servers.ports import free_port
from tests.servers.proxy import FaultProxy
from tests.servers.signal_recorder import SignalRecorder
from tests.waiting import wait_until


def run(by, timeout: float = 10.0, verify: str | None = None) -> ReloadResult:
    action = CommandReload(by) if isinstance(by, str) else by
    verifier = VerifyCommand(verify) if verify else None
    spec = ReloadSpec(action.describe(), action, timeout, verifier)
    return reload(spec, {"CONFPY_DEST": "/out"}, Shell())


def failure(by, timeout: float = 10.0, verify: str | None = None) -> str:
    error = run(by, timeout, verify).error
    assert error is not None, "it should have failed"
    assert error.exit_code == 7
    return error.message


# --- commands, and what verifies -------------------------------------------------------------------------------------


def test_a_command_is_run_with_its_variables_and_then_verified(tmp_path):
    done = run(f"echo $CONFPY_DEST >> {tmp_path}/order", verify=f"echo verified >> {tmp_path}/order")
    assert done.error is None
    assert not done.unsure
    assert (tmp_path / "order").read_text() == "/out\nverified\n"


def test_a_reload_that_is_not_verified_has_failed(server):
    assert failure("true", verify="exit 4") == "the verify exited with 4"
    assert failure(HttpReload("POST", f"{server.url}/good"), verify="exit 4") == "the verify exited with 4"


def test_a_verify_that_hangs_has_the_time_of_a_reload():
    error = run("true", 0.2, "sleep 60").error
    assert error is not None
    assert error.hint == "raise reload_cmd_timeout if it needs longer"
    assert error.where["command"] == "sleep 60"


def test_what_failed_is_not_verified(tmp_path):
    assert failure("exit 3", verify=f"touch {tmp_path}/verified") == "the reload exited with 3"
    assert not (tmp_path / "verified").exists()


# --- signals: who gets them ------------------------------------------------------------------------------------------


def process(number, parent=1, name="web", *, nested=False, arguments=b"", user=33, group=44) -> Process:
    return Process(number, parent, user, group, frozenset({name}), arguments, nested)


def pidfile(owner, group=None) -> Pidfile:
    return Pidfile(7, owner, group)


CONFPY = process(50, 49, "python3", arguments=b"python3\0confpy\0")


@pytest.mark.parametrize(
    ("living", "expected"),
    [
        ([], []),
        ([process(7, name="other")], []),
        ([process(7), process(8, 7), process(9, 8)], [7]),
        ([process(7), process(8)], [7, 8]),
        ([process(7, 3, "sh"), process(8, 7), process(9, 8)], [8]),
        ([process(7, nested=True)], []),
        ([process(50)], []),
        ([process(49, arguments=CONFPY.arguments)], []),
        ([process(49, arguments=b"supervisor\0")], [49]),
    ],
)
def test_masters_get_a_signal_but_no_workers_no_other_container_and_not_we(living, expected):
    assert [it.number for it in masters(living, "web", CONFPY)] == expected


@pytest.mark.parametrize("owner", [0, 33, 1000])
@pytest.mark.parametrize("group", [None, 0, 44, 2000])
def test_the_process_of_a_pidfile_may_be_root_s_ours_or_of_those_who_may_write_to_it(owner, group):
    confpy = process(50, user=1000, group=2000)
    assert objection("", process(7), pidfile(owner, group), confpy) == ""
    assert objection("web", process(7), pidfile(owner, group), confpy) == ""


@pytest.mark.parametrize(
    ("found", "file", "reason"),
    [
        (None, pidfile(0), "is not there"),
        (process(7, nested=True), pidfile(0), "is not there"),
        (process(50), pidfile(0), "is confpy itself"),
        (process(49, arguments=CONFPY.arguments), pidfile(0), "is confpy itself"),
        (process(7, name="sshd"), pidfile(0), "is not called web"),
        (process(7), pidfile(34), "belongs to somebody else than the file"),
        (process(7), pidfile(0, 45), "belongs to another group than may write to the file"),
        (process(7), pidfile(33, 45), "belongs to another group than may write to the file"),
    ],
)
def test_a_pidfile_is_not_trusted_blindly(found, file, reason):
    assert objection("web", found, file, CONFPY) == reason


@pytest.fixture
def program(tmp_path) -> Iterator[SignalRecorder]:
    with SignalRecorder(tmp_path, f"web{os.getpid()}") as program:
        yield program


def test_the_master_of_a_name_is_signalled(program):
    assert run(SignalReload("HUP", process=program.record.name)).error is None
    wait_until(
        lambda: program.signal_handlers() == [f"{program.number} SIGHUP"], what="the master has heard, and only it"
    )


def test_the_process_of_a_pidfile_is_signalled(program, tmp_path):
    (tmp_path / "pid").write_text(f"{program.number}\nmore\n")
    for name in ("", program.record.name):
        assert run(SignalReload("USR2", pidfile=str(tmp_path / "pid"), process=name)).error is None
        wait_until(lambda: program.signal_handlers() == [f"{program.number} SIGUSR2"], what="the master has heard")
        program.record.write_text("")


def test_a_name_that_nobody_has_is_a_failure():
    assert failure(SignalReload("HUP", process="nobody-has-this")) == "no process is called nobody-has-this"


def test_a_program_that_has_ended_and_is_not_reaped_is_not_there(tmp_path):
    ended = subprocess.Popen(["true"])
    wait_until(lambda: look(ended.pid) is None, what="it is a zombie")
    (tmp_path / "pid").write_text(str(ended.pid))
    assert failure(SignalReload("HUP", str(tmp_path / "pid"))) == f"the process {ended.pid} of the pidfile is not there"
    ended.wait()


@pytest.mark.parametrize("content", ["", "\n12", "web", "0", "-1", "1.5", "9" * 5000])
def test_a_pidfile_without_a_number_is_a_failure_and_signals_nobody(tmp_path, content):
    (tmp_path / "pid").write_text(content)
    message = failure(SignalReload("KILL", str(tmp_path / "pid")))
    assert message in {
        "the pidfile holds no number of a process",
        f"the process {content[:4096]} of the pidfile is not there",
    }


def test_a_pidfile_that_is_missing_or_would_never_end_is_a_failure(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert failure(SignalReload("HUP", str(tmp_path / "fifo"))) == "the pidfile holds no number of a process"
    missing = SignalReload("HUP", str(tmp_path / "missing"))
    assert failure(missing) == "the pidfile cannot be read: No such file or directory"


def test_a_link_in_the_pidfile_s_place_does_not_choose_the_process(program, tmp_path):
    (tmp_path / "of-root").write_text(str(program.number))
    (tmp_path / "pid").symlink_to("of-root")
    error = run(SignalReload("KILL", str(tmp_path / "pid"))).error
    assert error is not None
    assert error.hint == "name the file itself: it is a link"
    assert look(program.number) is not None


@pytest.mark.parametrize(
    ("file", "folder", "reason"),
    [
        (0o646, 0o755, "anybody may write to it"),
        (0o666, 0o755, "anybody may write to it"),
        (0o644, 0o757, "anybody may put another in its place"),
        (0o644, 0o1777, ""),
        (0o644, 0o2775, ""),  # /run/haproxy, /run/postgresql
    ],
)
def test_a_pidfile_that_anybody_can_have_written_signals_nobody(program, tmp_path, file, folder, reason):
    place = tmp_path / "run" / "pid"
    place.parent.mkdir()
    place.write_text(str(program.number))
    place.chmod(file)
    place.parent.chmod(folder)
    error = run(SignalReload("USR2", str(place))).error
    if reason:
        assert error is not None
        assert error.message == f"the pidfile is not believed: {reason}"
        assert "chmod" in error.hint
        assert program.signal_handlers() == []
    else:
        assert error is None
        wait_until(lambda: program.signal_handlers() == [f"{program.number} SIGUSR2"], what="the master has heard")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another group")
def test_a_group_that_may_write_a_pidfile_gets_only_its_own_processes_signalled(program, tmp_path):
    (tmp_path / "pid").write_text(str(program.number))
    (tmp_path / "pid").chmod(0o664)
    os.chown(tmp_path / "pid", 0, EXTRA_GROUP)
    error = run(SignalReload("KILL", str(tmp_path / "pid"))).error
    assert error is not None
    assert error.message.endswith("belongs to another group than may write to the file")
    assert error.hint == "let none but its owner write to the file (chmod g-w)"
    assert look(program.number) is not None
    (tmp_path / "pid").chmod(0o644)
    assert run(SignalReload("USR2", str(tmp_path / "pid"))).error is None


def test_a_pidfile_that_names_us_or_another_program_signals_nobody(program, tmp_path):
    (tmp_path / "us").write_text(str(os.getpid()))
    assert failure(SignalReload("KILL", str(tmp_path / "us"))).endswith("of the pidfile is confpy itself")
    (tmp_path / "other").write_text(str(program.number))
    wrong = SignalReload("HUP", str(tmp_path / "other"), "nginx")
    assert failure(wrong) == f"the process {program.number} of the pidfile is not called nginx"
    assert program.signal_handlers() == []


def test_a_thread_is_no_process(tmp_path):
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    (tmp_path / "pid").write_text(str(thread.native_id))
    assert failure(SignalReload("HUP", str(tmp_path / "pid"))).endswith("is not there")
    done.set()
    thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user")
def test_a_process_that_we_may_not_signal_is_a_failure(program):
    message = as_nobody(lambda: failure(SignalReload("HUP", process=program.record.name)))
    assert message == f"the process {program.number} may not be signalled by us"


# --- requests --------------------------------------------------------------------------------------------------------


class Answering(BaseHTTPRequestHandler):
    """Answers as the path says, and notes what was asked."""

    def do_PUT(self) -> None:
        self.server.asked.append(f"{self.command} {self.path} {self.headers['Host']}")
        status = {"/good": 200, "/none": 204, "/moved": 302, "/bad": 503}.get(self.path.partition("?")[0], 404)
        body = b"\x1bwhy not" if status >= 300 else b""
        self.send_response(status)
        self.send_header("Location", "/good")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_PUT()

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address) -> None:
        self.asked: list[str] = []
        if isinstance(address, str):
            self.address_family = socket.AF_UNIX
        super().__init__(address, Answering)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(server) -> Iterator:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(("127.0.0.1", 0))) as server:
        yield server


@pytest.mark.parametrize("path", ["/good", "/none", "/good?now=1"])
def test_a_request_that_is_answered_with_a_2xx_succeeds(server, path):
    assert run(HttpReload("PUT", server.url + path)).error is None
    assert server.asked == [f"PUT {path} {server.url[7:]}"]


def test_a_request_to_a_socket_file_succeeds(tmp_path):
    with serving(Server(str(tmp_path / "api"))) as server:
        assert run(HttpReload("POST", f"http://unix:{tmp_path}/api:/good?signal=HUP")).error is None
        assert server.asked == ["POST /good?signal=HUP localhost"]


def test_an_answer_that_is_no_2xx_is_a_failure_that_shows_it_and_is_not_followed(server):
    error = run(HttpReload("POST", f"{server.url}/bad")).error
    assert error is not None
    assert error.fields() == {
        "error": "the reload was answered with 503 Service Unavailable",
        "output": "why not",
        "command": f"POST {server.url}/bad",
    }
    assert failure(HttpReload("POST", f"{server.url}/moved")) == "the reload was answered with 302 Found"
    assert len(server.asked) == 2


def test_nobody_there_is_a_failure(tmp_path):
    refused = "the reload could not be sent: Connection refused"
    assert failure(HttpReload("POST", f"http://127.0.0.1:{free_port()}/")) == refused
    missing = "the reload could not be sent: No such file or directory"
    assert failure(HttpReload("POST", f"http://unix:{tmp_path}/none:/")) == missing
    assert failure(HttpReload("POST", "http://no-such-host.invalid/")).startswith("the reload could not be sent: ")


def test_a_reason_without_end_or_with_control_characters_is_made_fit_to_read(tmp_path):
    with answering(tmp_path / "api", b"HTTP/1.1 500 \x1b[2J" + b"x" * 5000 + b"\r\n\r\n"):
        message = failure(HttpReload("POST", f"http://unix:{tmp_path}/api:/"))
        assert message == "the reload was answered with 500 [2J" + "x" * 197


def test_a_server_that_drips_its_answer_has_the_time_of_one_reload_as_a_whole(server):
    with FaultProxy(server.server_address[1]) as proxy:
        proxy.drip(8)
        done = run(HttpReload("POST", f"http://127.0.0.1:{proxy.port}/good"), 0.5)
        assert done.error is not None
        assert done.error.message == "the reload was not answered within its time"
        assert 0.5 <= done.took < 5
        wait_until(lambda: proxy.open_connections() == 0, what="the connection is closed")


def test_what_answers_in_no_http_is_a_failure(tmp_path):
    with answering(tmp_path / "socket", b"220 smtp.example.com\r\n"):
        message = failure(HttpReload("POST", f"http://unix:{tmp_path}/socket:/"))
        assert message == "the reload was not answered in HTTP"


def test_a_request_by_https_wants_a_certificate_that_is_trusted(server, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", "IP:127.0.0.1"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    by = HttpReload("POST", server.url.replace("http", "https") + "/good")
    assert "certificate verify failed" in failure(by)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    assert run(by).error is None


# --- lines for sockets -----------------------------------------------------------------------------------------------


@contextmanager
def answering(path: Path, answer: bytes, *, hang: threading.Event | None = None) -> Iterator[list[bytes]]:
    """Serve a Unix socket that reads a line and gives this answer; ``hang``: until when it stays open then."""
    signal_handlers: list[bytes] = []

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            signal_handlers.append(self.rfile.readline())
            self.wfile.write(answer)
            if hang is not None:
                hang.wait(20)

    with serving(socketserver.ThreadingUnixStreamServer(str(path), Line)):
        yield signal_handlers


def test_a_master_that_reports_success_has_reloaded(tmp_path):
    with answering(tmp_path / "master", b"Success=1\n--\n[NOTICE] New worker (12) forked\n") as signal_handlers:
        done = run(SocketReload(str(tmp_path / "master"), "reload"))
        assert (done.error, done.unsure) == (None, False)
        assert signal_handlers == [b"show proc\n", b"reload\n"], "one before 2.7 would have to be asked how it ended"


@pytest.mark.parametrize("answer", [b"Success=0\n--\n[ALERT] no such file\n", b"Unknown command: 'reload'\n"])
def test_a_refusal_is_a_failure_that_shows_it(tmp_path, answer):
    with answering(tmp_path / "master", answer):
        error = run(SocketReload(str(tmp_path / "master"), "reload")).error
        assert error is not None
        assert error.message == "the reload was refused"
        assert error.where["output"] == answer.decode().strip()


@pytest.mark.parametrize("answer", [b"", b"OK\n", b"\xff\xfe", b"x" * 200_000])
def test_an_answer_in_other_words_is_unsure_where_nothing_verifies(tmp_path, answer):
    with answering(tmp_path / "master", answer):
        by = SocketReload(str(tmp_path / "master"), "reload")
        assert run(by).unsure
        assert run(by).answer == answer.decode("utf-8", "replace").strip()[:200]
        assert not run(by, verify="true").unsure
        assert failure(by, verify="exit 1") == "the verify exited with 1"


def test_lines_are_sent_one_after_another_until_one_is_refused(tmp_path):
    with answering(tmp_path / "stats", b"\n") as signal_handlers:
        lines = SocketReload(str(tmp_path / "stats"), "clear map /m", ("add map /m a b", "del map /m c"))
        done = run(lines)
        assert (done.error, done.unsure, signal_handlers) == (
            None,
            False,
            [f"{line}\n".encode() for line in lines.lines],
        )
    with answering(tmp_path / "other", b"No such backend.\n\n") as signal_handlers:
        error = run(SocketReload(str(tmp_path / "other"), "set server b/s weight 1", ("clear map /m",))).error
        assert error is not None
        assert (error.message, error.where["output"]) == ("line 1 of the reload was refused", "No such backend.")
        assert len(signal_handlers) == 1


@pytest.mark.parametrize(
    ("answer", "expect", "good"),
    [
        (b"OK\n", "^OK$", True),
        (b"1 error\n", "^0 errors", False),
        (b"", "^$", True),
        (b"", "Success=1", False),
        (b"Key not found.\n", "^$|not found", True),
        (b"Success=1\n", "^reloaded", False),
    ],
)
def test_where_a_regular_expression_decides_nothing_else_does(tmp_path, answer, expect, good):
    with answering(tmp_path / "socket", answer) as signal_handlers:
        done = run(SocketReload(str(tmp_path / "socket"), "reload", expect=expect))
        assert (done.error is None, done.unsure, signal_handlers) == (good, False, [b"reload\n"])
        if done.error is not None:
            assert done.error.message == "the reload was not answered as expected"
            assert done.error.where.get("output", "") == answer.decode().strip()


def test_a_socket_that_never_ends_its_answer_has_its_time(tmp_path):
    hang = threading.Event()
    with answering(tmp_path / "master", b"", hang=hang):
        message = failure(SocketReload(str(tmp_path / "master"), "reload"), 0.2)
        hang.set()
        assert message == "the reload was not answered within its time"


def test_without_a_limit_each_kind_of_reload_waits_for_its_end(server, tmp_path):
    with answering(tmp_path / "master", b"Success=1\n") as signal_handlers:
        socket_reload = SocketReload(str(tmp_path / "master"), "reload")
        for by in ("sleep 0.1", HttpReload("POST", f"{server.url}/good"), socket_reload):
            assert run(by, LONGEST, verify="sleep 0.1").error is None
        assert signal_handlers == [b"show proc\n", b"reload\n"]
    with answering(tmp_path / "api", b"HTTP/1.1 200 OK\r\n\r\n"):
        assert run(HttpReload("POST", f"http://unix:{tmp_path}/api:/"), LONGEST).error is None


def test_a_socket_without_a_listener_is_a_failure(tmp_path):
    missing = failure(SocketReload(str(tmp_path / "none"), "reload"))
    assert missing == "the reload could not be sent: No such file or directory"
    assert "too long" in failure(SocketReload(f"/{'x' * 200}", "reload"))


def test_a_real_haproxy_is_reloaded_by_its_master(tmp_path):
    port, config = free_port(), tmp_path / "haproxy.cfg"
    text = (
        "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n timeout server 5s\n"
        f"frontend web\n bind 127.0.0.1:{port}\n http-request return status {{}}\n"
        f"global\n stats socket {tmp_path}/stats level admin\n"
    )
    config.write_text(text.format(200))
    with HAProxy(config, pidfile=tmp_path / "pid", socket=tmp_path / "master", port=port):
        assert served(port) == 200
        config.write_text(text.format(404))
        # The master runs itself anew once its worker is there, and refuses connections for that moment.
        reload = SocketReload(str(tmp_path / "master"), "reload")
        wait_until(lambda: run(reload).error is None, what="the master listens and reloads")
        wait_until(lambda: served(port) == 404, what="the new configuration serves")
        # A signal that comes while the master runs itself anew is lost: HAProxy's, and any signal's, weakness.
        wait_until(lambda: "Former worker" in config.with_suffix(".log").read_text(), what="the first reload is over")
        config.write_text(text.format(503))
        assert run(SignalReload("USR2", str(tmp_path / "pid"), "haproxy")).error is None
        wait_until(lambda: served(port) == 503, what="the new configuration serves")
        assert failure(SocketReload(str(tmp_path / "stats"), "reload")) == "the reload was refused"


def served(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), 5) as line:
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return int(line.recv(4096).split()[1])
