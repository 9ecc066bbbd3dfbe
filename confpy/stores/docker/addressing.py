"""By which address a container is reached: on the network that the proxy and it share. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from confpy.stores.docker.containers import Container, Network
from confpy.stores.docker.labels import NETWORK, LeftOut

_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - nothing is bound to it here
_HOST, _NONE, _CONTAINER = "host", "none", "container:"


class Reach(NamedTuple):
    """How the settings say that containers are reached."""

    network: str = ""
    """The name of the network; empty: as ``Own`` has it."""
    published: bool = False
    """By the ports that are published on the engine's machine."""
    host: str = "127.0.0.1"
    """The address of the engine's machine."""


class Own(NamedTuple):
    """The container that confpy runs in, as far as it matters how others are reached from there."""

    networks: tuple[str, ...] = ()
    """The names of its networks; none: it has those of the engine's machine, or is not one of the engine's."""
    gateway: str = ""
    """The address of the engine's machine for it."""


HERE = Own()
"""confpy runs on the machine, or in its network."""


def own_of(container: Container | None, find: Callable[[str], Container | None]) -> Own:
    """Return what matters of confpy's own container; None: it runs in none."""
    container = container and _owner(container, find)
    if container is None or container.mode == _HOST or not container.networks:
        return HERE
    gateway = next((network.gateway for network in container.networks if network.gateway), "")
    return Own(tuple(network.name for network in container.networks), gateway)


def address(container: Container, port: int, reach: Reach, own: Own, find: Callable[[str], Container | None]) -> str:
    """Return ``ip:port`` (IPv6 in brackets) for a port of a container; raises ``LeftOut``.

    ``find`` returns the container that has an id or a name, as far as it is listed.
    """
    host = own.gateway or reach.host
    owner = _owner(container, find)
    if owner is None:
        raise LeftOut("the container whose network it uses is not there", "start that one")
    if owner.mode == _HOST:
        return _joined(host, port)
    if reach.published:
        return _published(owner, port, host) or _unpublished(port)
    wanted = container.labels.get(NETWORK) or reach.network
    network = _network(owner, wanted, own)
    if network is not None:
        return _joined(network.address, port)
    # A rootless engine gives its containers no address that others reach.
    if not owner.networks and owner.mode != _NONE and (found := _published(owner, port, host)):
        return found
    if wanted:
        raise LeftOut(f"it has no address on the network {wanted!r}", "connect it to that network")
    if own.networks:
        raise LeftOut("it shares no network with confpy's container", "connect both to one, or set docker_network")
    raise LeftOut("it has no address on any network", "connect it to one, or publish its port")


def _owner(container: Container, find: Callable[[str], Container | None]) -> Container | None:
    """Return the container whose network a container uses: mostly itself."""
    if not container.mode.startswith(_CONTAINER):
        return container
    return find(container.mode.removeprefix(_CONTAINER))


def _network(owner: Container, wanted: str, own: Own) -> Network | None:
    """Return the network to use: of several always the first by name, so that nothing flaps."""
    for network in owner.networks:
        fits = network.name == wanted if wanted else not own.networks or network.name in own.networks
        if fits and network.address:
            return network
    return None


def _published(owner: Container, port: int, host: str) -> str:
    """Return where a port is published, empty where it is not."""
    found = [one for one in owner.ports if one.private == port and one.kind == "tcp" and one.public]
    if not found:
        return ""
    # Sorted: IPv4's unspecified address is before IPv6's.
    return _joined(host if found[0].ip in _ANY else found[0].ip, found[0].public)


def _unpublished(port: int) -> str:
    raise LeftOut(f"its port {port} is not published", "publish it, or unset docker_published")


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
