"""Configurations of HAProxy in the forms that real templates have, rendered from services that change at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random

CONFIG, PARTS, MAP = "haproxy.cfg", "services.cfg", "hosts.map"
SLOTS = 9

HEAD = """\
global
    stats socket @SOCKET@ level admin
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
"""
FRONT = """\
frontend web
    bind unix@@FOLDER@/web
    default_backend app
"""


@dataclass(frozen=True)
class Endpoint:
    """What a service has registered under one key."""

    host: str
    port: int
    weight: int = 10
    maxconn: int = 0
    is_out: bool = False
    is_checked: bool = True
    is_spare: bool = False


@dataclass(frozen=True)
class World:
    """All that is registered."""

    services: Mapping[str, Mapping[str, Endpoint]]
    timeout: int = 10
    order: int = 0
    """The order in which a store returns its keys."""
    notes: int = 0
    """Comments in the file."""
    more: Mapping[str, str] = field(default_factory=dict)

    def endpoints(self, service: str) -> list[tuple[str, Endpoint]]:
        found = sorted(self.services.get(service, {}).items())
        Random(self.order).shuffle(found)
        return found


def begin(random: Random) -> World:
    """Return services with some endpoints each."""
    services = {name: {f"n{at}": _endpoint(random) for at in range(random.randint(1, 5))} for name in ("app", "api")}
    return World(services)


def _endpoint(random: Random) -> Endpoint:
    return Endpoint(f"10.{random.randrange(4)}.0.{random.randint(1, 250)}", random.randint(8000, 8010))


def change(world: World, random: Random) -> World:
    """Return what is registered after one change, of one key or of several at once."""
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        world = _change(world, random)
    return world


def _change(world: World, random: Random) -> World:
    kind = random.choices(
        ("add", "remove", "move", "weight", "maxconn", "out", "check", "spare", "order", "note", "timeout"),
        (20, 20, 16, 8, 6, 10, 4, 3, 6, 4, 2),
    )[0]
    if kind in {"order", "note", "timeout"}:
        if kind == "timeout":
            return replace(world, timeout=random.randint(5, 20))
        return replace(world, **{"order" if kind == "order" else "notes": random.randrange(50)})
    name = random.choice(sorted(world.services))
    endpoints = dict(world.services[name])
    if kind == "add" and len(endpoints) < SLOTS:
        endpoints[f"n{random.randrange(12)}"] = _endpoint(random)
    elif endpoints:
        key = random.choice(sorted(endpoints))
        one = endpoints[key]
        if kind == "remove":
            del endpoints[key]
        elif kind == "move":
            moved = _endpoint(random)
            endpoints[key] = replace(one, host=moved.host, port=random.choice((one.port, moved.port)))
        elif kind == "weight":
            endpoints[key] = replace(one, weight=random.choice((0, 1, 10, 100, 256)))
        elif kind == "maxconn":
            endpoints[key] = replace(one, maxconn=random.choice((0, 5, 100)))
        elif kind == "out":
            endpoints[key] = replace(one, is_out=not one.is_out)
        elif kind == "check":
            endpoints[key] = replace(one, is_checked=not one.is_checked)
        elif kind == "spare":
            endpoints[key] = replace(one, is_spare=not one.is_spare)
    return replace(world, services={**world.services, name: endpoints})


Files = Mapping[str, str]
Shape = Callable[[World], Files]
SHAPES: dict[str, Shape] = {}


def shape(make: Callable[[World], str | Files]) -> Shape:
    """Register a form of configuration; one that returns text is one file."""

    def files(world: World) -> Files:
        made = make(world)
        return {CONFIG: made} if isinstance(made, str) else made

    SHAPES[make.__name__] = files
    return files


def _servers(world: World, service: str, line: str = "server {key} {at} check inter 1h") -> str:
    out = []
    for key, one in world.endpoints(service):
        known = {
            "key": key,
            "at": f"{one.host}:{one.port}",
            "host": one.host,
            "port": one.port,
            "weight": f"weight {one.weight}",
            "out": "disabled" if one.is_out else "",
            "check": "check" if one.is_checked else "",
            "maxconn": f"maxconn {one.maxconn}" if one.maxconn else "",
            "backup": "backup" if one.is_spare else "",
            "id": 100 + int(key[1:]),
        }
        out.append("    " + line.format(**known) + "\n")
    return "".join(out)


def _backends(world: World, lines: str, line: str = "server {key} {at} check inter 1h", kind: str = "backend") -> str:
    return "".join(
        f"{kind} {service}\n{lines}" + (f"    bind unix@@FOLDER@/{service}\n" if kind == "listen" else "")
        + _servers(world, service, line)
        for service in sorted(world.services)
    )  # fmt: skip


def _head(world: World) -> str:
    return HEAD.replace("server 10s", f"server {world.timeout}s")


@shape
def flat(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "    balance roundrobin\n")


@shape
def without_balance(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "", "server {key} {at}")


@shape
def cookies(world: World) -> str:
    lines = "    balance leastconn\n    cookie SRV insert indirect nocache\n"
    return _head(world) + FRONT + _backends(world, lines, "server {key} {at} cookie {key} check inter 1h")


@shape
def weights(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "", "server {key} {at} {weight} {check} inter 1h {out}")


@shape
def listens(world: World) -> str:
    return _head(world) + _backends(world, "    option forwardfor\n", "server {key} {at} {weight} {maxconn}", "listen")


@shape
def shared_defaults(world: World) -> str:
    head = _head(world) + "    default-server inter 1h fall 5 check weight 7\n"
    return head + FRONT + _backends(world, "", "server {key} {at}")


@shape
def own_defaults(world: World) -> str:
    head = _head(world) + "    default-server inter 1h fall 5 check maxconn 9\n"
    line = "server {key} {at} no-check {maxconn}"
    return head + FRONT + _backends(world, "    default-server rise 3 fall 7\n", line)


@shape
def named_defaults(world: World) -> str:
    head = _head(world).replace("defaults\n", "defaults base\n")
    more = "defaults web from base\n    default-server check inter 1h rise 4\ndefaults other from base\n    mode tcp\n"
    text = _backends(world, "", "server {key} {at} {weight}").replace("backend api", "backend api from web")
    return head + more + text.replace("backend app", "backend app from base")


@shape
def spares(world: World) -> str:
    return (
        _head(world)
        + FRONT
        + _backends(world, "    option redispatch\n", "server {key} {at} {check} inter 1h {backup}")
    )


@shape
def all_spares(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "    option allbackups\n", "server {key} {at} {weight} {backup}")


def _slot_lines(world: World, service: str) -> Iterator[str]:
    taken = {int(key[1:]) % SLOTS: one for key, one in sorted(world.services.get(service, {}).items())}
    for slot in range(SLOTS):
        one = taken.get(slot)
        at = f"{one.host}:{one.port}" if one else "127.0.0.1:9"
        yield f"    server s{slot} {at} check inter 1h" + ("" if one and not one.is_out else " disabled") + "\n"


@shape
def slots(world: World) -> str:
    return _head(world) + FRONT + "".join(
        f"backend {service}\n" + "".join(_slot_lines(world, service)) for service in sorted(world.services)
    )  # fmt: skip


@shape
def weighted_slots(world: World) -> str:
    text = SHAPES["slots"](world)[CONFIG]
    for service in sorted(world.services):
        for _, one in world.endpoints(service):
            text = text.replace(f"{one.host}:{one.port} check", f"{one.host}:{one.port} weight {one.weight} check", 1)
    return text


@shape
def counted_template(world: World) -> str:
    return _head(world) + FRONT + "".join(
        f"backend {service}\n    server-template t {max(1, len(endpoints))} 10.9.0.1:80 check inter 1h\n"
        for service, endpoints in sorted(world.services.items())
    )  # fmt: skip


@shape
def comments(world: World) -> str:
    text = _head(world) + FRONT + _backends(world, "\n\t# the servers\n", "server\t{key}   {at}  {out} # one of them")
    return f"# {world.notes} {'x' * world.notes}\n\n" * (world.notes % 4) + text


@shape
def carriage_returns(world: World) -> str:
    return (_head(world) + FRONT + _backends(world, "    balance roundrobin\n")).replace("\n", "\r\n")


@shape
def quotes(world: World) -> str:
    lines = "    http-request set-header X-A \"a b # c\"\n    http-request set-header X-B 'it is'\\ so\n"
    return _head(world) + FRONT + _backends(world, lines, "'server' \"{key}\" \"{host}\"':{port}' {weight} # {key}")


@shape
def versions_6(world: World) -> str:
    text = _head(world) + FRONT + _backends(world, "", "server {key} [2001:db8::{weight}:{port}]:{port} {out}")
    return text.replace("::weight ", "::")


@shape
def tcp(world: World) -> str:
    head = _head(world).replace("mode http", "mode tcp")
    lines = "    option tcp-check\n    tcp-check connect\n"
    return head + FRONT + _backends(world, lines, "server {key} {at} check inter 1h port 81 {maxconn}")


@shape
def encrypted(world: World) -> str:
    line = "server {key} {at} ssl verify none alpn http/1.1 send-proxy check inter 1h"
    return _head(world) + FRONT + _backends(world, "    http-reuse safe\n", line)


@shape
def by_source(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "    balance source\n", "server {key} {at} {weight} {out}")


@shape
def first(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "    balance first\n", "server {key} {at} {maxconn}")


@shape
def hashed(world: World) -> str:
    lines = "    balance uri\n    hash-type consistent\n"
    return _head(world) + FRONT + _backends(world, lines, "server {key} {at} id {id} {weight}")


@shape
def hashed_by_place(world: World) -> str:
    lines = "    balance hdr(Host)\n    hash-type consistent\n"
    return _head(world) + FRONT + _backends(world, lines, "server {key} {at} {weight} {out}")


@shape
def conditions(world: World) -> str:
    text = _backends(world, "", "server {key} {at} check inter 1h {out}")
    inside = "    .if defined(HOME)\n    server z 10.0.0.1:80\n    .else\n    server z 10.0.0.2:80\n    .endif\n"
    return _head(world) + ".if version_atleast(2.4)\n" + FRONT + ".endif\n" + text + inside


@shape
def variables(world: World) -> str:
    lines = '    http-request set-header X-Home "${HOME}"\n    server fixed "${NOWHERE-10.0.0.9}":80\n'
    return _head(world) + FRONT + _backends(world, lines, "server {key} {at} {check} inter 1h")


@shape
def several_files(world: World) -> Files:
    head = "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n"
    return {CONFIG: _head(world) + FRONT, PARTS: head + _backends(world, "", "server {key} {at} {weight} {out}")}


@shape
def referred(world: World) -> str:
    fixed = "    server fixed 10.0.0.9:80 check inter 1h\n    use-server fixed if { path /fixed }\n"
    return _head(world) + FRONT + _backends(world, fixed, "server {key} {at} {check} inter 1h {weight}")


@shape
def at_random(world: World) -> str:
    return _head(world) + FRONT + _backends(world, "    balance random(2)\n", "server {key} {at} {weight} {maxconn}")


@shape
def limits(world: World) -> str:
    line = "server {key} {at} minconn 3 maxqueue 50 {maxconn} check inter 1h"
    return _head(world) + FRONT + _backends(world, "    fullconn 100\n", line)


@shape
def agents(world: World) -> str:
    line = "server {key} {at} agent-check agent-port 9 agent-inter 1h {check} inter 1h {out}"
    return _head(world) + FRONT + _backends(world, "", line)


@shape
def http_checks(world: World) -> str:
    lines = "    option httpchk\n    http-check send meth GET uri /up hdr Host app\n    http-check expect status 200\n"
    return (
        _head(world)
        + FRONT
        + _backends(world, lines, "server {key} {at} {check} inter 1h fall 4 rise 1 addr 10.8.8.8 port 99")
    )


@shape
def reactions(world: World) -> str:
    line = "server {key} {at} check inter 1h slowstart 10s on-marked-down shutdown-sessions observe layer7"
    line += " on-error mark-down"
    return _head(world) + FRONT + _backends(world, "", line)


@shape
def resolved(world: World) -> str:
    section = "resolvers dns\n    nameserver a 127.0.0.1:5\n"
    head = _head(world) + "    default-server init-addr last,libc,none resolvers dns resolve-prefer ipv4\n"
    return section + head + FRONT + _backends(world, "", "server {key} {at} {weight}")


@shape
def sticky(world: World) -> str:
    lines = "    stick-table type ip size 1k expire 1m\n    stick on src\n    option abortonclose\n"
    return _head(world) + FRONT + _backends(world, lines, "server {key} {at} {check} inter 1h non-stick")


OTHERS = """\
userlist people
    user a insecure-password b
peers mates
    bind unix@@FOLDER@/peers
    server here
cache one
    total-max-size 4
ring trace
    format raw
    size 16384
"""


@shape
def among_others(world: World) -> str:
    return _head(world) + OTHERS + FRONT + _backends(world, "", "server {key} {at}")


@shape
def mapped(world: World) -> Files:
    entries = [f"{key}.example.org {name}\n" for name in sorted(world.services) for key in sorted(world.services[name])]
    use = "use_backend %[req.hdr(host),map(@FOLDER@/hosts.map,app)]\n    default_backend"
    text = _head(world) + FRONT.replace("default_backend", use) + _backends(world, "")
    return {CONFIG: text, MAP: f"# {world.notes}\n" + "".join(entries)}


@shape
def listed(world: World) -> Files:
    """A list of an ACL, in a file of its own."""
    addresses = [f"{one.host}/32\n" for name in sorted(world.services) for _, one in world.endpoints(name)]
    deny = "http-request deny if { src -f @FOLDER@/hosts.map }\n    default_backend"
    text = _head(world) + FRONT.replace("default_backend", deny) + _backends(world, "")
    return {CONFIG: text, MAP: "".join(dict.fromkeys(addresses))}


@shape
def backends_that_come_and_go(world: World) -> str:
    head = _head(world).replace("defaults\n", "defaults base\n") + "    default-server check inter 1h\n"
    backends: dict[str, str] = {}
    for service in sorted(world.services):
        for key, one in sorted(world.services[service].items()):
            line = f"    server {service} {one.host}:{one.port} {'disabled' if one.is_out else ''}\n"
            backends[key] = backends.get(key, f"backend {key} from base\n") + line
    return head + FRONT.replace("default_backend app", "use_backend %[path]") + "".join(backends.values())
