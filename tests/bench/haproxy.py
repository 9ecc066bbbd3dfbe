"""HAProxy beside confpy: a storm of puts that it is reloaded for, and a check that hangs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.bench.bench import Bench, say
from tests.bench.changes import followers
from tests.bench.confdirs import Confdir
from tests.bench.processes import BrokenError, Running, cpu, resident
from tests.bench.stores import Store, opened
from tests.servers.haproxy import HAProxy
from tests.servers.ports import free_port
from tests.waiting import wait_until

RESOURCE = """\
[template]
src = "{number:02}.j2"
dest = "{folder}/haproxy/{number:02}.cfg"
keys = ["/svc/{number:02}"]
group = "lb"
check_cmd = "haproxy -c -f {folder}/haproxy"
check_mode = "swap"
reload_cmd = "echo x >> {folder}/reloads; kill -USR2 $(cat {folder}/pid)"
min_reload_interval = "{interval}s"
"""
BACKEND = """\
backend b{number:02}
{{% for value in getvs("/svc/{number:02}/*") %}}    server s{{{{ loop.index }}}} 127.0.0.1:{{{{ value }}}}
{{% endfor %}}"""
HEAD = """\
global
    log stderr local0 emerg
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend web
    bind 127.0.0.1:{port}
"""
RESOURCES, INTERVAL = 50, 2


def make_confdir(folder: Path, port: int) -> None:
    """Write the resources of one HAProxy, which share its check and its reload."""
    for part in ("conf.d", "templates", "haproxy", "state", "cache"):
        (folder / part).mkdir(parents=True, mode=0o700)
    (folder / "haproxy" / "0.cfg").write_text(HEAD.format(port=port))
    for number in range(RESOURCES):
        text = RESOURCE.format(folder=folder, number=number, interval=INTERVAL)
        (folder / "conf.d" / f"{number:02}.toml").write_text(text)
        (folder / "templates" / f"{number:02}.j2").write_text(BACKEND.format(number=number))


def measure_reloads(bench: Bench) -> None:
    """Measure a storm of puts to 50 resources of one HAProxy: all are new in the end, with some reloads."""
    say(f"storm of {bench.sizes.storm // 2:,} puts to one HAProxy")
    folder, port = bench.fresh("haproxy"), free_port()
    make_confdir(folder, port)
    environment = bench.own.environment(folder)
    with opened("etcd") as store:
        store.keys.put_all({f"/svc/{one:02}/{key}": "1" for one in range(RESOURCES) for key in range(4)})
        command = [*bench.own.command, "-watch", "-backend", "etcdv3", "-confdir", str(folder), "-node", store.node]
        once = [*command, "-onetime", "-no-reload"]
        subprocess.run(once, env=environment, cwd=folder, check=True, capture_output=True)
        program = HAProxy(folder / "haproxy", pidfile=folder / "pid", socket=folder / "socket", port=port)
        with Running(command, environment, folder) as running:
            try:
                program.started()
                storm(bench, store, folder, running)
            finally:
                program.stop()


def storm(bench: Bench, store: Store, folder: Path, running: Running) -> None:
    """Put keys; note when the files were final, and how often HAProxy was reloaded."""
    number, seconds = bench.sizes.storm // 2, bench.sizes.storm / 2000
    store.keys.put("/svc/00/0", "2")
    wait_until((folder / "reloads").exists, seconds=60, what="the first reload")
    used, began, most = cpu(running.pid), time.perf_counter(), 0
    last: dict[int, str] = {}
    for turn in range(number // 10):
        numbers = [(turn * 10 + one) % RESOURCES for one in range(10)]
        store.keys.transact({f"/svc/{one:02}/{turn % 4}": str(turn % 60000 + 1) for one in numbers})
        last.update(dict.fromkeys(numbers, f":{turn % 60000 + 1}\n"))
        most = max(most, resident(running.pid))
        time.sleep(max(0.0, began + turn * seconds * 10 / number - time.perf_counter()))
    for one, text in last.items():
        target = folder / "haproxy" / f"{one:02}.cfg"
        wait_until(lambda target=target, text=text: text in target.read_text(), seconds=60, what=f"{text} in {target}")
    settled = time.perf_counter() - began
    wait_until(lambda: "reloaded=true" in running.log.read_text().splitlines()[-1], seconds=60, what="a reload")
    time.sleep(2 * INTERVAL)
    checked = subprocess.run(["haproxy", "-c", "-f", folder / "haproxy"], capture_output=True, check=False)
    if checked.returncode:
        raise BrokenError("HAProxy does not take the final files")
    name, reloads = bench.own.name, len((folder / "reloads").read_text().splitlines()) - 1
    bench.figures.add("haproxy.storm.wall", name, settled)
    bench.figures.add("haproxy.storm.cpu", name, cpu(running.pid) - used)
    bench.figures.add("haproxy.storm.memory", name, most)
    bench.figures.add("haproxy.storm.reloads", name, reloads)
    bench.figures.add("haproxy.storm.reloads", "bound", int(settled / INTERVAL) + 1)


def measure_hanging(bench: Bench) -> None:
    """Measure a change of one resource while the check of another one hangs."""
    say("changes while a check hangs")
    with opened("etcd") as store:
        confdir = bench.confdir(bench.own, 20, 4)
        store.keys.put_all(confdir.all_keys())
        with followers(bench, [confdir], store, "etcd.20x4", "-stop-timeout", "1s") as ready:
            for follower in ready:
                hang(confdir)
                follower.running.rest()
                delays = []
                for turn in range(bench.sizes.changes + 10):
                    key, mark = confdir.key(1 + turn % 19, 0), f"turn{turn}."
                    delays.append(follower.change_of(1 + turn % 19, key, mark))
                    time.sleep(0.15)
                bench.figures.add("hanging.etcd.latency", bench.own.name, *(one.total - one.put for one in delays))


def hang(confdir: Confdir) -> None:
    """Let the check of the first resource hang, which has to be delivered anew for that."""
    toml = confdir.folder / "conf.d" / f"{confdir.name(0)}.toml"
    toml.write_text(toml.read_text() + 'check_cmd = "sleep 300 # {{.src}}"\n')
    confdir.target(0).unlink()
