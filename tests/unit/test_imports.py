"""The layers of the package: who may import whom, who may start threads, and what a small run may load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import confpy
from tests.waiting import wait_until

ROOT = Path(confpy.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}
COMMON = {"errors", "clock", "frozen", "events"}
"""Modules at the root of the package that everything may import."""
LAYERS = {
    "__main__": {"cli", "daemon"},
    "cli": {"commands", "config", "daemon", "log"},
    "commands": {"history",
        "check", "config", "convert", "daemon", "keys", "ledger", "log", "preview", "registration", "status",
        "stores", "templates",
        "system", "target",
    },
    "daemon": {
        "agent", "candidates", "config", "delivery", "haproxy", "history", "http", "keys", "ledger", "log", "messages",
        "mirror", "registration", "reload", "status", "stores", "system", "target", "templates",
    },
    "check": {"config", "haproxy", "keys", "reload", "stores", "system", "templates"},
    "convert": {"config", "keys", "stores", "system", "templates"},
    "preview": {"config", "keys", "stores", "system", "templates"},
    "stores": {"config", "http", "keys", "ledger", "registration", "system"},
    "delivery": {"history", "candidates", "agent", "config", "ledger", "messages", "reload", "system", "target"},
    "ledger": {"history", "candidates", "config", "keys", "messages", "reload", "system", "target"},
    "target": {"candidates", "config", "keys", "messages", "system"},
    "agent": {
        "history", "candidates", "config", "haproxy", "keys", "messages", "mirror", "reload", "status", "templates",
    },
    "status": {"config", "system"},
    "mirror": {"keys", "messages"},
    "messages": {"history", "candidates", "config", "haproxy", "keys", "reload", "templates"},
    "candidates": {"config", "history"},
    "history": {"config"},
    "templates": {"config", "keys", "system"},
    "config": {"http", "keys", "reload", "system"},
    "registration": {"reload"},
    "reload": {"haproxy", "http", "system"},
    "http": {"system"},
    "system": set(),
    "keys": set(),
    "haproxy": set(),
    "log": set(),
    "events": {"frozen"},
    "frozen": set(),
    "clock": set(),
    "errors": set(),
}  # fmt: skip
"""Folder or root module, from the top down → those below it that it may import, beside itself and the common ones."""

ALLOWED = {
    "threading": {
        "daemon/daemon",
        "daemon/registering",
        "daemon/signals",
        "daemon/threads",
        "status",
        "system/abandonable",
        "system/child",
        "system/forking",
        "system/watching",
        "templates/cache",
        "templates/resolve",
        "stores",
        "http",
        "log",
    },
    "queue": {
        "daemon/daemon",
        "daemon/people",
        "daemon/questions",
        "daemon/registering",
        "daemon/signals",
        "daemon/threads",
        "system/abandonable",
        "system/watching",
        "stores",
    },
    "signal": {"daemon", "system/child", "system/watching", "stores"},
    "subprocess": set(),
    "requests": set(),
    "urllib3": set(),
    "etcd3gw": {"stores"},
    "consul": {"stores"},
    "redis": {"stores/redis/client", "stores/redis/reading"},
    "kazoo": {
        "stores/zookeeper/client",
        "stores/zookeeper/nodes",
        "stores/zookeeper/registrar",
        "stores/zookeeper/store",
    },
    "watchdog": {"system/watching"},
    "structlog": {"log"},
    "click": {"commands"},
}
"""Library → the folders or modules that may import it."""

CLIENTS = {"requests", "urllib3", "etcd3gw", "consul", "redis", "kazoo"}
"""What brings HTTP clients of its own: for writing to stores, not for following them."""
HEAVY = CLIENTS | {"dns", "watchdog", "structlog", "ssl", "asyncio", "yaml", "click", "logging", "concurrent", "ctypes"}


def layer(path):
    """The folder of a file, or the module itself at the root."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """The modules that a file imports, wherever in it, and for types too, by their full names."""
    package = ("confpy", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from confpy import errors` names a file, `from confpy import __version__` the package.
            yield from (name if (name := f"{module}.{alias.name}") in MODULES else module for alias in node.names)


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_imports_only_what_its_layer_may(path):
    here = layer(path)
    layers = {name.split(".")[1] for name in imports(path) if name.startswith("confpy.")}
    allowed = LAYERS.get(here, set()) | {here} | (set() if here in COMMON else COMMON)
    assert layers <= allowed


def test_every_import_points_down_the_list_of_layers():
    order = [*LAYERS]
    upward = [(one, other) for one in order for other in LAYERS[one] if order.index(other) < order.index(one)]
    assert upward == []


def test_the_list_of_layers_is_complete():
    assert {layer(path) for path in FILES} - {"__init__"} == set(LAYERS)


def test_the_root_of_the_package_has_ten_modules_at_most():
    assert len(list(ROOT.glob("*.py"))) <= 10


def test_no_files_import_each_other_in_a_circle():
    graph = {module: MODULES.keys() & set(imports(path)) for module, path in MODULES.items()}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("path", FILES, ids=named)
def test_threads_signals_and_large_libraries_stay_in_their_modules(path):
    libraries = {name.partition(".")[0] for name in imports(path)}
    if "signal" in libraries and only_numbers(path):
        libraries.remove("signal")
    places = {layer(path), named(path).removesuffix(".py")}
    assert {library for library in libraries if not places & ALLOWED.get(library, places)} == set()


def only_numbers(path):
    """Whether a file takes nothing from ``signal`` but the numbers of signals, which are data."""
    tree = ast.parse(path.read_bytes())
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "signal"
    }
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    used |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "signal"
        for alias in node.names
    }
    used -= {"Signals", "valid_signals"}
    return all(name.startswith("SIG") and not name.startswith("SIG_") for name in used)


def loaded(arguments, **options):
    """The modules that a run of Python imports, and what it wrote beside."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT.parent,
        **options,
    )
    lines = done.stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    rest = [line for line in lines if not line.startswith("import time:") and " info onetime.done " not in line]
    assert (done.returncode, done.stdout, rest) == (0, "", [])
    return {module.partition(".")[0] for module in modules} | modules


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("module", ["errors", "clock", "messages", "frozen", "keys.view"])
def test_what_everybody_imports_is_cheap(module):
    modules = loaded(["-c", f"import confpy.{module}"])
    assert f"confpy.{module}" in modules
    assert modules & (HEAVY | {"jinja2", "json", "tomllib", "pathlib", "subprocess", "threading"}) == set()


def rendered_already(confdir):
    """A confdir with one resource whose target holds what it would be rendered to, from a greeting of hello."""
    (confdir / "conf.d").mkdir()
    (confdir / "templates").mkdir()
    (confdir / "conf.d" / "a.toml").write_text(
        f'[template]\nsrc = "a.j2"\ndest = "{confdir}/target"\nkeys = ["/greeting"]\nmode = "0644"\n'
    )
    (confdir / "templates" / "a.j2").write_text('{{ getv("/greeting") }}\n')
    (confdir / "target").write_text("hello\n")
    (confdir / "target").chmod(0o644)


def test_a_run_that_has_nothing_to_do_loads_neither_clients_nor_loggers(tmp_path):
    rendered_already(tmp_path)
    environment = {"PATH": os.environ["PATH"], "GREETING": "hello", "CONFPY_CACHE_DIR": str(tmp_path / "cache")}
    arguments = ["-m", "confpy", "-onetime", "-backend", "env", "-confdir", str(tmp_path)]
    modules = loaded(arguments, env=environment)
    assert {"confpy.daemon.daemon", "jinja2"} <= modules
    assert modules & HEAVY == set()
    assert (tmp_path / "target").read_text() == "hello\n"


FOLLOWING = """
import sys
from confpy.config.settings import Settings
from confpy.stores import open_store
store = open_store(sys.argv[1], Settings(backend=sys.argv[1], nodes=(sys.argv[2],)))
snapshot = store.read(["/a"])
assert snapshot.listings["/a"].keys == {"/a/x": "1"}
store.poll(["/a"])
stream = store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)
print("ready", flush=True)
for changes in stream:
    assert [*changes.keys] == ["/a/x"]
    stream.close()
store.close()
"""


@pytest.mark.parametrize("name", ["etcdv3", "consul"])
def test_a_store_that_is_followed_without_tls_loads_no_http_client_but_confpys_own_and_no_ssl(name, request):
    server = request.getfixturevalue("consul" if name == "consul" else "etcd")
    put = partial(server.put, "a/x" if name == "consul" else "/a/x")
    put("1")
    command = [sys.executable, "-X", "importtime", "-c", FOLLOWING, name, server.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT.parent) as run:
        assert run.stdout.readline() == "ready\n"
        put("2")
        _, errors = run.communicate(timeout=30)
    modules = {line.rpartition("|")[2].strip() for line in errors.splitlines() if line.startswith("import time:")}
    assert run.returncode == 0, errors
    assert "confpy.http.response" in modules
    assert modules & {*HEAVY, "http.client", "email"} == set()


def test_a_one_shot_run_over_etcd_loads_no_other_client_and_no_logger(etcd, tmp_path):
    etcd.put("/greeting", "hello")
    rendered_already(tmp_path)
    environment = {"PATH": os.environ["PATH"], "CONFPY_CACHE_DIR": str(tmp_path / "cache")}
    environment["CONFPY_STATE_DIR"] = str(tmp_path / "state")
    arguments = ["-m", "confpy", "-onetime", "-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(tmp_path)]
    modules = loaded(arguments, env=environment)
    assert "confpy.http.connection" in modules
    assert modules & {*HEAVY, "http.client", "email"} == set()


@pytest.mark.parametrize("name", ["etcdv3", "consul"])
def test_a_daemon_that_follows_a_store_loads_no_other_client_and_writes_its_log_without_structlog(
    name, request, tmp_path
):
    server = request.getfixturevalue("consul" if name == "consul" else "etcd")
    put = partial(server.put, "greeting" if name == "consul" else "/greeting")
    put("hello")
    rendered_already(tmp_path)
    environment = {"PATH": os.environ["PATH"], "CONFPY_CACHE_DIR": str(tmp_path / "cache")}
    environment["CONFPY_STATE_DIR"] = str(tmp_path / "state")
    command = [sys.executable, "-X", "importtime", "-m", "confpy", "-watch", "-backend", name]
    command += ["-node", server.endpoint, "-confdir", str(tmp_path)]
    with (tmp_path / "stderr").open("w") as stderr:
        run = subprocess.Popen(command, stderr=stderr, cwd=ROOT.parent, env=environment)
    try:
        wait_until(lambda: " info confpy.started " in (tmp_path / "stderr").read_text(), what="the start")
        put("world")
        wait_until(lambda: (tmp_path / "target").read_text() == "world\n", what="the change")
        wait_until(lambda: " info resource.changed " in (tmp_path / "stderr").read_text(), what="its line")
    finally:
        run.terminate()
        run.wait(30)
    lines = (tmp_path / "stderr").read_text().splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert {"confpy.http.connection", "watchdog"} <= modules
    # Nobody has asked for a program to be run, or for a service manager to be told.
    assert modules & {"confpy.system.child", "confpy.daemon.systemd", "confpy.status.notify"} == set()
    # watchdog has its own loggers, and calls inotify through ctypes.
    assert modules & (HEAVY - {"ssl", "watchdog", "logging", "ctypes"}) == set()
