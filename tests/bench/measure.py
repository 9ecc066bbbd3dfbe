"""What confpy costs: start-up, changes, a burst, memory, templates. Figures for people, asserted nowhere.

    scripts/bench [--peer /path/to/confd] [--resources 1000]

Each figure is the median of several, taken in one run on one machine; compare ratios, not seconds of another day.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Literal

from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Compiled, World
from tests.e2e.running import environment
from tests.rendering import resource, view_of
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.servers.haproxy import HAProxy
from tests.servers.ports import free_port
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until

TICKS = os.sysconf("SC_CLK_TCK")


def row(name: str, figure: str) -> None:
    sys.stdout.write(f"{name:<58} {figure}\n")
    sys.stdout.flush()


def timed(run: Callable[[], object], times: int = 9, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median of the seconds that ``run`` takes, after one that does not count."""
    run()
    found = []
    for _ in range(times):
        began = clock()
        run()
        found.append(clock() - began)
    return statistics.median(found)


def children() -> float:
    """Return the seconds of processor time that the children took that have ended."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Place:
    """A confdir with many resources, each over a prefix of its own."""

    def __init__(self, folder: Path, resources: int, *, template: str, name: str, reload_cmd: str = "") -> None:
        self.folder = folder
        self.resources = resources
        for part in ("conf.d", "templates", "out"):
            (folder / part).mkdir(parents=True)
        (folder / "templates" / name).write_text(template)
        for number in range(resources):
            (folder / "conf.d" / f"{number:04}.toml").write_text(
                f'[template]\nsrc = "{name}"\ndest = "{self.target(number)}"\nkeys = ["/svc/{number:04}"]\n'
                + (f'reload_cmd = "{reload_cmd}"\n' if reload_cmd else "")
            )

    def target(self, number: int) -> Path:
        return self.folder / "out" / f"{number:04}"

    def shows(self, number: int, text: str) -> None:
        target = self.target(number)
        wait_until(lambda: target.exists() and text in target.read_text(), seconds=120, what=f"{text} in {target.name}")


JINJA = '{% for key, value in gets("/svc/*/*") %}{{ key }}={{ value }}\n{% endfor %}'
GO = '{{range gets "/svc/*/*"}}{{.Key}}={{.Value}}\n{{end}}'


def processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> float:
    """Return the resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_start(folder: Path, peer: str | None) -> None:
    place = Place(folder / "start", 1, template='{{ getv("/svc/0000", "x") }}\n', name="t.j2")
    command = [sys.executable, "-m", "confpy", "-onetime", "-backend", "env", "-confdir", str(place.folder)]

    def run(command: Sequence[str]) -> None:
        subprocess.run(command, env=environment(folder), check=True, stderr=subprocess.DEVNULL)

    python = timed(lambda: run([sys.executable, "-c", "pass"]))
    confpy = timed(lambda: run(command))
    row("one-shot, env, one resource in sync", f"{confpy * 1000:.0f} ms, of which Python itself {python * 1000:.0f}")
    row("  processor time", f"{timed(lambda: run(command), 31, children) * 1000:.0f} ms")
    if peer:
        (place.folder / "templates" / "t.j2").write_text('{{getv "/svc/0000" "x"}}\n')
        confd = timed(lambda: run([peer, *command[3:], "-log-level", "error"]))
        row("  the peer", f"{confd * 1000:.0f} ms")


def measure_following(folder: Path, name: str, command: list[str], place: Place, resources: int) -> None:
    """Measure one follower of many resources: its start, one change, a burst."""
    with Etcd() as etcd, FaultProxy(etcd.port) as proxy:
        etcd.put_all({f"/svc/{number:04}/{key}": "1" for number in range(resources) for key in "abcd"})
        began = time.perf_counter()
        log = (folder / f"{name}.log").open("w")
        process = subprocess.Popen([*command, "-node", proxy.endpoint], env=environment(folder), stderr=log)
        try:
            for number in range(resources):
                place.shows(number, "a=1")
            row(f"{name}: {resources} resources, first pass", f"{time.perf_counter() - began:.2f} s")
            requests, passed = len(proxy.requests), proxy.bytes_down
            row("  requests and bytes for it", f"{requests}, {passed / 1e6:.2f} MB")
            row("  memory", f"{memory(process.pid):.0f} MB")
            delays, costs = [], []
            for turn in range(30):
                number, used = turn * 7 % resources, processor(process.pid)
                etcd.put(f"/svc/{number:04}/a", f"turn{turn}")
                put = time.perf_counter()
                target = place.target(number)
                while f"turn{turn}" not in target.read_text():
                    time.sleep(0.0002)
                delays.append(time.perf_counter() - put)
                costs.append(processor(process.pid) - used)
            row("  one change is in its file after", f"{statistics.median(delays) * 1000:.1f} ms (median of 30)")
            row("  processor time for each", f"{sum(costs) / len(costs) * 1000:.1f} ms")
            used, began = processor(process.pid), time.perf_counter()
            for turn in range(2000):
                etcd.put(f"/svc/{turn % 50:04}/b", f"burst{turn}")
            place.shows(1999 % 50, "burst1999")
            row("  2,000 puts to 50 resources", f"{time.perf_counter() - began:.1f} s")
            row("  processor time for them", f"{processor(process.pid) - used:.2f} s")
            row("  memory afterwards", f"{memory(process.pid):.0f} MB")
        finally:
            process.terminate()
            process.wait(20)
            log.close()


def measure_consul(folder: Path, resources: int) -> None:
    """Measure a change on Consul: resources of 20 keys each, one of which changes."""
    place = Place(folder / "consul", resources, template=JINJA, name="t.j2")
    command = [sys.executable, "-m", "confpy", "-watch", "-backend", "consul", "-confdir", str(place.folder)]
    with Consul() as consul:
        consul.transact({f"svc/{number:04}/{key:02}": "1" for number in range(resources) for key in range(20)})
        log = (folder / "consul.log").open("w")
        began = time.perf_counter()
        process = subprocess.Popen([*command, "-node", consul.endpoint], env=environment(folder), stderr=log)
        try:
            for number in range(resources):
                place.shows(number, "00=1")
            row(
                f"confpy on Consul: {resources} resources of 20 keys, first pass",
                f"{time.perf_counter() - began:.2f} s",
            )
            consul.put("svc/0000/00", "watched")
            place.shows(0, "watched")
            delays, used, turns = [], processor(process.pid), 20
            for turn in range(turns):
                number = (turn * 47 + 13) % resources
                target = place.target(number)
                time.sleep(0.5)  # each change finds it at rest
                consul.put(f"svc/{number:04}/07", f"turn{turn}")
                put = time.perf_counter()
                while f"turn{turn}" not in target.read_text():
                    time.sleep(0.0002)
                delays.append(time.perf_counter() - put)
            row("  one change is in its file after", f"{statistics.median(delays) * 1000:.1f} ms (median of {turns})")
            row("  processor time for each", f"{(processor(process.pid) - used) / turns * 1000:.1f} ms")
            row("  memory", f"{memory(process.pid):.0f} MB")
        finally:
            process.terminate()
            process.wait(20)
            log.close()


STORM = """\
[template]
src = "backend.j2"
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
HAPROXY = """\
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


def measure_storm(folder: Path, *, puts: int = 10_000, seconds: float = 10.0, interval: int = 2) -> None:
    """Measure a storm of puts to 50 resources of one HAProxy: all are new in the end, with some reloads."""
    folder /= "storm"
    for part in ("conf.d", "templates", "haproxy"):
        (folder / part).mkdir(parents=True)
    port = free_port()
    (folder / "haproxy" / "0.cfg").write_text(HAPROXY.format(port=port))
    for number in range(50):
        (folder / "conf.d" / f"{number:02}.toml").write_text(
            STORM.format(folder=folder, number=number, interval=interval).replace("backend.j2", f"{number:02}.j2")
        )
        (folder / "templates" / f"{number:02}.j2").write_text(BACKEND.format(number=number))
    flags = ["-watch", "-backend", "etcdv3", "-confdir", str(folder)]
    with Etcd() as etcd:
        etcd.put_all({f"/svc/{number:02}/{key}": "1" for number in range(50) for key in range(4)})
        once = [sys.executable, "-m", "confpy", *flags, "-onetime", "-no-reload", "-node", etcd.endpoint]
        subprocess.run(once, env=environment(folder), check=True, capture_output=True)
        log = (folder / "log").open("w")
        proxy = HAProxy(folder / "haproxy", pidfile=folder / "pid", socket=folder / "socket", port=port)
        process = subprocess.Popen(
            [sys.executable, "-m", "confpy", *flags, "-node", etcd.endpoint], env=environment(folder), stderr=log
        )
        try:
            proxy.started()
            etcd.put("/svc/00/0", "2")
            wait_until((folder / "reloads").exists, seconds=60, what="the first reload")
            before, used, most = memory(process.pid), processor(process.pid), 0.0
            began = time.perf_counter()
            for turn in range(puts // 10):
                etcd.transact(
                    {f"/svc/{(turn * 10 + one) % 50:02}/{turn % 4}": str(turn % 60000 + 1) for one in range(10)}
                )
                most = max(most, memory(process.pid))
                time.sleep(max(0.0, began + turn * seconds * 10 / puts - time.perf_counter()))
            took = time.perf_counter() - began
            last = {
                number: f":{turn + 1}\n"
                for turn in range(puts // 10)
                for number in [(turn * 10 + one) % 50 for one in range(10)]
            }
            for number, text in last.items():
                target = folder / "haproxy" / f"{number:02}.cfg"
                wait_until(
                    lambda target=target, text=text: text in target.read_text(), seconds=60, what=f"{text} in {target}"
                )
            settled = time.perf_counter() - began
            wait_until(
                lambda: "reloaded=true" in (folder / "log").read_text().splitlines()[-1], seconds=60, what="a reload"
            )
            time.sleep(2 * interval)
            reloads = len((folder / "reloads").read_text().splitlines()) - 1
            row(
                f"storm: {puts} puts in {took:.1f} s to 50 resources of one HAProxy",
                f"files final after {settled:.1f} s",
            )
            row(f"  reloads, at {interval} s between two at least", f"{reloads} (bound {int(settled / interval) + 1})")
            row("  processor time", f"{processor(process.pid) - used:.2f} s")
            row("  memory before, at most, after", f"{before:.0f}, {most:.0f}, {memory(process.pid):.0f} MB")
            checked = subprocess.run(["haproxy", "-c", "-f", folder / "haproxy"], capture_output=True, check=False)
            row("  HAProxy takes the final files", str(checked.returncode == 0))
        finally:
            process.terminate()
            process.wait(20)
            proxy.stop()
            log.close()


def measure_hanging(folder: Path) -> None:
    """Measure a change of one resource while the check of another one hangs."""
    place = Place(folder / "hanging", 20, template=JINJA, name="t.j2")
    slow = folder / "hanging" / "conf.d" / "0000.toml"
    slow.write_text(slow.read_text() + 'check_cmd = "sleep 30 # {{.src}}"\n')
    command = [sys.executable, "-m", "confpy", "-watch", "-backend", "etcdv3", "-stop-timeout", "1s"]
    with Etcd() as etcd:
        etcd.put_all({f"/svc/{number:04}/a": "1" for number in range(20)})
        process = subprocess.Popen(
            [*command, "-confdir", str(place.folder), "-node", etcd.endpoint],
            env=environment(folder), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            place.shows(19, "a=1")
            delays = []
            for turn in range(30):
                number = 1 + turn % 19
                etcd.put(f"/svc/{number:04}/a", f"turn{turn}")
                put = time.perf_counter()
                while f"turn{turn}" not in place.target(number).read_text():
                    time.sleep(0.0002)
                delays.append(time.perf_counter() - put)
                time.sleep(0.15)
            assert not place.target(0).exists(), "it did not hang"
            row(
                "a change while the check of another resource hangs for 30 s",
                f"{statistics.median(delays) * 1000:.1f} ms (median of 30, at most {max(delays) * 1000:.1f})",
            )
        finally:
            process.terminate()
            process.wait(20)


PAIRS = {
    "a backend of HAProxy": (
        """\
backend web
    balance {{getv "/balance" "roundrobin"}}
{{range gets "/backends/*"}}    server {{base .Key}} {{.Value}} check
{{end}}""",
        """\
backend web
    balance {{ getv("/balance", "roundrobin") }}
{% for key, value in gets("/backends/*") %}    server {{ base(key) }} {{ value }} check
{% endfor %}""",
    ),
    "leaves of JSON": (
        """\
{{range gets "/leaves/*"}}{{$leaf := json .Value}}{{if $leaf.up}}server {{base .Key}} {{$leaf.ip}}:{{$leaf.port}}
{{end}}{{end}}""",
        """\
{% for key, value in gets("/leaves/*") %}{% set leaf = json(value) %}\
{% if leaf.up %}server {{ base(key) }} {{ leaf.ip }}:{{ leaf.port }}
{% endif %}{% endfor %}""",
    ),
    "getv in ls in lsdir": (
        """\
{{range $service := lsdir "/services"}}upstream {{$service}} {
{{range $name := ls (printf "/services/%s" $service)}}\
    server {{getv (printf "/services/%s/%s" $service $name)}}; # {{$name}}
{{end}}}
{{end}}""",
        """\
{% for service in lsdir("/services") %}upstream {{ service }} {
{% for name in ls("/services/" ~ service) %}\
    server {{ getv("/services/" ~ service ~ "/" ~ name) }}; # {{ name }}
{% endfor %}}
{% endfor %}""",
    ),
    "choices among texts": (
        """\
{{range $i, $pair := gets "/backends/*"}}{{$parts := split $pair.Value ":"}}{{if eq (index $parts 1) "8081"}}\
{{$i}} {{toUpper (base $pair.Key)}} {{index $parts 0}} tls
{{else}}{{$i}} {{base $pair.Key}} {{index $parts 0}}
{{end}}{{end}}""",
        """\
{% for key, value in gets("/backends/*") %}{% set parts = split(value, ":") %}{% if parts[1] == "8081" %}\
{{ loop.index0 }} {{ base(key)|upper }} {{ parts[0] }} tls
{% else %}{{ loop.index0 }} {{ base(key) }} {{ parts[0] }}
{% endif %}{% endfor %}""",
    ),
}
"""What is made → the template in Go's language, and in Jinja as a person would write it."""
KEYS = {
    "/balance": "leastconn",
    **{f"/backends/b{number:02}": f"10.0.0.{number}:{8080 + number % 2}" for number in range(50)},
    **{
        f"/leaves/l{number:02}": json.dumps({"ip": f"10.0.1.{number}", "port": 80, "up": number % 5 > 0})
        for number in range(50)
    },
    **{f"/services/s{number:02}/{name}": f"10.0.2.{number}:80" for number in range(10) for name in "abcde"},
}


def measure_templates(folder: Path, *, turns: int = 400, templates: int = 1000) -> None:
    """Measure renders of Go templates beside those in Jinja, in turns, and the load of many from a warm cache."""
    folder /= "templates"
    folder.mkdir(mode=0o700)
    renderer, resolver, view = Renderer(), Resolver(folder=str(folder), cache_dir=None), view_of(KEYS)

    def render(name: str, engine: Literal["go", "jinja"], text: str) -> Callable[[], bytes]:
        (folder / name).write_text(text)
        lookup = Lookup("template", name, engine)
        world = World(0.0, {}, {lookup: resolver.resolve(lookup)})
        return lambda: renderer.render(resource(name, engine), view, world).content

    for made, (go, jinja) in PAIRS.items():
        both = render("t.tmpl", "go", go), render("t.j2", "jinja", jinja)
        assert both[0]() == both[1](), f"{made}: the two differ"
        found: tuple[list[float], list[float]] = [], []
        for _ in range(turns):
            for run, times in zip(both, found, strict=True):
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
        command, beside = map(statistics.median, found)
        row(
            f"{made}: Go template against Jinja's",
            f"{command / beside:.2f} x ({command * 1e6:.0f} and {beside * 1e6:.0f} µs, medians of {turns})",
        )

    lookups = [Lookup("template", f"{number:04}.tmpl", "go") for number in range(templates)]
    texts = [go for go, _ in PAIRS.values()]
    for number, lookup in enumerate(lookups):
        (folder / lookup.name).write_text(f"# {number}\n{texts[number % len(texts)]}")

    def load() -> None:
        fresh = Resolver(folder=str(folder), cache_dir=str(folder / "cache"))
        for lookup in lookups:
            assert isinstance(fresh.resolve(lookup), Compiled), f"{lookup.name} was not read"

    began = time.perf_counter()
    load()
    row(f"{templates} Go templates compiled, into an empty cache", f"{time.perf_counter() - began:.2f} s")
    row("  loaded from it when it is warm", f"{timed(load):.2f} s (median of 9)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a confd to measure beside it")
    parser.add_argument("--resources", type=int, default=1000)
    only = ["start", "etcd", "consul", "storm", "hanging", "templates"]
    parser.add_argument("--only", choices=only, help="measure this alone")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="confpy-bench-"))
    try:
        place = Place(folder / "confpy", options.resources, template=JINJA, name="t.j2")
        flags = ["-watch", "-backend", "etcdv3", "-confdir", str(place.folder)]
        command = [sys.executable, "-m", "confpy", *flags]
        measures = {
            "start": lambda: measure_start(folder, options.peer),
            "etcd": lambda: measure_following(folder, "confpy", command, place, options.resources),
            "consul": lambda: measure_consul(folder, options.resources),
            "storm": lambda: measure_storm(folder),
            "hanging": lambda: measure_hanging(folder),
            "templates": lambda: measure_templates(folder),
        }
        for name, measure in measures.items():
            if options.only in (None, name):
                measure()
        if options.peer:
            place = Place(folder / "peer", options.resources, template=GO, name="t.tmpl")
            flags[-1] = str(place.folder)
            measure_following(folder, "the peer", [options.peer, *flags], place, options.resources)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
