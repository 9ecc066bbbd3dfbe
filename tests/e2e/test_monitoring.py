"""Health, readiness and metrics of a real confpy, as orchestrators, Prometheus and confd's fork ask for them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.running import ROOT, Confpy, command, environment
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

MONITORING = ROOT / "examples" / "monitoring"


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Return the code and the body of an answer; 0 where there is none."""
    request = urllib.request.Request(f"http://localhost:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def confdir(folder: Path, key: str, more: str = "") -> str:
    for part in ("conf.d", "templates"):
        (folder / part).mkdir()
    (folder / "conf.d" / "web.toml").write_text(
        f'[template]\nsrc = "web.tmpl"\ndest = "{folder}/web.out"\nkeys = ["{key}"]\n{more}'
    )
    (folder / "templates" / "web.tmpl").write_text(f'service: {{{{ getv "{key}" }}}}\n')
    return str(folder)


def test_prometheus_takes_the_metrics_and_the_alerts_do_what_they_say(tmp_path: Path) -> None:
    promtool, port = find("promtool"), free_port()
    confpy = Confpy(
        "-watch", "-backend", "env", "-confdir", confdir(tmp_path, "/service"), "-status-addr", str(port),
        folder=tmp_path, more={"SERVICE": "x"},
    )  # fmt: skip
    with confpy:
        confpy.says("confpy.ready")
        code, text = get(port, "/metrics")
    assert code == 200
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert not re.search(r"^(confpy|error)", checked.stderr + checked.stdout, re.MULTILINE), checked.stderr
    for arguments in (("check", "rules", "confpy.rules.yml"), ("check", "config", "prometheus.yml"),
                      ("test", "rules", "confpy.rules.test.yml")):  # fmt: skip
        done = subprocess.run([promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    alerts = re.findall(r"alert: (\w+)", (MONITORING / "confpy.rules.yml").read_text())
    assert alerts == ["ReloadOwed", "StoreSilent", "HeldBack", "NotReady", "Restarting"]
    assert {*alerts} == {*re.findall(r"alertname: (\w+)", (MONITORING / "confpy.rules.test.yml").read_text())}
    assert all(f"| {alert} |" in (MONITORING / "README.md").read_text() for alert in alerts)


@pytest.mark.parametrize("flags", [("env", "--watch"), ("env", "--interval", "2")], ids=["watch", "interval"])
def test_what_the_fork_s_probes_and_dashboards_ask_is_answered(tmp_path: Path, flags: tuple[str, ...]) -> None:
    port = free_port()
    confpy = Confpy(
        *flags, "--confdir", confdir(tmp_path, "/service/name"), "--metrics-addr", f":{port}", "--log-level", "info",
        folder=tmp_path, more={"SERVICE_NAME": "x"},
    )  # fmt: skip
    with confpy:
        wait_until(lambda: get(port, "/health") == (200, "ok"))
        assert get(port, "/ready") == (200, "ok")  # it waits for the start
        code, text = get(port, "/ready/detailed")
        found = json.loads(text)
        assert (code, found["healthy"], found["details"]) == (200, True, {"env": "up"})
        assert found["message"]
        _, metrics = get(port, "/metrics")
        assert "# HELP" in metrics
        for line in (
            r"^confd_templates_loaded 1\.0$", r'^confd_backend_healthy\{backend="env"\} 1\.0$',
            r"^confd_template_cache_hits_total \d",
        ):  # fmt: skip
            assert re.search(line, metrics, re.MULTILINE), line


def test_who_reaches_confpy_by_the_name_of_somebody_else_gets_nothing(tmp_path: Path) -> None:
    port = free_port()
    confpy = Confpy(
        "-watch", "-backend", "env", "-confdir", confdir(tmp_path, "/service"), "-status-addr", f":{port}",
        "-status-hosts", "lb.example.com", folder=tmp_path, more={"SERVICE": "x"},
    )  # fmt: skip
    with confpy:
        confpy.says("confpy.ready")
        assert get(port, "/healthz", Host="lb.example.com:9100")[0] == 200
        assert get(port, "/healthz", Host=f"{socket.gethostname()}:9100")[0] == 200
        assert get(port, "/healthz", Host="10.1.2.3:9100")[0] == 200
        for path in ("/", "/status", "/metrics", "/healthz"):
            assert get(port, path, Host="evil.example")[0] == 421


PATHS = ("/", "/view", "/status", "/metrics", "/readyz", "/readyz?strict", "/healthz", "/ready/detailed", "/nothing")


@pytest.mark.parametrize("command", ["check_cmd", "reload_cmd"])
def test_over_tcp_no_value_no_command_and_nothing_that_a_command_prints_is_shown(tmp_path: Path, command: str) -> None:
    value, token, port = "canary-of-a-key", "canary-of-a-command", free_port()
    more = f'{command} = "echo {token}; cat {{{{.src}}}}; exit 1"\n'
    confpy = Confpy(
        "-watch", "-backend", "env", "-confdir", confdir(tmp_path, "/service", more), "-status-addr", str(port),
        folder=tmp_path, more={"SERVICE": value},
    )  # fmt: skip
    with confpy:
        failed = confpy.says("resource.failed" if command == "check_cmd" else "reload.failed")
        assert token in failed["output"]
        for path in PATHS:
            code, text = get(port, path)
            assert code
            assert value not in text
            assert token not in text
        assert "resource web: " in get(port, "/readyz?strict")[1]


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:0", "unix:relative"])
def test_an_address_that_is_none_is_a_mistake_of_usage(tmp_path: Path, address: str) -> None:
    done = subprocess.run(
        command("-backend", "env", "-confdir", confdir(tmp_path, "/a"), "-status-addr", address),
        env=environment(tmp_path), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, "flag -status-addr is not an address such as" in done.stderr) == (2, True)


def test_a_port_in_use_is_a_mistake_of_usage_and_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = subprocess.run(
            command("-backend", "env", "-confdir", confdir(tmp_path, "/a"), "-status-addr", address),
            env=environment(tmp_path), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert json.loads(done.stderr.splitlines()[-1])["error"] == f"cannot listen at {address}: address already in use"


def test_readiness_of_a_sidecar_while_its_store_is_frozen(tmp_path: Path, etcd: Etcd) -> None:
    etcd.put("/service", "x")
    port = free_port()
    confpy = Confpy(
        "-watch", "-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", confdir(tmp_path, "/service"),
        "-status-addr", str(port), folder=tmp_path,
    )  # fmt: skip
    with confpy:
        confpy.says("confpy.ready")
        assert get(port, "/readyz?strict") == (200, "ok")
        etcd.freeze()
        try:
            wait_until(lambda: get(port, "/readyz?strict")[0] == 503)
            assert "store etcdv3" in get(port, "/readyz?strict")[1]
            assert get(port, "/readyz") == (200, "ok")
            assert get(port, "/healthz") == (200, "ok")
        finally:
            etcd.thaw()
        wait_until(lambda: get(port, "/readyz?strict") == (200, "ok"))


def memory(pid: int) -> int:
    """Return the KiB of a process that are in memory."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))


def test_a_daemon_that_is_probed_and_never_scraped_takes_at_most_six_mib_more(tmp_path: Path) -> None:
    folder, port, taken = confdir(tmp_path, "/service"), free_port(), []
    for flags in ((), ("-status-addr", str(port))):
        confpy = Confpy(
            "-backend", "env", "-interval", "600", "-confdir", folder, *flags, folder=tmp_path, more={"SERVICE": "x"}
        )
        with confpy:
            confpy.says("confpy.ready")
            if flags:
                for _ in range(20):
                    assert get(port, "/readyz?strict") == (200, "ok")
            taken.append(memory(confpy.process.pid))
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
    assert taken[1] - taken[0] <= 6 << 10


def imported(folder: Path, *flags: str, asks: str = "") -> set[str]:
    """Return the modules that a daemon has loaded when it ends."""
    written = folder / "imports"
    with written.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "confpy", "-backend", "env", "-confdir", str(folder), *flags],
            env=environment(folder, {"SERVICE": "x"}), stdin=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
        try:
            wait_until(lambda: "confpy.ready" in written.read_text())
            if asks:
                assert get(int(flags[-1]), asks)[0] == 200
        finally:
            process.terminate()
            assert process.wait(20) == 0
    lines = written.read_text().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def test_who_does_not_want_the_status_over_http_loads_nothing_of_it(tmp_path: Path) -> None:
    confdir(tmp_path, "/service")
    heavy = {"http.server", "http.client", "prometheus_client", "confpy.status.server", "confpy.status.page"}
    assert imported(tmp_path) & heavy == set()
    probed = imported(tmp_path, "-status-addr", str(free_port()), asks="/readyz")
    assert heavy - probed == {"prometheus_client"}
    assert heavy <= imported(tmp_path, "-status-addr", str(free_port()), asks="/metrics")
