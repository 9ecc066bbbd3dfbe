"""What a HAProxy has taken: kept for the next start, without keys; whatever is in doubt is not known."""

from __future__ import annotations

import os

import pytest

from confpy.frozen import replace
from confpy.haproxy.values import Left
from confpy.reload.taken import HEAD, Taken, TakenFolder, Worker, decode, digest, encode
from confpy.system.disk import Disk

SOCKET = "unix:/run/haproxy/admin.sock"
KEY = b"-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
FILES = {"/etc/haproxy.cfg": b"global\n\xff", "/etc/hosts.map": b"", "/etc/site.pem": KEY}
TAKEN = Taken(
    Worker("boot", 7, 123.25, 0.05),
    {path: digest(content) for path, content in FILES.items()},
    {path: content for path, content in FILES.items() if content != KEY},
    {"/etc/haproxy.cfg": b"defaults\n"},
    1e9,
    (Left("web", "a", ("check", "inter", "1s")),),
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "haproxy"


def test_another_process_reads_what_one_has_recorded(folder):
    TakenFolder(str(folder), Disk()).put(SOCKET, TAKEN)
    found = TakenFolder(str(folder), Disk())
    assert found.get(SOCKET) == TAKEN
    assert found.get("unix:/run/other.sock") is None
    assert [(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())] == [0o700, 0o600]


def test_no_key_is_kept_neither_of_what_was_taken_nor_of_a_plan_that_was_begun(folder):
    taken = replace(TAKEN, files=FILES, begun={"/etc/site.pem": KEY})
    TakenFolder(str(folder), Disk()).put(SOCKET, taken)
    (path,) = folder.iterdir()
    assert b"canary" not in path.read_bytes()
    found = TakenFolder(str(folder), Disk()).get(SOCKET)
    assert found.digests == taken.digests
    assert found.begun == {"/etc/site.pem": b""}


def test_what_another_confpy_has_recorded_since_counts(folder):
    first, second = TakenFolder(str(folder), Disk()), TakenFolder(str(folder), Disk())
    first.put(SOCKET, TAKEN)
    newer = replace(TAKEN, worker=Worker("boot", 8, 200.0))
    second.put(SOCKET, newer)
    first_sees = first.get(SOCKET)
    second.forget(SOCKET)
    assert (first_sees, first.get(SOCKET)) == (newer, None)


@pytest.mark.parametrize("size", [0, 1, len(HEAD), len(HEAD) + 32, -1])
def test_a_torn_record_is_none(folder, size):
    TakenFolder(str(folder), Disk()).put(SOCKET, TAKEN)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:size])
    assert TakenFolder(str(folder), Disk()).get(SOCKET) is None


def test_a_record_of_another_version_or_with_another_content_is_none():
    written = encode(SOCKET, TAKEN)
    assert decode(written) == TAKEN
    assert decode(written.replace(b"confpy haproxy 1", b"confpy haproxy 2")) is None
    assert decode(written.replace(b"global", b"glodal")) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_record_that_another_user_may_have_written_is_none(folder):
    TakenFolder(str(folder), Disk()).put(SOCKET, TAKEN)
    (path,) = folder.iterdir()
    os.chown(path, 1, 1)
    assert TakenFolder(str(folder), Disk()).get(SOCKET) is None


def test_a_full_disk_leaves_no_older_record(folder):
    class Full(Disk):
        def write_file(self, *_args, **_options):
            raise OSError(28, "No space left on device")

    TakenFolder(str(folder), Disk()).put(SOCKET, TAKEN)
    full = TakenFolder(str(folder), Full())
    newer = replace(TAKEN, left=())
    full.put(SOCKET, newer)
    assert full.get(SOCKET) == newer
    assert TakenFolder(str(folder), Disk()).get(SOCKET) is None


def test_without_a_state_folder_it_is_known_to_this_process_alone():
    known = TakenFolder("", Disk())
    known.put(SOCKET, TAKEN)
    assert known.get(SOCKET) == TAKEN
    known.forget(SOCKET)
    assert known.get(SOCKET) is None
