"""The containers of an engine as a key tree, and how it changes. Pure.

    /containers/NAME/{id,image,state,health,created}
    /containers/NAME/labels/KEY  env/NAME  networks/NETWORK/{ip,ipv6}  ports/PORT/PROTOCOL[/HOST-ADDRESS]
    /SERVICE/NAME                ip:port

A change costs what the containers have that it is about. What each container claims is stored per key, so that a key
of two containers goes to the other one when its owner ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from confpy.events import LogEvent
from confpy.stores.docker.addressing import HERE, Own, Reach, address, own_of
from confpy.stores.docker.containers import Container
from confpy.stores.docker.labels import CONTAINERS, PROXY, LeftOut, segment, servers

MOST_NOTES = 20
"""Lines about containers that one read has; more are counted in one line."""
_HEALTHS = {
    "healthy": ("none", "healthy"),
    "starting": ("none", "healthy", "starting"),
    "any": ("none", "healthy", "starting", "unhealthy"),
}
"""Setting ``docker_health`` → the healths of servers."""

Diff = dict[str, "str | None"]
"""Key → its new value, None where it is gone."""


class Rules(NamedTuple):
    """What the settings say of the tree."""

    reach: Reach = Reach()
    health: str = "healthy"
    is_own: Callable[[Container], bool] = lambda _: False
    """Whether a container is the one that confpy runs in, by what the system says of this process."""
    inside: bool = False
    """Whether confpy runs in a container at all."""


class Model:
    """The containers that are listed, and their keys."""

    def __init__(self, rules: Rules) -> None:
        self.keys: dict[str, str] = {}
        self.containers: dict[str, Container] = {}
        """By id."""
        self._rules = rules
        self._by_name: dict[str, str] = {}
        """Name → id of the container that has it."""
        self._claims: dict[str, dict[str, str]] = {}
        """Key → id of each container that claims it → the value that it would have."""
        self._made: dict[str, tuple[str, ...]] = {}
        """Id → the keys that it claims."""
        self._own_id = ""
        self._own = HERE
        self._proxies: set[str] = set()
        """Ids of containers that say by a label that they are the proxy."""
        self._guests: set[str] = set()
        """Ids of containers that use the network of another one."""
        self._said: dict[str, set[str]] = {}
        """Id → what was logged of it."""
        self._notes: list[LogEvent] = []
        self._unnoted = 0
        self.noted = 0
        """How many lines there were so far."""

    def take_notes(self) -> tuple[LogEvent, ...]:
        """Return the lines that were not returned yet."""
        notes, self._notes = self._notes, []
        if self._unnoted:
            notes.append(
                LogEvent("warning", "container.left_out", {"containers": self._unnoted, "error": "as those above"})
            )
            self._unnoted = 0
        return tuple(notes)

    def replace(self, containers: Iterable[Container]) -> Diff:
        """Take the whole list; return what changed."""
        found = {one.id: one for one in containers}
        return self.update([*self.containers, *found], found)

    def update(self, ids: Collection[str], found: Mapping[str, Container]) -> Diff:
        """Take it that of the containers with these ids only those in ``found`` are left; return what changed."""
        touched = set()
        for one in dict.fromkeys(ids):
            container = found.get(one)
            if container != self.containers.get(one):
                touched.add(one)
                self._set(one, container)
        if not touched:
            return {}
        own = self._find_own()
        if own != self._own:  # how all others are reached depends on it
            self._own = own
            touched |= self.containers.keys()
        touched |= self._guests
        changed: dict[str, None] = {}
        for one in sorted(touched):
            changed |= dict.fromkeys(self._claim(one))
        return self._decide(changed)

    # --- containers --------------------------------------------------------------------------------------------------

    def _set(self, one: str, container: Container | None) -> None:
        before = self.containers.pop(one, None)
        if before is not None and self._by_name.get(before.name) == one:
            del self._by_name[before.name]
        for ids in (self._proxies, self._guests):
            ids.discard(one)
        if self._own_id == one:
            self._own_id = ""
        if container is None:
            self._said.pop(one, None)
            return
        self.containers[one] = container
        self._by_name[container.name] = one
        if container.labels.get(PROXY) == "true":
            self._proxies.add(one)
        if container.mode.startswith("container:"):
            self._guests.add(one)
        if self._rules.is_own(container):
            self._own_id = one

    def find(self, name: str) -> Container | None:
        """Return the container with an id, or a name."""
        return self.containers.get(name) or self.containers.get(self._by_name.get(name, ""))

    def _find_own(self) -> Own:
        """Return confpy's own container: the label counts only where the system does not tell which one it is."""
        one = self._own_id
        if not one and self._rules.inside and self._proxies:
            one = min(self._proxies, key=self._age)
        return own_of(self.containers.get(one), self.find)

    def _age(self, one: str) -> tuple[int, str]:
        """Return what is lower for an older container."""
        return self.containers[one].created, one

    # --- keys --------------------------------------------------------------------------------------------------------

    def _claim(self, one: str) -> tuple[str, ...]:
        """Replace what a container claims; return the keys that this is about."""
        before = self._made.pop(one, ())
        for key in before:
            claims = self._claims[key]
            del claims[one]
            if not claims:
                del self._claims[key]
        container = self.containers.get(one)
        made = self._keys_of(container) if container is not None else {}
        for key, value in made.items():
            self._claims.setdefault(key, {})[one] = value
        if made:
            self._made[one] = tuple(made)
        return (*before, *made)

    def _keys_of(self, container: Container) -> dict[str, str]:
        try:
            asked = servers(container)
        except LeftOut as error:
            self._note(container, error.reason, error.hint)
            return {}
        keys = dict(described(container))
        if container.state != "running" or container.health not in _HEALTHS[self._rules.health]:
            return keys
        for server in asked:
            key = f"/{server.service}/{server.name}"
            try:
                at = address(container, server.port, self._rules.reach, self._own, self.find)
            except LeftOut as error:
                self._note(container, error.reason, error.hint, service=server.service)
                continue
            if keys.setdefault(key, at) != at:
                self._note(container, f"two of its ports claim the key {key}", "give each its own SERVICE_<port>_ID")
        return keys

    def _decide(self, keys: Iterable[str]) -> Diff:
        """Give each key to the oldest container that claims it; return what changed."""
        diff: Diff = {}
        for key in keys:
            claims = self._claims.get(key)
            value = None
            if claims:
                owner = min(claims, key=self._age) if len(claims) > 1 else next(iter(claims))
                value = claims[owner]
                if len(claims) > 1 and not key.startswith(f"/{CONTAINERS}/"):
                    self._note_conflict(key, owner, claims)
            if self.keys.get(key) != value:
                diff[key] = value
                if value is None:
                    del self.keys[key]
                else:
                    self.keys[key] = value
        return diff

    # --- what is logged ----------------------------------------------------------------------------------------------

    def _note_conflict(self, key: str, owner: str, claims: Iterable[str]) -> None:
        holder = self.containers[owner].name
        for one in claims:
            if one != owner:
                reason = f"the key {key} is that of the older container {holder}"
                self._note(self.containers[one], reason, "give one of them another name or service")

    def _note(self, container: Container, reason: str, hint: str, **more: str) -> None:
        """Note that a container is left out, once."""
        said = self._said.setdefault(container.id, set())
        if reason in said:
            return
        said.add(reason)
        self.noted += 1
        if len(self._notes) >= MOST_NOTES:
            self._unnoted += 1
            return
        name = container.name if container.name.isprintable() else ""
        fields = {"container": name[:128] or container.id[:12], **more, "error": reason, "hint": hint}
        self._notes.append(LogEvent("warning", "container.left_out", fields))


def described(container: Container) -> Iterator[tuple[str, str]]:
    """Yield the keys of a container below ``/containers``."""
    at = f"/{CONTAINERS}/{container.name}"
    yield f"{at}/id", container.id
    yield f"{at}/image", container.image
    yield f"{at}/state", container.state
    yield f"{at}/health", container.health
    yield f"{at}/created", str(container.created)
    for key, value in container.labels.items():
        if key:
            yield f"{at}/labels/{segment(key)}", value
    for name, value in container.environment.items():
        if name:
            yield f"{at}/env/{segment(name)}", value
    for network in container.networks:
        below = f"{at}/networks/{segment(network.name)}"
        yield f"{below}/ip", network.address
        if network.ipv6:
            yield f"{below}/ipv6", network.ipv6
    for port in reversed(container.ports):  # of several on the machine, the first one is last and stays
        below = f"{at}/ports/{port.private}/{segment(port.kind)}"
        yield below, str(port.public or "")
        if port.public:
            yield f"{below}/{segment(port.ip or '0.0.0.0')}", str(port.public)  # noqa: S104
