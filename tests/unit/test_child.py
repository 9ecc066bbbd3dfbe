"""The program that confpy supervises, as a process: ``confpy.system.child``."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from confpy.errors import ReloadError
from confpy.system.child import Child, ChildExit, disposition
from tests.waiting import wait_until

NOTES = """\
import os, signal, sys, time
def note(text):
    with open({path!r}, "a") as file:
        file.write(text + chr(10))
signal.signal(signal.SIGHUP, lambda *_: note("HUP"))
note("ready")
while True:
    signal.pause()
"""


class Running:
    """A child that runs on a thread."""

    def __init__(self, *argv, hidden=(), dies_by="TERM"):
        self.child = Child(argv, hidden, dies_by)
        self.exit = None
        self._thread = threading.Thread(target=self._run, name="child")
        self._thread.start()

    def _run(self):
        self.exit = self.child.run()

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.exit

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.signal(signal.SIGKILL)
        self.join()


def shell(text):
    return ("/bin/sh", "-c", text)


def test_its_exit_code_or_the_signal_that_ended_it_is_known():
    assert Child(shell("exit 3"), (), "TERM").run() == ChildExit(3)
    assert Child(shell("kill -USR1 $$"), (), "TERM").run() == ChildExit(-signal.SIGUSR1)


@pytest.mark.parametrize(("name", "code", "reason"), [("no-such", 127, errno.ENOENT), ("plain", 126, errno.EACCES)])
def test_a_program_that_cannot_be_executed_has_the_code_of_a_shell_and_a_reason(tmp_path, name, code, reason):
    (tmp_path / "plain").write_text("a")
    assert Child((f"{tmp_path}/{name}",), (), "TERM").run() == ChildExit(code, reason)


def test_its_environment_lacks_secrets_and_what_is_for_confpy_alone(tmp_path, monkeypatch):
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "CONFPY_PASSWORD"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "yes")
    monkeypatch.delenv("LC_CTYPE", raising=False)
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LANG", raising=False)
    assert Child(shell(f"env > {tmp_path}/env"), ("CONFPY_PASSWORD",), "TERM").run().code == 0
    found = (tmp_path / "env").read_text()
    assert "KEPT=yes" in found
    assert [name for name in ("NOTIFY", "WATCHDOG", "LISTEN", "PASSWORD", "LC_CTYPE") if name in found] == []


def test_it_has_an_empty_mask_default_dispositions_and_no_file_of_confpys(tmp_path):
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            look = f"grep ^Sig /proc/self/status > {tmp_path}/signals; ls -l /proc/self/fd > {tmp_path}/files"
            assert Child(shell(look), (), "TERM").run().code == 0
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    masks = dict(line.split() for line in (tmp_path / "signals").read_text().splitlines())
    # glibc's posix_spawn ignores its two internal signals, 32 and 33.
    assert {int(masks[name], 16) & ~(3 << 31) for name in ("SigBlk:", "SigIgn:")} == {0}
    assert str(tmp_path / "open") not in (tmp_path / "files").read_text()


def test_it_is_signalled_as_soon_as_there_is_one_and_leads_its_own_group():
    child = Child(shell("sleep 60"), (), "TERM")
    child.signal(signal.SIGTERM)
    assert child.run() == ChildExit(-signal.SIGTERM)
    child.signal(signal.SIGTERM)
    child.signal(signal.SIGKILL)


def test_a_kill_reaches_its_whole_group_and_what_it_leaves_there_ends_with_it(tmp_path):
    leaves = f"sleep 60 & echo $! > {tmp_path}/left; exit 5"
    assert Child(shell(leaves), (), "TERM").run() == ChildExit(5)
    left = int((tmp_path / "left").read_text())
    wait_until(lambda: gone(left), what="the process that it left has ended")
    with Running(*shell(f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/second; wait")) as running:
        wait_until(lambda: (tmp_path / "second").exists() and (tmp_path / "second").read_text(), what="it runs")
        running.child.signal(signal.SIGKILL)
        assert running.join() == ChildExit(-signal.SIGKILL)
    wait_until(lambda: gone(int((tmp_path / "second").read_text())), what="its child has ended")


def gone(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_reload_waits_until_the_program_handles_the_signal(tmp_path):
    notes = tmp_path / "notes"
    with Running(sys.executable, "-c", NOTES.format(path=str(notes))) as running:
        running.child.reload("HUP", 30.0, ReloadError)  # it may not even have been executed yet
        wait_until(lambda: notes.exists() and "HUP" in notes.read_text(), what="the signal was handled")


def test_a_reload_by_a_signal_that_would_end_the_program_is_not_sent(tmp_path):
    with Running(*shell(f"touch {tmp_path}/ready; exec sleep 60")) as running:
        wait_until((tmp_path / "ready").exists, what="it runs")
        with pytest.raises(ReloadError, match="does not handle SIGUSR2, which would end it"):
            running.child.reload("USR2", 0.2, ReloadError)
        running.child.signal(signal.SIGTERM)
        assert running.join() == ChildExit(-signal.SIGTERM)
        with pytest.raises(ReloadError, match="has ended"):
            running.child.reload("HUP", 30.0, ReloadError)


def test_a_signal_is_handled_blocked_or_neither():
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
    try:
        assert disposition(os.getpid(), signal.SIGRTMIN) == "blocked"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert disposition(os.getpid(), signal.SIGRTMIN) == "default"
    assert disposition(os.getpid(), signal.SIGINT) == "handled"


DISCARDS = """\
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
open(sys.argv[1], "w").close()
time.sleep(0.3)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # what is pending is discarded
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))
signal.pthread_sigmask(signal.SIG_SETMASK, ())
while True:
    signal.pause()
"""


def test_a_reload_is_not_lost_on_a_program_that_executes_itself_anew_with_the_signal_blocked(tmp_path):
    with Running(sys.executable, "-c", DISCARDS, str(tmp_path / "blocked")) as running:
        wait_until((tmp_path / "blocked").exists, what="it is blocked")
        running.child.reload("USR2", 30.0, ReloadError)
        assert running.join() == ChildExit(7)


AWAITS = """\
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
while not signal.sigpending():
    time.sleep(0.01)
"""


def test_a_program_that_asks_for_a_blocked_signal_gets_it(tmp_path):
    with Running(sys.executable, "-c", AWAITS + f"open({str(tmp_path / 'got')!r}, 'w')") as running:
        running.child.reload("USR2", 30.0, ReloadError)
        assert running.join() == ChildExit(0)
    assert (tmp_path / "got").exists()


ORPHANED = """
import sys
from confpy.system.child import Child
Child(("/bin/sh", "-c", sys.argv[1]), (), "USR1").run()
"""


def test_it_is_asked_to_stop_when_confpy_is_killed(tmp_path):
    notes = f"trap 'touch {tmp_path}/asked; exit' USR1; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    parent = subprocess.Popen([sys.executable, "-c", ORPHANED, notes])
    wait_until((tmp_path / "ready").exists, what="it runs")
    parent.kill()
    parent.wait()
    wait_until((tmp_path / "asked").exists, what="it was asked to stop")


def test_a_program_takes_the_place_of_confpy_with_clean_signals_and_files(tmp_path):
    replaces = (
        "import os, signal, sys; from confpy.system.child import replace_process\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "os.set_inheritable(os.open('/dev/null', os.O_RDONLY), True)\n"
        "print(os.getpid(), flush=True)\n"
        "sys.exit(replace_process(('/bin/sh', '-c', sys.argv[1]), {'SECRET'}, os.environ))"
    )
    look = (
        "echo $$; echo s=$SECRET n=$NOTIFY_SOCKET; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l"
    )
    done = subprocess.run(
        [sys.executable, "-c", replaces, look],
        check=False, capture_output=True, text=True, timeout=30,
        env={**os.environ, "SECRET": "canary", "NOTIFY_SOCKET": "/run/n"},
    )  # fmt: skip
    before, after, environment, *masks, files = done.stdout.splitlines()
    assert (done.returncode, before, environment) == (0, after, "s= n=/run/n")
    internal = 0b11 << 31  # of the C library, whose posix_spawn leaves them ignored
    assert {int(line.split()[1], 16) & ~internal for line in masks} == {0}
    assert int(files) == 4  # the three, and the folder that is listed


def test_a_program_that_cannot_take_the_place_leaves_confpy_there():
    code = "from confpy.system.child import replace_process; print(replace_process(('/no/such',), (), {}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout == f"{errno.ENOENT}\n"
