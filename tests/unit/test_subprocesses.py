"""Commands: real ones, well-behaved and not."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from confpy.config.settings import SECRET_VARIABLES
from confpy.errors import CheckError
from confpy.system import subprocesses as command
from confpy.system.subprocesses import OUTPUT_BOUND, TAIL, Ran, Shell
from tests.run_as_user import Child, as_nobody
from tests.waiting import wait_until


def run(wanted, timeout: float = 30.0, **environment) -> Ran:
    return Shell().run(wanted, environment, timeout)


@pytest.fixture(autouse=True)
def _plain_path(monkeypatch):
    """A folder in PATH that we may not read would change how a program is missed."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def hasty(monkeypatch):
    """No test waits five seconds between TERM and KILL."""
    monkeypatch.setattr(command, "GRACE", 0.3)


def is_gone(pid: int) -> bool:
    """Say whether a process has ended: it may be a zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def read_pid(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), what=f"a process number in {path}"))


# --- how it is run ---------------------------------------------------------------------------------------------------


def test_a_string_goes_to_the_shell_and_a_list_to_none():
    assert run("echo $((1 + 1)); echo two >&2").tail == "2\ntwo"
    assert run(("echo", "$((1 + 1))", "a  b", "*")).tail == "$((1 + 1)) a  b *"


@pytest.mark.parametrize("name", ["os.memfd_create", "fcntl.F_ADD_SEALS"])
def test_a_python_built_for_an_older_c_library_runs_commands_too(monkeypatch, name):
    monkeypatch.delattr(name)
    assert run("echo output").tail == "output"


def test_its_variables_are_added_to_the_environment(monkeypatch):
    monkeypatch.setenv("MINE", "inherited")
    assert run('echo "$MINE $CONFPY_SRC"', CONFPY_SRC="/a b").tail == "inherited /a b"


def test_its_input_is_empty_and_its_group_its_own():
    assert run("read line || echo nothing to read").tail == "nothing to read"
    leader, group = run("echo $$; cut -d' ' -f5 /proc/$$/stat").tail.split()
    assert leader == group


@pytest.mark.usefixtures("unmeasured")
def test_what_is_hidden_it_does_not_see_and_all_else_is_untouched(monkeypatch):
    monkeypatch.setenv("CONFPY_PASSWORD", "secret")
    monkeypatch.setenv("CONFPY_NODES", "etcd:2379")
    tail = Shell(SECRET_VARIABLES).run(("env",), {"CONFPY_DEST": "/a"}, 30.0).tail.splitlines()
    assert sorted(tail) == sorted(
        f"{name}={value}" for name, value in {**os.environ, "CONFPY_DEST": "/a"}.items() if name != "CONFPY_PASSWORD"
    )


def test_it_inherits_no_open_file(tmp_path):
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        listed = run("ls -l /proc/self/fd").tail
    assert "/dev/null" in listed
    assert str(tmp_path) not in listed


def test_a_file_above_the_limit_of_descriptors_is_not_inherited_and_hinders_no_command(tmp_path):
    def under_a_lowered_limit() -> Ran:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Other tests of this process may have left many open.
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 100
        with (tmp_path / "open").open("w") as file:
            os.dup2(file.fileno(), 2 * limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        return run(f"readlink /proc/self/fd/{2 * limit} && exit 3; exit 4")

    assert Child(under_a_lowered_limit).result().code == 4


def signals_of_a_command() -> dict[str, int]:
    """Return the masks that a command finds; without the two signals that are the C library's own."""
    masks = run(("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")).tail
    usual = sum(1 << number - 1 for number in signal.valid_signals())
    return {line.split(":")[0]: int(line.split()[1], 16) & usual for line in masks.splitlines()}


def test_its_signals_have_default_dispositions_whatever_confpys_are():
    def story() -> dict[str, int]:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR2, signal.SIGTERM, signal.SIGRTMIN + 3):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        return signals_of_a_command()

    assert Child(story).result() == {"SigBlk": 0, "SigIgn": 0}


def test_a_thread_that_blocks_signals_gives_that_to_no_command():
    found = []

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
        found.append(signals_of_a_command())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0]["SigBlk"] == 0


def test_a_confpy_without_standard_files_runs_commands_too():
    def story() -> Ran:
        for descriptor in range(3):
            os.close(descriptor)
        return run("read line || echo nothing to read; echo and heard >&2")

    assert Child(story).result().tail == "nothing to read\nand heard"


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_an_exit_code_is_returned(code):
    ran = run(f"exit {code}")
    assert (ran.code, ran.timed_out) == (code, False)
    assert ran.failure == (f"exited with {code}" if code else "")


@pytest.mark.parametrize(
    ("number", "named"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGHUP, "SIGHUP"), (signal.SIGRTMIN + 6, "signal 40")]
)
def test_a_signal_that_ended_it_is_named(number, named):
    ran = run(f"kill -{int(number)} $$")
    assert ran.code == -number
    assert ran.failure == f"was ended by {named}"


def test_a_program_that_is_not_there_is_127_and_one_that_cannot_run_126(tmp_path):
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    missing, plain = run(("no-such-program",)), run((str(tmp_path / "plain"),))
    assert (missing.code, missing.tail) == (127, "no-such-program: No such file or directory")
    assert (plain.code, plain.tail) == (126, f"{tmp_path}/plain: Permission denied")
    assert run("no-such-program").code == 127
    assert run(f"'{tmp_path}/plain'").code == 126
    assert run((str(tmp_path),)).code == 126


def test_a_list_that_is_too_long_for_the_system_is_126():
    ran = run(("echo", "a" * (1 << 20)))
    assert (ran.code, ran.tail) == (126, "echo: Argument list too long")


# --- its time --------------------------------------------------------------------------------------------------------


def test_a_command_out_of_time_is_asked_to_end_first():
    ran = run("trap 'echo asked; exit 3' TERM; sleep 60 & wait", 0.3)
    assert (ran.timed_out, ran.code, ran.tail) == (True, 3, "asked")
    assert ran.failure.startswith("did not end within its time, killed after ")


def test_a_command_that_ignores_that_is_killed_with_all_its_children(tmp_path, hasty):
    script = f"trap '' TERM; sleep 99 & echo $! > {tmp_path}/child; wait; sleep 99"
    ran = run(script, 0.5)
    assert (ran.timed_out, ran.code) == (True, -signal.SIGKILL)
    assert ran.took < 10
    wait_until(lambda: is_gone(read_pid(tmp_path / "child")), what="the child is gone")


def test_children_that_outlive_a_command_out_of_time_are_killed(tmp_path, hasty):
    # The leader ends at once when asked; its child does not listen.
    script = f"sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/child; sleep 99; sleep 99' & wait"
    assert run(script, 0.5).code == -signal.SIGTERM
    wait_until(lambda: is_gone(read_pid(tmp_path / "child")), what="the child is gone")


def test_a_command_that_we_may_not_kill_is_not_waited_for_for_ever(hasty):
    def refuse(_group, _number):
        """As the kernel does for a command that has become another user (sudo)."""
        raise PermissionError(1, "Operation not permitted")

    # In a child: what is left behind there troubles nobody.
    def story() -> Ran:
        killpg, os.killpg = os.killpg, refuse
        ran = run("echo $$; exec sleep 99", 0.2)
        killpg(int(ran.tail), signal.SIGKILL)
        return ran

    ran = Child(story).result()
    assert (ran.timed_out, ran.code) == (True, -signal.SIGKILL)
    assert ran.took < 10


@pytest.mark.parametrize("timeout", [30.0, 0.2])
def test_a_kernel_that_does_not_tell_of_ends_is_asked_again_and_again(monkeypatch, timeout):
    def refuse(_process):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ran = run("sleep 0.05; exit 3" if timeout > 1 else "trap 'exit 3' TERM; sleep 60 & wait", timeout)
    assert (ran.code, ran.timed_out) == (3, timeout < 1)


def test_a_command_that_outlived_its_killing_is_reaped_when_the_next_one_runs(hasty, monkeypatch):
    shell = Shell()
    with monkeypatch.context() as patched:
        patched.setattr(command, "_kill_group", lambda _group, _number: None)
        left = int(shell.run("echo $$; exec sleep 99", {}, 0.1).tail)
    os.kill(left, signal.SIGKILL)
    wait_until(lambda: is_gone(left), what="it has ended")
    shell.run("true", {}, 10.0)
    assert not Path(f"/proc/{left}").exists()


def test_no_time_at_all_still_ends_well(hasty):
    assert run(("sleep", "60"), 0.0).timed_out


def test_all_that_run_are_killed_from_another_thread_at_once(tmp_path):
    shell, ran = Shell(), []
    script = f"sleep 99 & echo $! > {tmp_path}/$0; wait"
    threads = [
        threading.Thread(target=lambda name=name: ran.append(shell.run(("sh", "-c", script, name), {}, 60.0)))
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    children = [read_pid(tmp_path / name) for name in ("a", "b")]
    shell.kill_all()
    for thread in threads:
        thread.join(10)
    assert [(one.failure, one.code) for one in ran] == [("was cut short: confpy stops", -signal.SIGKILL)] * 2
    for child in children:
        wait_until(lambda child=child: is_gone(child), what="the child is gone")
    shell.kill_all()


def test_one_that_is_being_started_is_killed_with_those_that_run(monkeypatch):
    shell, spawn = Shell(), command._spawn

    def overtaken(*arguments) -> int:
        process = spawn(*arguments)
        shell.kill_all()
        return process

    monkeypatch.setattr(command, "_spawn", overtaken)
    assert shell.run("sleep 60", {}, 30.0).code == -signal.SIGKILL


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_is_terminated_runs_its_trap_and_has_failed_whatever_its_exit_code(tmp_path, code):
    shell, ran = Shell(), []
    script = f"trap 'echo tidied up; exit {code}' TERM; touch {tmp_path}/begun; sleep 60 & wait"
    thread = threading.Thread(target=lambda: ran.append(shell.run(script, {}, 60.0)))
    thread.start()
    wait_until((tmp_path / "begun").exists, what="it has begun")
    shell.terminate_all()
    thread.join(30)
    assert [(one.code, one.failure) for one in ran] == [(code, "was cut short: confpy stops")]
    # Before it, the shell may say that the signal has ended its child.
    assert ran[0].tail.splitlines()[-1] == "tidied up"


def test_children_that_outlive_one_that_was_asked_to_end_are_killed(tmp_path):
    shell = Shell()
    script = f"sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/child; sleep 99; sleep 99' & wait"
    thread = threading.Thread(target=shell.run, args=(script, {}, 60.0))
    thread.start()
    child = read_pid(tmp_path / "child")
    shell.terminate_all()
    thread.join(30)
    wait_until(lambda: is_gone(child), what="the child is gone")


def test_none_is_started_once_those_that_run_have_been_asked_to_end(tmp_path):
    shell = Shell()
    shell.terminate_all()
    assert shell.run(f"touch {tmp_path}/begun", {}, 60.0).failure == "was cut short: confpy stops"
    assert not (tmp_path / "begun").exists()


def test_no_process_and_no_descriptor_stays_behind():
    def left() -> tuple[int, set[str]]:
        """Return how many descriptors are open, and the children: the test run may have some of its own."""
        children = {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}
        return len(os.listdir("/proc/self/fd")), children

    before = left()
    shell = Shell()
    for _ in range(20):
        shell.run("true", {}, 10)
        shell.run(("no-such-program",), {}, 10)
    assert left() == before


# --- what it leaves in the background --------------------------------------------------------------------------------


def test_a_daemon_that_keeps_the_output_open_holds_nothing_up(tmp_path):
    ran = run(f"sleep 30 & echo $! > {tmp_path}/daemon; echo started")
    assert (ran.code, ran.tail) == (0, "started")
    assert ran.took < 20
    daemon = read_pid(tmp_path / "daemon")
    assert not is_gone(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_a_daemonized_child_is_neither_waited_for_nor_killed(tmp_path):
    (tmp_path / "daemon.sh").write_text(f"echo $$ > {tmp_path}/daemon; exec sleep 30")
    ran = run(f"setsid sh -c 'sh {tmp_path}/daemon.sh &' & exit 4", 20.0)
    assert ran.code == 4
    daemon = read_pid(tmp_path / "daemon")
    assert not is_gone(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_a_daemon_that_goes_on_writing_fails_softly_and_takes_no_memory(tmp_path):
    # It writes once it sees that the command has ended, and reports how that went.
    script = f"""
    (while [ ! -e {tmp_path}/go ]; do sleep 0.02; done
     echo more; echo $? > {tmp_path}/code
     stat -L -c %s /proc/self/fd/1 > {tmp_path}/size
     sleep 30) &
    echo $! > {tmp_path}/daemon
    """
    assert run(script).code == 0
    (tmp_path / "go").touch()
    assert read_pid(tmp_path / "code") != 0
    assert read_pid(tmp_path / "daemon")
    wait_until(lambda: (tmp_path / "size").exists() and (tmp_path / "size").read_text(), what="the size is written")
    assert (tmp_path / "size").read_text() == "0\n"
    os.kill(read_pid(tmp_path / "daemon"), signal.SIGKILL)


# --- its output ------------------------------------------------------------------------------------------------------


def test_the_last_four_kilobytes_are_returned():
    ran = run("seq 1 100000; exit 1")
    assert len(ran.tail) <= TAIL
    assert ran.tail.endswith("\n99999\n100000")


def test_a_flood_is_bounded_and_its_end_returned(monkeypatch, tmp_path):
    sizes = []
    bound = command._bound

    def watched(output):
        sizes.append(os.fstat(output.fileno()).st_blocks * 512)
        bound(output)

    monkeypatch.setattr(command, "_bound", watched)
    ran = run("i=0; while [ $i -lt 8 ]; do head -c 50000000 /dev/zero; sleep 0.1; i=$((i + 1)); done; echo the end")
    assert (ran.code, ran.tail) == (0, "the end")
    assert sizes
    # 400 MB were written; what is seen between two looks is the bound and what one look missed.
    assert max(sizes) < OUTPUT_BOUND + 200_000_000


def test_what_a_flood_had_written_last_survives_the_bound(monkeypatch):
    monkeypatch.setattr(command, "OUTPUT_BOUND", 100_000)
    ran = run("seq 1 100000; sleep 0.3; exit 4")
    assert ran.code == 4
    assert ran.tail.endswith("\n99999\n100000")


def test_control_characters_and_broken_bytes_are_taken_out():
    tail = run(r"printf '\033[31mred\033[0m\r\n\tA\000B\377C\342\200\256D\302\205E'").tail
    assert tail == "[31mred[0m\n\tAB\ufffdCDE"


def test_a_script_that_opens_its_error_output_anew_runs(tmp_path):
    ran = run("echo one; echo two > /dev/stderr; echo three > /proc/self/fd/1; exit 5")
    assert ran.code == 5
    assert "three" in ran.tail


def test_a_user_who_is_not_root_runs_commands_too():
    assert as_nobody(lambda: run("id -u; exit 2").code) == 2


def test_it_takes_its_time_as_told():
    began = time.monotonic()
    ran = run("sleep 0.3")
    assert 0.3 <= ran.took <= time.monotonic() - began


def test_a_command_for_which_there_is_no_descriptor_left_is_one_that_could_not_be_executed(monkeypatch):
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("confpy.system.subprocesses._file", none_left)
    ran = Shell().run("true", {}, 5.0)
    assert (ran.code, ran.tail) == (126, "/bin/sh: Too many open files")


# --- what is advised -------------------------------------------------------------------------------------------------


def hint(wanted) -> str:
    ran = run(wanted)
    assert ran.failure
    return ran.error(CheckError, "check", wanted).hint


def test_a_hint_says_what_is_so_of_a_program_that_cannot_be_started(tmp_path):
    path = tmp_path / "check"
    path.write_text("#!/no/such/interpreter\n")
    assert "may confpy's user execute it" in hint((str(path),))
    path.chmod(0o755)
    assert "the interpreter that its first line names" in hint((str(path),))
    assert "the interpreter that its first line names" in hint(str(path))
    path.write_bytes(b"\x7fELF")
    assert "another machine" in hint((str(path),))
    path.write_text("#!/bin/sh\n")
    with path.open("a"):
        assert hint((str(path),)) == "another process has it open for writing"
        assert "see the output" in hint(str(path))


def test_an_exit_code_that_a_program_chose_is_no_proof_of_what_a_shell_could_not_do():
    assert hint("exit 126").startswith("by convention 126 means")
    assert hint("exit 3") == ""
