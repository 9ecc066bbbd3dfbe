"""What Consul answers about one service, as keys. Pure.

Names, ids, addresses, tags and meta are whatever somebody has registered. A name or an id becomes one plain segment of
a key; an instance without a usable address is left out alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from confpy.frozen import NOTHING, frozen

Check: TypeAlias = tuple[str, str, str]
"""Node, id and status of a check that does not pass."""

STATUSES = ("passing", "warning", "critical", "maintenance")
"""From well to out of service: an instance has the worst of its checks."""
_RANK = {status: rank for rank, status in enumerate(STATUSES)}
SEGMENT_BYTES = 512
"""The longest segment of a key that is made of a name or an id."""
_HOST = re.compile(r"(?a)[\w.:-]{1,253}")
_LARGEST_PORT = 65535


@frozen
class Choice:
    """Which instances become keys, and with what value."""

    tags: frozenset[str] = frozenset()
    """Tags that an instance must have, as ``folded``."""
    status: Literal["passing", "warning", "any"] = "passing"
    """The worst status that an instance may have."""
    value: Literal["json", "address"] = "json"


@frozen
class Service:
    """One service, as one answer has it."""

    index: int
    """The index of the answer."""
    keys: Mapping[str, str]
    """Raw key → value of the chosen instances."""
    instances: Mapping[tuple[str, str], int] = NOTHING
    """Node and id of all its instances → the index at which each was registered last."""
    unwell: frozenset[Check] = frozenset()
    """The checks of all its instances, and of their nodes, that do not pass."""
    hidden: bool = False
    """The token may not see all of it (``X-Consul-Results-Filtered-By-ACLs``, since Consul 1.12)."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Instances without a key: id, and why."""

    @property
    def nodes(self) -> set[str]:
        """The nodes of its instances."""
        return {node for node, _ in self.instances}


class _Instance(NamedTuple):
    created: int
    node: str
    id: str
    service: Mapping[str, Any]
    at: Mapping[str, Any]
    """Its node."""
    status: str


def folded(tags: Iterable[str]) -> frozenset[str]:
    """Return tags as they are compared: Consul does not tell upper case from lower."""
    return frozenset(tag.lower() for tag in tags)


def segment(name: str) -> str:
    """Return a name as a segment of a key: slashes, percents, control characters, ``.`` and ``..`` as in a URL."""
    if name in (".", ".."):
        return "%2E" * len(name)
    if name.isprintable() and "/" not in name and "%" not in name:
        return name
    return "".join(
        one
        if one.isprintable() and one not in "/%"
        else "".join(f"%{byte:02X}" for byte in one.encode("utf-8", "replace"))
        for one in name
    )


def name_of(part: str) -> str | None:
    """Return the name of which a segment was made; None if it is not made of any."""
    name = unquote(part, errors="replace") if "%" in part else part
    return name if name and segment(name) == part else None


def can_be_asked(name: str) -> bool:
    """Whether Consul answers about a service of this name: not if a URL cannot hold it."""
    return bool(name) and name not in (".", "..") and name.isprintable() and len(segment(name)) <= SEGMENT_BYTES


def parse_service(name: str, index: int, body: bytes, choice: Choice, *, hidden: bool = False) -> Service:
    """Return what an answer of ``/v1/health/service/NAME`` says; raises one of ``UNEXPECTED``."""
    found = json.loads(body.decode("utf-8", "replace"))
    unwell: set[Check] = set()
    instances = []
    for one in found:
        checks = [(check["Node"], check["CheckID"], check["Status"]) for check in one["Checks"] or ()]
        unwell.update(check for check in checks if check[2] != "passing")
        service, node = one["Service"], one["Node"]
        created = int(service.get("CreateIndex") or 0)
        instances.append(_Instance(created, node["Node"], service["ID"], service, node, _worst(checks)))
    keys: dict[str, str] = {}
    left_out: list[tuple[str, str]] = []
    taken: set[str] = set()
    for instance in sorted(instances, key=lambda one: one[:3]):
        part = _part(instance, taken)
        if not part:
            left_out.append((instance.id, f"no key of its own can be made of its id and its node {instance.node!r}"))
            continue
        taken.add(part)
        if _RANK[instance.status] > _RANK.get(choice.status, len(STATUSES)):
            continue
        if not choice.tags <= folded(instance.service.get("Tags") or ()):
            continue
        try:
            keys[f"/{segment(name)}/{part}"] = _value(instance, choice)
        except ValueError as error:
            left_out.append((instance.id, str(error)))
    registered = {(one.node, one.id): int(one.service.get("ModifyIndex") or 0) for one in instances}
    return Service(index, keys, registered, frozenset(unwell), hidden, tuple(left_out))


def _worst(checks: Iterable[Check]) -> str:
    """Return the status of an instance with these checks, as Consul itself makes it of them."""
    worst = 0
    for _, check, status in checks:
        in_maintenance = check == "_node_maintenance" or check.startswith("_service_maintenance:")
        worst = max(worst, _RANK["maintenance"] if in_maintenance else _RANK.get(status, _RANK["critical"]))
    return STATUSES[worst]


def _part(instance: _Instance, taken: set[str]) -> str:
    """Return the segment for an instance, empty if there is none.

    Ids are unique to a node only. Of several instances with one id, the oldest has it for its key, even while it is
    not chosen; to that of the others the node is added. So no key changes when another instance comes.
    """
    for name in (instance.id, f"{instance.id}@{instance.node}"):
        part = segment(name)
        if instance.id and part not in taken and len(part.encode("utf-8", "replace")) <= SEGMENT_BYTES:
            return part
    return ""


def _value(instance: _Instance, choice: Choice) -> str:
    """Return the value of an instance; raises ``ValueError`` that says what is wrong with it."""
    service = instance.service
    address = service.get("Address") or instance.at.get("Address") or ""
    port = int(service.get("Port") or 0)
    if not _HOST.fullmatch(address):
        raise ValueError("its address is neither an IP address nor a host name")
    if not (choice.value == "address") <= port <= _LARGEST_PORT:
        raise ValueError(f"its port is {port}")
    if choice.value == "address":
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    weights = service.get("Weights") or {}
    value = {
        "address": address,
        "port": port,
        "tags": list(service.get("Tags") or ()),
        "meta": dict(sorted((service.get("Meta") or {}).items())),
        "node": instance.node,
        "datacenter": instance.at.get("Datacenter") or "",
        "weights": {"passing": int(weights.get("Passing", 1)), "warning": int(weights.get("Warning", 1))},
        "status": instance.status,
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()
