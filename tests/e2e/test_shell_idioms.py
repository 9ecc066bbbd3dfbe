"""What the scripts around confd do with it, done by a real shell: entrypoints, loops, units, empty variables."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.running import in_path
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

Script = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """What the one resource of ``$CONFDIR`` makes of the key ``/greeting``."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    made = tmp_path / "target"
    (tmp_path / "conf.d" / "a.toml").write_text(
        f'[template]\nsrc = "a.tmpl"\ndest = "{made}"\nkeys = ["greeting"]\n'
        f'reload_cmd = "echo new >> {tmp_path}/reloads"\n'
    )
    (tmp_path / "templates" / "a.tmpl").write_text('{{getv "/greeting"}}\n')
    return made


@pytest.fixture
def sh(tmp_path: Path, target: Path) -> Iterator[Script]:
    """Starts a script, in whose PATH confpy is, and confd as a link to it."""
    variables = in_path(tmp_path, {"CONFDIR": str(tmp_path)})
    (tmp_path / "bin" / "confd").symlink_to("confpy")
    running = []

    def start(script: str, **more: str) -> subprocess.Popen[str]:
        started = subprocess.Popen(
            ["/bin/sh", "-c", script],
            cwd=tmp_path, env={**variables, **more}, stdin=subprocess.DEVNULL, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(started)
        return started

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return its exit code, and what it and confpy wrote."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def content(target: Path) -> str:
    return target.read_text() if target.exists() else ""


def test_a_loop_waits_for_the_store(sh: Script, tmp_path: Path) -> None:
    with Etcd(started=False) as etcd:
        script = sh(
            'until confpy -onetime -backend etcdv3 -node "$ETCD" -confdir "$CONFDIR"; do echo $? >> tries; sleep 1;'
            " done; exec cat target",
            ETCD=etcd.endpoint,
        )
        wait_until((tmp_path / "tries").exists, seconds=30, what="a first try has failed")
        etcd.start()
        etcd.put("/greeting", "hello")
        assert end(script)[:2] == (0, "hello\n")
    # The store was away, and later perhaps there without the key.
    assert {"3"} <= set(content(tmp_path / "tries").split()) <= {"3", "4"}


def test_once_and_then_a_daemon_in_the_background(sh: Script, etcd: Etcd, target: Path) -> None:
    etcd.put("/greeting", "hello")
    script = sh(
        'confd -onetime -node "$ETCD" -backend=etcdv3 --confdir "$CONFDIR" || exit 1; cp target first;'
        'confd -interval 1 -node="$ETCD" -backend etcdv3 -confdir=$CONFDIR & echo $! > pid; wait $!',
        ETCD=etcd.endpoint,
    )
    wait_until((target.parent / "pid").exists, seconds=30, what="the daemon has been started")
    assert content(target.parent / "first") == "hello\n"
    etcd.put("/greeting", "hello again")
    wait_until(lambda: content(target) == "hello again\n", seconds=30, what="the daemon has seen the change")
    os.kill(int(content(target.parent / "pid")), signal.SIGTERM)
    assert end(script)[0] == 0


def test_a_service_that_follows_and_says_nothing_but_errors(sh: Script, etcd: Etcd, target: Path) -> None:
    etcd.put("/greeting", "hello")
    script = sh(
        'exec confd -watch=true --confdir="$CONFDIR" -log-level error -backend etcdv3 --node $ETCD', ETCD=etcd.endpoint
    )
    wait_until(lambda: content(target) == "hello\n", seconds=30, what="it has delivered")
    etcd.put("/greeting", "hello again")
    wait_until(lambda: content(target.parent / "reloads") == "new\nnew\n", seconds=30, what="it has reloaded twice")
    script.terminate()
    assert end(script) == (0, "", "")


def test_an_entrypoint_renders_the_environment_and_becomes_the_service(sh: Script) -> None:
    script = sh('export GREETING=hello; confd -onetime -backend env -confdir "$CONFDIR" && exec cat target')
    assert end(script)[:2] == (0, "hello\n")


def test_an_entrypoint_stops_where_confpy_fails(sh: Script) -> None:
    code, out, err = end(sh('set -e; confd -onetime -backend env -confdir "$CONFDIR"; echo went on'))
    assert (code, out) == (4, "")
    assert "/greeting" in err


def test_a_run_for_each_variable(sh: Script, target: Path) -> None:
    script = 'for word in a b b; do GREETING=$word confd -onetime -sync-only -backend env -confdir "$CONFDIR"; done'
    assert end(sh(script))[0] == 0
    assert content(target) == "b\n"
    assert content(target.parent / "reloads") == ""


def test_empty_variables_are_as_good_as_none(sh: Script, target: Path) -> None:
    script = (
        'confd -onetime -backend env -confdir "$CONFDIR" -node "$NODE" -prefix "$PREFIX" -log-level "$LEVEL" '
        '-client-cert "$CERT" -interval="$INTERVAL" -config-file "$FILE" $MORE'
    )
    code, _, err = end(sh(script, GREETING="hello", NODE="", CONFD_INTERVAL=""))
    assert (code, content(target)) == (0, "hello\n")
    assert "warning" not in err


def test_a_resource_named_as_the_settings_file(sh: Script, target: Path) -> None:
    script = 'confd -onetime -backend env -confdir "$CONFDIR" -config-file "$CONFDIR/conf.d/a.toml"'
    code, _, err = end(sh(script, GREETING="hello"))
    assert (code, content(target)) == (0, "hello\n")
    assert '"the settings file holds no settings but a [template]"' in err


def test_flags_that_are_retired_or_of_other_stores(sh: Script, target: Path) -> None:
    script = 'confd -verbose -quiet=false --onetime -table T -role-id x -backend env -debug=true --confdir="$CONFDIR"'
    code, _, err = end(sh(script, GREETING="hello"))
    assert (code, content(target)) == (0, "hello\n")
    for flag in ("-verbose", "-quiet", "-debug", "-table", "-role-id"):
        assert f'"flag {flag} has no meaning here, ignored"' in err


def test_a_store_that_confpy_does_not_have_ends_with_those_that_it_has(sh: Script) -> None:
    for way in ("-onetime -backend vault -auth-type token", "vault --onetime --node 127.0.0.1:8200"):
        code, _, err = end(sh(f"confd {way}"))
        assert code == 2
        assert "unknown store 'vault'" in err
        assert "env, etcd, etcdv2, etcdv3, file, memory" in err


def test_the_forks_way_of_calling(sh: Script, etcd: Etcd, target: Path) -> None:
    etcd.put_all({"/production/app/greeting": "hello", "/production/greeting": "not this one"})
    resource = target.parent / "conf.d" / "a.toml"
    resource.write_text(resource.read_text() + 'prefix = "/app"\n')
    script = sh(
        'export CONFD_PREFIX=/production CONFD_LOG_LEVEL=error CONFD_CONFDIR="$CONFDIR" CONFD_METRICS_ADDR=:9100;'
        'confd etcd --node "$ETCD" --onetime && confd --watch etcd -n "$ETCD"',
        ETCD=etcd.endpoint,
    )
    wait_until(lambda: content(target) == "hello\n", seconds=30, what="it has delivered")
    etcd.put("/production/app/greeting", "hello again")
    wait_until(lambda: content(target) == "hello again\n", seconds=30, what="it has seen the change")
    os.killpg(script.pid, signal.SIGTERM)
    end(script)
