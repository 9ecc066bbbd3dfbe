"""Resources with ``for_each`` as the seed of a run decides them, over its stores."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from random import Random

from confpy.config.resource import Resource
from confpy.frozen import replace
from confpy.keys.each import parse_each
from confpy.keys.mounts import Mounts
from confpy.reload.actions import CommandReload
from tests.sim.stores import StorePlan

SITES = "/sites"
"""The folder of their files."""
NAMES = (".hid", "bell\x07", "n" * 240, "K", "k")
"""Of items; of the first three no file can be made."""
DESTS = ("{folder}/{plan}-{{{{ name }}}}", "{folder}/{{{{ name }}}}.{plan}")
STRANGERS = ("readme", "v0-9", "v1-9", "9.v0", "9.v1")
"""Files of others, some of them with names as items have them."""
SHARED = ((), (), (), ("/c",))


def plan_items(stores: Sequence[StorePlan], seed: int) -> tuple[Resource, ...]:
    """Return one or two resources with ``for_each``."""
    random = Random(f"{seed} items")
    return tuple(_resource(number, stores, random) for number in range(random.choice((1, 1, 2))))


def _resource(number: int, stores: Sequence[StorePlan], random: Random) -> Resource:
    name = f"v{number}"
    command = random.choice((None, "reload one", "reload two", "reload sites"))
    how = random.choice(("", "each", "swap", "swap"))
    return with_pattern(
        Resource(
            name,
            f"/conf.d/{name}.toml",
            random.choice(("t1", "t2")),
            random.choice(DESTS).format(folder=SITES, plan=name),
            check_cmd={"": None, "each": "check {{src}}", "swap": f"check sites {name}"}[how],
            check_mode="swap" if how == "swap" else "staged",
            check_cmd_timeout=10.0,
            reload_cmd=CommandReload(command) if command else None,
            reload_cmd_timeout=20.0,
            on_reload_failure=random.choice(("retry", "retry", "rollback", "keep")),
            settle=random.choice((0.1, 0.0, 1.0)),
            max_shrink=random.choice((None, None, 0.5)),
            write=random.choice(("auto", "auto", "inplace")),
            backup=random.choice((0, 0, 2)),
        ),
        patterns(stores),
        random,
    )


def patterns(stores: Sequence[StorePlan]) -> list[str]:
    """Return what may be a ``for_each`` over one of the stores."""
    heads = ["/a", "/b", "/b/x", *(one.mount for one in stores if one.mount)]
    return [head + tail for head in heads for tail in ("/*", "/*/", "/*/1")]


def with_pattern(resource: Resource, choice: Sequence[str], random: Random) -> Resource:
    each, shared = parse_each(random.choice(choice)), random.choice(SHARED)
    prefixes = tuple(dict.fromkeys((each.head, *shared)))
    return replace(resource, each=each, shared=shared, prefixes=prefixes)


def with_names(stores: Sequence[StorePlan], plans: Sequence[Resource]) -> tuple[StorePlan, ...]:
    """Return the stores with keys whose names make bad files, or nearly the same."""
    mounts = Mounts(one.mount for one in stores if one.mount)
    more: dict[str, list[str]] = defaultdict(list)
    for one in plans:
        assert one.each is not None
        mount = mounts.point_of(one.each.head)
        more[mount] += [f"{one.each.head[len(mount) :]}/{name}" for name in NAMES]
    return tuple(one._replace(keys=(*one.keys, *more[one.mount])) for one in stores)


RENDERED_BADLY, CHECKED_BADLY = 4, 7
"""Kinds of bad values: with one an item cannot be rendered, with the other it does not pass its check."""


def has_bad(content: bytes | str, kind: int) -> bool:
    """Say whether a content, or a value, has a bad value of this kind."""
    text = content if isinstance(content, str) else content.decode(errors="replace")
    return any(int(revision) % 9 == kind for revision in re.findall(r"(?:^|=)\d+:(\d+)$", text, re.MULTILINE))
