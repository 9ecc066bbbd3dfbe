"""The client of HAProxy's admin socket: its answers come to an end, or there is a doubt, in time."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager

import pytest

from confpy.haproxy.values import Command
from confpy.reload.runtime_ports import Doubt
from confpy.reload.runtime_socket import MOST_BYTES, Sockets

INFO = Command("show info", ())


@contextmanager
def admin_socket(path, answers, *, piece=1 << 16, ends=True):
    """A socket that answers one connection as the interactive mode does; yields what it was sent.

    ``piece``: bytes that are sent at once; ``ends``: it closes the connection after the answers.
    """
    received = bytearray()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve():
            stream, _ = server.accept()
            with stream:
                data = b"".join(answers)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, (5).to_bytes(8, "little") + bytes(8))
                received.extend(stream.recv(1 << 16))
                for place in range(0, len(data), piece):
                    stream.sendall(data[place : place + piece])
                while not ends and (more := stream.recv(1 << 16)):
                    received.extend(more)

        thread = threading.Thread(target=serve)
        thread.start()
        yield received
        thread.join()


@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 16])
def test_answers_end_where_the_prompt_stands_however_they_arrive(tmp_path, piece):
    answers = [b"\n> ", b"Name: HAProxy\nPid: 7\n\n> ", b"\n> ", b"Server deleted.\n> ", b"+ + \n> "]
    with admin_socket(tmp_path / "s", answers, piece=piece) as received:
        commands = [
            INFO,
            Command("set server b/s state maint", ()),
            Command("del server b/s", ()),
            Command("x", (), "k v"),
        ]
        found = Sockets().exchange(f"unix:{tmp_path}/s", commands, 5.0)
    assert found == ["Name: HAProxy\nPid: 7", "", "Server deleted.", ""]
    assert received == b"prompt\nshow info\nset server b/s state maint\ndel server b/s\nx <<\nk v\n\n"


@pytest.mark.parametrize("text", ["add server b/x 1:1;show info", "a\nb"])
def test_what_would_be_two_commands_is_never_sent(tmp_path, text):
    with admin_socket(tmp_path / "s", []) as received, pytest.raises(Doubt, match="would not be one command"):
        Sockets().exchange(f"unix:{tmp_path}/s", [Command(text, ())], 5.0)
    assert received == b""


@pytest.mark.parametrize("answers", [[], [b"\n> "], [b"\n> ", b"Name: HAP"]])
def test_a_connection_that_is_closed_in_an_answer_is_a_doubt(tmp_path, answers):
    with (
        admin_socket(tmp_path / "s", answers),
        pytest.raises(Doubt, match="closed the connection before it had answered"),
    ):
        Sockets().exchange(f"unix:{tmp_path}/s", [INFO], 5.0)


@pytest.mark.parametrize("answers", [[], [b"\n> ", b"Name: HAP"]])
def test_a_proxy_that_hangs_in_an_answer_has_its_time(tmp_path, answers):
    with admin_socket(tmp_path / "s", answers, ends=False), pytest.raises(TimeoutError):
        Sockets().exchange(f"unix:{tmp_path}/s", [INFO], 0.1)


def test_many_commands_are_sent_in_parts_that_fit_the_buffer(tmp_path):
    commands = [Command(f"set server b/{number:05} weight 1", ()) for number in range(1500)]
    parts = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()

        def serve():
            stream, _ = server.accept()
            with stream:
                while part := stream.recv(1 << 20):
                    parts.append(part)
                    stream.sendall(b"\n> " * part.count(b"\n"))

        thread = threading.Thread(target=serve)
        thread.start()
        assert Sockets().exchange(f"unix:{tmp_path}/s", commands, 5.0) == [""] * 1500
        thread.join()
    assert len(parts) > 2
    assert max(map(len, parts)) <= MOST_BYTES + len(b"prompt\n")


def test_no_socket_and_one_that_nobody_listens_on_are_errors_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        Sockets().exchange(f"unix:{tmp_path}/none", [INFO], 1.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            Sockets().exchange(f"127.0.0.1:{unused.getsockname()[1]}", [INFO], 1.0)


# --- keys ------------------------------------------------------------------------------------------------------------


def send_key(path, users=()):
    return Sockets().exchange(f"unix:{path}", [INFO], 1.0, users)


def test_a_key_is_sent_to_root_and_to_us(tmp_path):
    with admin_socket(tmp_path / "s", [b"\n> ", b"ok\n> "]):
        assert send_key(tmp_path / "s") == ["ok"]


def test_a_key_is_not_sent_where_anybody_may_put_a_socket_of_their_own(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with admin_socket(folder / "s", []) as received, pytest.raises(Doubt, match="others may put a socket of their own"):
        send_key(folder / "s")
    assert received == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen as somebody else")
def test_a_key_is_not_sent_to_another_user_who_listens_unless_it_is_that_of_haproxy(tmp_path, monkeypatch):
    folder = tmp_path / "theirs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for users, says in (((), "the user 1 listens"), ((1,), None)):
        os.chown(folder, 0, 0)
        folder.chmod(0o1777)
        os.seteuid(1)  # the kernel notes who begins to listen
        try:
            context = admin_socket(f"s{len(users)}", [b"\n> ", b"ok\n> "] if users else [])
            received = context.__enter__()
        finally:
            os.seteuid(0)
        folder.chmod(0o755)
        if says is None:
            assert send_key(folder / f"s{len(users)}", users) == ["ok"]
        else:
            with pytest.raises(Doubt, match=says):
                send_key(folder / f"s{len(users)}", users)
            assert received == b""
        context.__exit__(None, None, None)


def test_a_key_is_not_sent_over_tcp():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(Doubt, match="a key is sent to a Unix socket only"):
            Sockets().exchange(f"127.0.0.1:{server.getsockname()[1]}", [INFO], 1.0, ())


def test_the_socket_of_a_master_is_known_by_its_prompt(tmp_path):
    with admin_socket(tmp_path / "s", [b"\nmaster> "]), pytest.raises(Doubt, match="is that of HAProxy's master"):
        Sockets().exchange(f"unix:{tmp_path}/s", [INFO], 5.0)
