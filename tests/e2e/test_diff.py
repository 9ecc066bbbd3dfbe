"""``confpy diff``: what would change is shown, and nothing is changed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.e2e.running import environment
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port


def diff(installation: Installation, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "confpy", "diff", *installation.where, *flags],
        env=environment(installation.folder, more), cwd=installation.folder,
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_ino) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    made = Installation(tmp_path)
    made.write("app: {web: new, same: x}")
    return made


def test_a_reload_that_may_be_avoided_is_not_promised(installation: Installation) -> None:
    """Only the running HAProxy can say whether it can be told of the change."""
    socket = f"unix:{installation.folder}/admin.sock"
    installation.add("web", reload_cmd="'true'", reload_haproxy=f"'{socket}'").write_text("old\n")
    ended = diff(installation)
    unless = f"unless the HAProxy at {socket} can be told of the change"
    assert f"# web: then it would be reloaded: true, {unless}\n" in ended.stdout


def test_a_difference_is_shown_and_nothing_is_written(installation: Installation) -> None:
    ran = installation.folder / "ran"
    web = installation.add(
        "web", check_cmd=f"'touch {installation.folder}/checked; grep -q new {{{{.src}}}}'", reload_cmd=f"'touch {ran}'"
    )
    web.write_text("old\n")
    installation.add("same").write_text("x\n")
    missing = installation.add("missing")
    before = files(installation.folder)
    ended = diff(installation)
    assert ended.returncode == 0, ended.stderr
    assert f"--- {web}\n+++ {web}\t(web)\n@@ -1 +1 @@\n-old\n+new\n" in ended.stdout
    assert f"--- /dev/null\n+++ {missing}\t(missing)\n@@ -0,0 +1 @@\n+none\n" in ended.stdout
    assert f"# web: then it would be reloaded: touch {ran}\n" in ended.stdout
    assert ended.stdout.endswith("# 3 resources: 2 would change\n")
    assert "\x1b" not in ended.stdout
    checked = installation.folder / "checked"
    assert checked.exists(), "the check was run"
    checked.unlink()
    assert files(installation.folder) == before


def test_the_code_tells_whether_something_would_change(installation: Installation) -> None:
    web = installation.add("web")
    assert diff(installation).returncode == 0
    assert diff(installation, "-exit-code").returncode == 10
    web.write_text("new\n")
    ended = diff(installation, "-exit-code")
    assert (ended.returncode, ended.stdout) == (0, "# 1 resource: nothing would change\n")


def test_what_fails_has_its_own_code_and_the_rest_is_shown(installation: Installation) -> None:
    installation.add("web")
    refused = installation.add("refused", check_cmd="'false {{.src}}'")
    ended = diff(installation, "-exit-code")
    assert ended.returncode == 5
    assert "# refused: failed: " in ended.stdout
    assert f"+++ {refused}\t(refused)\n" in ended.stdout, "also what a check rejects is shown"
    assert "1 would change, 1 failed" in ended.stdout
    installation.add("broken", "{{ nothing }}")
    assert diff(installation, "-exit-code").returncode == 4


def test_a_check_in_place_is_not_run_and_that_is_said(installation: Installation) -> None:
    ran = installation.folder / "ran"
    installation.add("web", check_cmd=f"'touch {ran}'", check_mode="'swap'", reload_cmd="'true'")
    ended = diff(installation)
    assert f"# web: the check was not run, as it needs the file in its place: touch {ran}\n" in ended.stdout
    assert not ran.exists()


def test_a_mode_is_shown_and_no_content_of_a_sensitive_resource(installation: Installation) -> None:
    secret = installation.add("web", sensitive="true", mode="'0600'")
    secret.write_text("old\n")
    secret.chmod(0o644)
    for flags in ((), ("-json",), ("-log-level", "debug")):
        ended = diff(installation, *flags)
        said = ended.stdout + ended.stderr
        assert "new" not in said.replace("renewed", "")
        assert "old" not in ended.stdout
    ended = diff(installation)
    assert "content, mode 0644 → 0600" in ended.stdout
    assert "not shown: sensitive = true" in ended.stdout


def test_the_plan_as_json(installation: Installation) -> None:
    web = installation.add("web", check_cmd="'grep -q new {{.src}}'", reload_cmd="'true'")
    made = json.loads(diff(installation, "-json").stdout)
    (one,) = made["resources"]
    assert made["changes"] == 1
    assert (one["resource"], one["target"], one["outcome"], one["differs"]) == (
        "web",
        str(web),
        "would change",
        ["missing"],
    )
    assert (one["check"], one["checked"], one["reload"]) == ("grep -q new {{.src}}", True, "true")
    assert one["diff"].endswith("+new\n")


def test_a_target_that_cannot_be_read_is_said(installation: Installation) -> None:
    target = installation.add("web")
    target.mkdir()
    ended = diff(installation)
    assert ended.returncode == 6
    assert "# web: failed: the target is a directory" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_store_that_is_down_is_an_error_of_the_store(tmp_path: Path) -> None:
    installation = Installation(tmp_path, "-backend", "etcdv3", "-node", f"http://127.0.0.1:{free_port()}")
    installation.add("web")
    ended = diff(installation)
    assert ended.returncode == 3
    assert "store" in ended.stderr


def test_the_keys_of_a_real_store_count(tmp_path: Path, etcd: Etcd) -> None:
    etcd.put("/app/web", "from etcd")
    installation = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    installation.add("web")
    assert "+from etcd\n" in diff(installation).stdout


def test_noop_says_the_same_in_the_log(installation: Installation) -> None:
    web = installation.add("web")
    ended = installation.once("-noop")
    assert ended.find("resource.would_change", resource="web")["target"] == str(web)
    assert not web.exists()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_it_is_coloured_and_paged_and_safe(installation: Installation, no_color: str) -> None:
    installation.write('app: {web: "a\\eb"}')
    installation.add("web", "{{ getv('/app/web') }}\n" * 60)
    controller, terminal = pty.openpty()
    variables = {"TERM": "xterm", "PAGER": "cat", **({"NO_COLOR": "1"} if no_color else {})}
    env = environment(installation.folder, variables)
    running = subprocess.Popen(
        [sys.executable, "-m", "confpy", "diff", *installation.where],
        env=env, cwd=installation.folder, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(controller, 65536):
            shown += part
    except OSError:  # the other side has ended
        pass
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert b"+a\\x1bb" in shown
    assert (b"\x1b[32m+" in shown) is not bool(no_color)
    os.close(controller)
