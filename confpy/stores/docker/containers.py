"""Containers as an engine lists them: the parts of its JSON that become keys. Pure.

https://docs.docker.com/reference/api/engine/version/v1.41/#operation/ContainerList; Podman's answer has the same form,
without ``HostConfig`` and with null for an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confpy.frozen import NOTHING

LISTED = frozenset({"running", "paused", "restarting"})
"""The states of containers that become keys."""
_HEALTH = re.compile(r"\((?:health: )?(healthy|unhealthy|starting)\)")
"""What the text for people says of a health check; a field for it exists since API 1.52 only."""


class Network(NamedTuple):
    """A network that a container is on."""

    name: str
    ip: str
    """Its IPv4 address there; empty where it has none."""
    ipv6: str
    gateway: str
    """The address of the engine's machine there."""

    @property
    def address(self) -> str:
        """The address by which to reach it there."""
        return self.ip or self.ipv6


class Port(NamedTuple):
    """A port that a container's image exposes, or that it publishes."""

    private: int
    kind: str
    """tcp, udp or sctp."""
    ip: str = ""
    """The address of the engine's machine on which it is published."""
    public: int = 0
    """The port there; 0: it is not published."""


class Container(NamedTuple):
    """A container that runs, is paused, or is being restarted."""

    id: str
    name: str
    created: int
    """Seconds since 1970."""
    image: str
    state: str
    health: str
    """healthy, unhealthy, starting, or none where there is no check."""
    labels: Mapping[str, str]
    networks: tuple[Network, ...]
    """By name."""
    ports: tuple[Port, ...]
    mode: str
    """``HostConfig.NetworkMode``: host, none, ``container:ID`` or the name of its first network; empty if unknown."""
    environment: Mapping[str, str] = NOTHING


def parse(item: Mapping[str, Any]) -> Container:
    """Return a container of the engine's list; raises one of ``answers.UNEXPECTED``."""
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=str(item["Id"]),
        name=_name(item.get("Names") or ()),
        created=int(item.get("Created") or 0),
        image=str(item.get("Image") or ""),
        state=str(item.get("State") or "").lower(),
        health=_health(item),
        labels={str(key): str(value) for key, value in (item.get("Labels") or {}).items()},
        networks=tuple(_network(name, networks[name] or {}) for name in sorted(networks)),
        ports=tuple(sorted({_port(port) for port in item.get("Ports") or ()})),
        mode=str((item.get("HostConfig") or {}).get("NetworkMode") or ""),
    )


def _name(names: Iterable[str]) -> str:
    """Return the name proper: others are those by which linked containers know it, such as ``/web/db``."""
    return next((name[1:] for name in names if name.startswith("/") and "/" not in name[1:]), "")


def _health(item: Mapping[str, Any]) -> str:
    said = str((item.get("Health") or {}).get("Status") or "")
    if said in ("healthy", "unhealthy", "starting"):
        return said
    found = _HEALTH.search(str(item.get("Status") or ""))
    return found[1] if found else "none"


def _network(name: str, entry: Mapping[str, Any]) -> Network:
    return Network(
        str(name),
        str(entry.get("IPAddress") or ""),
        str(entry.get("GlobalIPv6Address") or ""),
        str(entry.get("Gateway") or entry.get("IPv6Gateway") or ""),
    )


def _port(entry: Mapping[str, Any]) -> Port:
    return Port(
        int(entry["PrivatePort"]),
        str(entry.get("Type") or "tcp"),
        str(entry.get("IP") or ""),
        int(entry.get("PublicPort") or 0),
    )
