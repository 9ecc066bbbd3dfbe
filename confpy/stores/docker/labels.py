"""What labels ask for: of which services a container is a server, by which name and port. Pure.

The owner of any container writes them, so that nothing in them is believed: what cannot be part of a key or of an
address leaves the container out, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confpy.stores.docker.containers import Container

CONTAINERS = "containers"
"""The folder of all containers: no service has this name."""
SERVICE, PORT, NAME, NETWORK, PROXY = "confpy.service", "confpy.port", "confpy.name", "confpy.network", "confpy.proxy"
_PLAIN = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,128}", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OF_PORT = re.compile(r"SERVICE_([0-9]+)_(NAME|IGNORE|ID)", re.ASCII)
_NUMBER = re.compile("[0-9]{1,5}", re.ASCII)


class LeftOut(Exception):
    """A container cannot be shown, or cannot be a server of a service."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Server(NamedTuple):
    """A container as a server of a service."""

    service: str
    name: str
    port: int
    """Within the container."""


def is_plain(segment: str) -> bool:
    """Say whether a text can be one segment of a key as it is."""
    return _PLAIN.fullmatch(segment) is not None


def segment(text: str) -> str:
    """Return one segment for a label's key or the like: ``/`` and ``%`` are written as in URLs."""
    quoted = text.replace("%", "%25").replace("/", "%2F")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def servers(container: Container) -> tuple[Server, ...]:
    """Return what a container's labels ask for; raises ``LeftOut``."""
    if not is_plain(container.name):
        raise LeftOut("its name is not a plain segment", "rename it: letters, digits, _ . and -, 128 at most")
    for key, value in container.labels.items():
        if _CONTROL.search(key) or _CONTROL.search(value):
            named = f"the label {key}" if key.isprintable() and len(key) <= 128 else "a label"
            raise LeftOut(f"{named} has a control character", "write it without line ends and tabs")
    return tuple(_asked(container))


def _asked(container: Container) -> Iterator[Server]:
    labels = container.labels
    if service := labels.get(SERVICE):
        port = _port(labels[PORT], PORT) if PORT in labels else _only_port(container)
        yield _server(service, labels.get(NAME) or container.name, port, SERVICE)
        return
    if labels.get("SERVICE_IGNORE"):
        return
    own: dict[int, dict[str, str]] = {}
    for key, value in labels.items():
        if (found := _OF_PORT.fullmatch(key)) and value:
            own.setdefault(_port(found[1], key), {})[found[2]] = value
    identity = labels.get("SERVICE_ID") or container.name
    for port, said in sorted(own.items()):
        if "NAME" in said and "IGNORE" not in said:
            yield _server(said["NAME"], said.get("ID") or identity, port, f"SERVICE_{port}_NAME")
    if service := labels.get("SERVICE_NAME"):
        exposed = _exposed(container)
        rest = [port for port in exposed if not own.get(port, {}).keys() & {"NAME", "IGNORE"}]
        if not exposed:
            raise LeftOut("it exposes no port for its service", f"name the port by the label {PORT}, and {SERVICE}")
        for port in rest:
            # As registrator does it: with the port where there are several.
            name = service if len(exposed) == 1 else f"{service}-{port}"
            yield _server(name, own.get(port, {}).get("ID") or identity, port, "SERVICE_NAME")


def _server(service: str, name: str, port: int, label: str) -> Server:
    if not is_plain(service) or service == CONTAINERS:
        why = "is the folder of all containers" if service == CONTAINERS else "is not a plain segment"
        raise LeftOut(f"the service that its label {label} names {why}", "letters, digits, _ . and -, 128 at most")
    if not is_plain(name):
        raise LeftOut("the name that its labels give it is not a plain segment", "letters, digits, _ . and -")
    return Server(service, name, port)


def _port(text: str, label: str) -> int:
    if _NUMBER.fullmatch(text) and 0 < int(text) < 65536:
        return int(text)
    raise LeftOut(f"the port of its label {label} is none", "a port is a number from 1 to 65535")


def _exposed(container: Container) -> list[int]:
    return sorted({port.private for port in container.ports if port.kind == "tcp"})


def _only_port(container: Container) -> int:
    exposed = _exposed(container)
    if len(exposed) != 1:
        how_many = f"{len(exposed)} ports" if exposed else "no port"
        raise LeftOut(f"it exposes {how_many} for its service", f"name the port by the label {PORT}")
    return exposed[0]


def environment(pairs: list[str]) -> Mapping[str, str]:
    """Return the variables of ``NAME=value`` texts."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
