"""The rooms of the house: who may know whom, who may start threads, and what a small run may load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import confpy

ROOT = Path(confpy.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}
COMMON = {"errors", "clock", "model", "value"}
MAY_IMPORT = {
    "__init__": set(),
    "__main__": {"cli", "pid1", "startup"},
    "pid1": {"startup"},
    "cli": {"convert", "daemon", "dialect", "kept", "log", "settings", "startup", "state"},
    "daemon": {
        "agent", "command", "delivery", "disk", "drift", "expiry", "folder", "kept", "ledger", "log", "mirror",
        "placeholders", "reload", "report", "resource", "rollback", "settings", "signals", "state", "stores", "target",
        "templates",
    },
    "batches": {"placeholders"},
    "before": {"keytree", "track"},
    "counts": {"guard"},
    "lookups": {"templates"},
    "watched": set(),
    "track": {"guard", "keytree", "placeholders"},
    "agent": {
        "batches", "before", "counts", "debts", "guard", "keytree", "lookups", "mirror", "rejections", "restores",
        "templates", "track", "watched",
    },
    "convert": {"disk", "filenames", "keymatch", "keytree", "resource", "settings", "stores", "templates"},
    "debts": {"placeholders"},
    "guard": set(),
    "kept": {"keytree", "state"},
    "report": {"disk"},
    "mirror": {"keytree", "refusals"},
    "refusals": set(),
    "rejections": set(),
    "restores": set(),
    "delivery": {"batches", "command", "disk", "fragments", "ledger", "output", "placeholders", "repair", "target"},
    "drift": {"disk", "target"},
    "expiry": {"disk", "ledger", "ours", "repair", "state"},
    "rollback": {"disk", "ledger", "repair", "target"},
    "ledger": {"disk", "filenames", "ours", "repair", "target"},
    "ours": {"disk"},
    "repair": set(),
    "target": {"disk", "filenames"},
    "processes": set(),
    "haproxy": {"command"},
    "verify": {"haproxy", "processes"},
    "reload": {"command", "haproxy", "placeholders", "processes", "verify"},
    "keymatch": {"keytree", "templates"},
    "resource": {"dialect", "filenames", "keymatch", "keytree", "placeholders", "settings", "stores"},
    "state": {"disk", "ours", "settings"},
    "stores": {"filenames", "folder", "keytree", "pathmatch", "settings", "state"},
    "templates": {"disk", "keytree", "ours", "pathmatch"},
    "keytree": {"pathmatch"},
    "command": {"forking", "placeholders"},
    "disk": {"forking"},
    "filenames": set(),
    "forking": set(),
    "folder": set(),
    "fragments": set(),
    "log": set(),
    "output": set(),
    "pathmatch": set(),
    "placeholders": set(),
    "settings": {"dialect"},
    "dialect": set(),
    "signals": {"startup"},
    "startup": set(),
    "model": {"errors", "value"},
    "value": set(),
    "clock": set(),
    "errors": set(),
}  # fmt: skip
"""Room → the rooms that it may import, beside itself and, but for these themselves, the common ones."""

ALLOWED = {
    "threading": {"daemon", "forking", "signals", "folder", "stores", "status"},
    "queue": {"daemon", "signals", "folder", "stores", "status"},
    "signal": {"daemon", "signals", "folder", "stores", "status", "pid1", "startup"},
    "subprocess": set(),
    "watchdog": {"folder"},
    "structlog": {"log"},
    "click": {"cli"},
}
"""Library → the rooms that may import it."""

HEAVY = {"requests", "urllib3", "etcd3gw", "consul", "dns", "watchdog", "structlog", "ssl", "asyncio", "yaml"}


def room(path):
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
def test_a_room_imports_only_what_lies_below_it(path):
    here = room(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("confpy.")}
    allowed = MAY_IMPORT[here] | {here} | (set() if here in COMMON else COMMON)
    assert rooms <= allowed


def test_no_rooms_import_each_other_in_a_circle():
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert set(order) == set(MAY_IMPORT)


def test_no_files_import_each_other_in_a_circle():
    graph = {module: MODULES.keys() & set(imports(path)) for module, path in MODULES.items()}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("path", FILES, ids=named)
def test_threads_signals_and_great_libraries_stay_in_their_rooms(path):
    libraries = {name.partition(".")[0] for name in imports(path)}
    if "signal" in libraries and only_numbers(path):
        libraries.remove("signal")
    assert {library for library in libraries if room(path) not in ALLOWED.get(library, {room(path)})} == set()


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


@pytest.mark.parametrize("module", ["errors", "clock", "model", "value", "keytree"])
def test_what_everybody_imports_is_cheap(module):
    modules = loaded(["-c", f"import confpy.{module}"])
    assert f"confpy.{module}" in modules
    assert modules & (HEAVY | {"click", "jinja2", "json", "tomllib", "pathlib", "subprocess", "threading"}) == set()


def test_a_run_that_has_nothing_to_do_loads_neither_clients_nor_loggers(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text(
        f'[template]\nsrc = "a.j2"\ndest = "{tmp_path}/target"\nkeys = ["/greeting"]\nmode = "0644"\n'
    )
    (tmp_path / "templates" / "a.j2").write_text('{{ getv("/greeting") }}\n')
    (tmp_path / "target").write_text("hello\n")
    (tmp_path / "target").chmod(0o644)
    environment = {"PATH": os.environ["PATH"], "GREETING": "hello", "CONFPY_CACHE_DIR": str(tmp_path / "cache")}
    arguments = ["-m", "confpy", "-onetime", "-backend", "env", "-confdir", str(tmp_path)]
    modules = loaded(arguments, env=environment)
    assert {"confpy.daemon", "jinja2"} <= modules
    assert modules & HEAVY == set()
    assert (tmp_path / "target").read_text() == "hello\n"
