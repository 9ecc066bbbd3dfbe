"""``for_each`` of a resource file: its pattern, and what does not go together with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confpy.config.resource import Item, Resource
from confpy.config.toml import plain
from confpy.errors import UsageError
from confpy.frozen import replace
from confpy.keys.each import PLACE, Each, fill_name, name_from, parse_each


def read_each(given: Mapping[str, Any], group: str) -> Each:
    """Return the pattern of ``for_each``; raises ``UsageError`` for what does not go together with it.

    ``given``: the options of the file, by their documented keys. ``group``: whom it would be delivered with.
    """
    try:
        each = parse_each(given["for_each"])
    except ValueError as error:
        raise UsageError(f"for_each: {error}", key="for_each") from None
    if group:
        hint = "a group is all or nothing, and one bad item must not stop the others: leave group out"
        raise UsageError("for_each and group exclude each other", hint=hint, key="group")
    folder, _, name = given["dest"].rpartition("/")
    if "{{" in PLACE.sub("", given["dest"]) or "{{" in folder:
        hint = "write {{ name }}, once or more, in the name of the file, and nothing else in braces"
        raise UsageError("with for_each, dest has {{ name }} in the name of the file alone", hint=hint, key="dest")
    if not PLACE.search(name):
        hint = 'all items would be one file: write dest = "/etc/nginx/conf.d/{{ name }}.conf"'
        raise UsageError("with for_each, dest needs {{ name }} in the name of the file", hint=hint, key="dest")
    if given.get("keys_match") == "text":
        hint = "for_each matches whole segments: leave keys_match out"
        raise UsageError('for_each and keys_match = "text" exclude each other', hint=hint, key="keys_match")
    if given.get("reload_haproxy"):
        hint = "one file per key is not compared with a running program: leave it out"
        raise UsageError("for_each and reload_haproxy exclude each other", hint=hint, key="reload_haproxy")
    return each


def line_of(content: str, key: str) -> int:
    """Return the line of a file's ``[template]`` with a key, 0 where there is none."""
    from confpy.config.positions import keys_of  # only for errors

    return next((at.line for path, at in keys_of(content).items() if plain(path[-1]) == plain(key)), 0)


def item_of(resource: Resource, name: str) -> Resource:
    """Return the resource of an item. ``resource``: one with ``for_each``."""
    each = resource.each
    assert each is not None
    item = Item(resource.name, name, each.base(name) + each.tail)
    return replace(resource, name=f"{resource.name}:{name}", dest=fill_name(resource.dest, name), item=item)


def items_called(resources: Iterable[Resource], called: str) -> Iterator[Resource]:
    """Yield the items that have a name, as ``vhosts:a``, or a target, whether or not their keys are there."""
    for resource in resources:
        if resource.each is None:
            continue
        name = called.removeprefix(f"{resource.name}:")
        name = name if name != called else name_from(resource.dest, called)
        if name and resource.each.matches(name):
            yield item_of(resource, name)
