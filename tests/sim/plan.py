"""What the seed of a run decides before it begins: the resources, and which faults there will be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from confpy.config.resource import Resource
from confpy.errors import TemplateError
from confpy.frozen import replace
from confpy.keys.view import View
from confpy.reload.actions import CommandReload, VerifyCommand
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered
from confpy.templates.results import World as Facts
from tests.sim.haproxy import RELOAD, SOCKET, configuration
from tests.sim.sites import RENDERED_BADLY, has_bad, plan_items, with_names
from tests.sim.stores import READS, StorePlan, plan_reads, plan_stores
from tests.sim.timeline import Chance

OUT, ELSEWHERE, MOUNTED, STATE = "/out", "/srv", "/mnt", "/state"
HISTORY, TAKEN = f"{STATE}/history", f"{STATE}/haproxy"
FOLDERS = (OUT, ELSEWHERE, MOUNTED, STATE)
BACKEND = "sim"
UNDOES = 4_000_000_000
"""From this seed on deliveries are recorded, and people undo them."""
HAPROXY = 5_000_000_000
"""From this seed on one of the programs is a HAProxy, which is told of changes while it runs."""
MOUNTS = 6_000_000_000
"""From this seed on several stores are mounted in one tree of keys."""
ITEMS = 7_000_000_000
"""From this seed on some of the resources make a file of each key as well."""
RENAMES = 7_500_000_000
"""From this seed on such resources are renamed, and people undo items."""
FIT = "check fit"
"""Succeeds where the files in place of all resources that have it were made from one version of the templates."""


class Plan:
    """The resources of a run, and the chances of its faults."""

    def __init__(self, seed: int, random: Chance) -> None:
        self.seed = seed
        self.later = Random(f"{seed} apart")
        """Draws what was added to the simulator later: so that the seeds that once showed a bug still show it."""
        self.period = random.choice((60.0, 60.0, 60.0, 60.0, 60.0, 3.0))
        self.stalls = 0.01 if random.random() < 0.5 else 0.0
        self.restores = random.random() < 0.15
        """A store may come back from a backup."""
        self.wrong_answers = not self.restores and random.random() < 0.4
        """A store gives wrong answers."""
        self.disk_fails = random.random() < 0.35
        self.dies = random.random() < 0.8
        self.sloppy_commands = random.choice((0.0, 0.1, 0.3))
        """The chance that a command fails."""
        self.deadly_reloads = 0.6 if self.dies and self.later.random() < 0.1 else 0.0
        """The chance that a reload ends confpy."""
        self.mounts = seed >= MOUNTS
        self.haproxy = seed >= HAPROXY and (not self.mounts or (seed % 8 == 1 and seed < ITEMS))
        self.undoes = seed % 4 == 0 if seed >= HAPROXY else seed >= UNDOES
        self.sloppy_haproxy = self.later.choice((0.0, 0.05, 0.3)) if self.haproxy else 0.0
        """The chance that it does not answer as it should."""
        self.haproxy_version = self.later.choice(((2, 6), (3, 0))) if self.haproxy else (0,)
        self.saves = random.random() < 0.3
        self.stores: tuple[StorePlan, ...] = (
            StorePlan(
                folders=("/b", "/b/x", "/c") if self.wrong_answers else ("/a", "/b", "/b/x", "/c"),
                names_deletions=random.random() < 0.8,
                stalls=self.stalls,
                restores=self.restores,
                wrong_answers=self.wrong_answers,
            ),
        )
        """The one at ``/`` is the first."""
        self.reads = READS
        """What a resource may read."""
        self.resources = tuple(_resource(number, random) for number in range(random.randint(1, 4)))
        if seed % 5 == 0 and seed >= 1000:  # the others stay the runs that they were
            self.resources = _with_shared_trials(self.resources, seed)
        if self.mounts:
            self.stores = plan_stores(self.stores[0], seed)
            self.stalls = max(one.stalls for one in self.stores)
            self.restores = any(one.restores for one in self.stores)
            self.wrong_answers = any(one.wrong_answers for one in self.stores)
            self.reads = plan_reads(self.stores, seed)
            self.resources = tuple(replace(one, prefixes=self.later.choice(self.reads)) for one in self.resources)
        self.items = seed >= ITEMS
        """Some resources make a file of each key."""
        if self.items:
            plans = plan_items(self.stores, seed)
            self.stores = with_names(self.stores, plans)
            self.resources = (*self.resources[: self.later.randint(0, 2)], *plans)
        if self.haproxy:
            self.resources = _with_haproxy(self.resources, seed)


def reload_line(resource: Resource) -> str:
    """Return the reload command of a resource; empty: it has none."""
    return resource.reload_cmd.describe() if resource.reload_cmd is not None else ""


def _resource(number: int, random: Random) -> Resource:
    name = f"r{number}"
    command = random.choice((None, "reload one", "reload one", "reload two"))
    group = random.choice(("", "", "g"))
    how = random.choice(("", "", "each", "shared", "swap"))
    mounted = random.random() < 0.15
    return Resource(
        name,
        f"/conf.d/{name}.toml",
        random.choice(("t1", "t2")),
        f"{MOUNTED if mounted else OUT}/{name}",
        prefixes=random.choice(READS),
        group=group,
        check_cmd={"": None, "each": "check {{src}}", "shared": "check all CONFPY_SRC_", "swap": "check all"}[how],
        check_mode="swap" if how == "swap" else "staged",
        check_cmd_timeout=10.0,
        reload_cmd=CommandReload(command) if command else None,
        reload_cmd_timeout=20.0,
        verify_cmd=VerifyCommand(f"verify {command}") if command and random.random() < 0.2 else None,
        on_reload_failure=random.choice(("retry", "retry", "retry", "rollback", "rollback", "keep")),
        settle=random.choice((0.1, 0.1, 0.0, 1.0)),
        min_reload_interval=random.choice((0.0, 0.0, 5.0)),
        max_shrink=random.choice((None, None, 0.5)),
        write="auto" if mounted else random.choice(("auto", "auto", "auto", "rename", "inplace")),
        backup=random.choice((0, 0, 0, 2)),
    )


def _with_shared_trials(resources: tuple[Resource, ...], seed: int) -> tuple[Resource, ...]:
    """Let most resources share a check in place that none of them passes without the others."""
    random = Random(f"{seed} shared")
    return tuple(replace(one, check_cmd=FIT, check_mode="swap") if random.random() < 0.75 else one for one in resources)


def _with_haproxy(resources: tuple[Resource, ...], seed: int) -> tuple[Resource, ...]:
    """Let the first resource, and most of those with the same reload, say that the running HAProxy may be told."""
    random = Random(f"{seed} haproxy")
    first = replace(resources[0], reload_cmd=CommandReload(RELOAD))
    return tuple(
        replace(one, reload_haproxy=SOCKET)
        if reload_line(one) == RELOAD and (not number or random.random() < 0.8)
        else one
        for number, one in enumerate((first, *resources[1:]))
    )


class Printer:
    """Renders a resource as its template's version and its keys."""

    def render(self, resource: Resource, view: View, world: Facts) -> Rendered:
        asked = Lookup("template", resource.src)
        if asked not in world.facts:
            raise Needs(frozenset((asked,)))
        keys = {raw: value for window in view._windows for raw, value in _items(window)}
        if resource.item is not None and any(has_bad(value, RENDERED_BADLY) for value in keys.values()):
            error = TemplateError("a value of it is none")
            error.asked = frozenset((asked,))
            raise error
        return Rendered(made(resource, str(world.facts[asked]), keys), frozenset((asked,)), False, ())


def _items(window) -> Iterator[tuple[str, str]]:
    for path in window._paths("/"):
        yield path, window.get(path)


def made(resource: Resource, version: str, keys: Mapping[str, str]) -> bytes:
    """Return the content of a resource's target."""
    return text(version, keys) if resource.reload_haproxy is None else configuration(resource, version, keys)


def text(version: str, keys: Mapping[str, str]) -> bytes:
    """Return the content of a target: a line for each key."""
    lines = "".join(f"{key}={keys[key]}\n" for key in sorted(keys))
    return f"{version}\n{lines}end of {len(keys)}\n".encode()


def names(content: bytes) -> list[str]:
    """Return the keys in a content, which may be anything."""
    words = (line.decode(errors="replace").rpartition(" ")[2] for line in content.split(b"\n"))
    return [key for key, is_one, _ in (word.partition("=") for word in words) if is_one and key.startswith("/")]


def values(content: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the keys in a content, each with its store's incarnation and its revision."""
    for line in content.decode().split("\n")[1:-2]:
        key, is_one, value = line.rpartition(" ")[2].partition("=")
        if not is_one:
            continue
        incarnation, _, revision = value.partition(":")
        yield key, (int(incarnation), int(revision))
