"""``confpy history``, ``undo`` and ``accept`` as an operator uses them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.running import Confpy, environment, run_once
from tests.waiting import wait_until


@pytest.fixture
def confdir(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "web.j2").write_text('port {{ getv("/port") }}\n')
    (tmp_path / "conf.d" / "web.toml").write_text(
        f'[template]\nsrc = "web.j2"\ndest = "{tmp_path}/web.cfg"\nkeys = ["/port"]\n'
        f'check_cmd = "grep -q port {{{{.src}}}}"\nreload_cmd = "cp {tmp_path}/web.cfg {tmp_path}/read"\n'
    )
    return tmp_path


@pytest.fixture
def flags(confdir):
    return ("-confdir", str(confdir), "-backend", "file", "-file", str(confdir / "keys.yaml"))


def put(confdir, port):
    (confdir / "keys.new").write_text(f"port: {port}\n")
    (confdir / "keys.new").replace(confdir / "keys.yaml")


def call(confdir, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "confpy", *arguments], env=environment(confdir), cwd=confdir, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def has(confdir, port):
    return lambda: (confdir / "web.cfg").read_text() == (confdir / "read").read_text() == f"port {port}\n"


def test_through_the_daemon(confdir, flags):
    put(confdir, 1)
    with Confpy("-watch", *flags, folder=confdir) as confpy:
        confpy.says("resource.changed")
        put(confdir, 2)
        confpy.says("resource.changed")
        wait_until(lambda: "\n-port 1\n+port 2\n" in call(confdir, "status", "-diff", *flags).stdout)
        done = call(confdir, "undo", str(confdir / "web.cfg"), *flags)
        assert (done.returncode, done.stdout) == (0, "put back: web; held until confpy accept web\n"), done.stderr
        assert has(confdir, 1)()
        put(confdir, 3)
        shown = call(confdir, "status", "-json", *flags)
        (resource,) = json.loads(shown.stdout)["resources"]
        assert (resource["state"], resource["cause"], shown.returncode) == ("held", "undo", 11)
        assert has(confdir, 1)()
    with Confpy("-watch", *flags, folder=confdir) as confpy:
        confpy.says("resource.held", resource="web")
        assert has(confdir, 1)(), "also by the next start"
        assert call(confdir, "reload", "-wait", "-timeout", "20s", *flags).returncode == 0, (
            "it waits for nobody to accept"
        )
        assert call(confdir, "accept", "web", *flags).returncode == 0
        wait_until(has(confdir, 3))
    wait_until(lambda: [it["trigger"] for it in history(confdir, flags)] == ["start", "change", "undo", "accept"])
    entries = history(confdir, flags)
    assert [it["reload"] for it in entries] == ["succeeded"] * 4
    assert entries[2]["undoes"] == [entries[1]["delivery"]]
    assert entries[1]["keys"] == ["/port"]
    shown = call(confdir, "history", "web", *flags).stdout
    assert shown.splitlines()[0].split() == [
        "TIME",
        "TARGET",
        "TRIGGER",
        "REVISION",
        "CONTENT",
        "CHECK",
        "RELOAD",
        "TOOK",
        "KEYS",
    ]
    assert "/port" in shown


def history(confdir, flags):
    return json.loads(call(confdir, "history", "-json", *flags).stdout)


def test_where_none_runs(confdir, flags):
    for port in (1, 2):
        put(confdir, port)
        assert run_once(*flags, folder=confdir).code == 0
    done = call(confdir, "undo", "web", *flags)
    assert (done.returncode, done.stdout) == (0, "put back: web; held until confpy accept web\n"), done.stderr
    assert has(confdir, 1)()
    held = run_once(*flags, folder=confdir)
    assert (held.code, held.find("resource.held")["resource"]) == (0, "web")
    planned = call(confdir, "diff", *flags)
    assert "# web: stays as it is: confpy undo has put back the file before" in planned.stdout
    assert (planned.returncode, planned.stderr) == (0, "")
    assert has(confdir, 1)()
    assert call(confdir, "accept", "web", *flags).returncode == 0
    assert run_once(*flags, folder=confdir).code == 0
    assert has(confdir, 2)()
    assert [it["trigger"] for it in history(confdir, flags)] == ["start", "start", "undo", "start"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("undo", "/nowhere"), "no resource has the target /nowhere"), (("accept", "web"), "is not held back")],
)
def test_what_is_not_there_is_said(confdir, flags, arguments, says):
    put(confdir, 1)
    assert run_once(*flags, folder=confdir).code == 0
    done = call(confdir, *arguments, *flags)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_check_that_fails_leaves_the_new_file_and_holds_nothing(confdir, flags):
    for port in (1, 2):
        put(confdir, port)
        assert run_once(*flags, folder=confdir).code == 0
    file = confdir / "conf.d" / "web.toml"
    file.write_text(file.read_text().replace("grep -q port", "grep -q 'port 2'"))
    done = call(confdir, "undo", "web", *flags)
    assert done.returncode == 5
    assert has(confdir, 2)()
    assert run_once(*flags, folder=confdir).names == ["onetime.done"]
