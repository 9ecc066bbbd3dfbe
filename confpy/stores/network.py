"""A store on a network as the settings describe it: endpoints, TLS, passwords and tokens."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from confpy.config.toml import read_text
from confpy.errors import UsageError
from confpy.http.addresses import Node, parse_nodes
from confpy.http.endpoints import Endpoints, Find

if TYPE_CHECKING:
    from confpy.config.options import StoreOptions
    from confpy.config.settings import Settings
    from confpy.http.srv import Record
    from confpy.http.tls import Trust


def open_endpoints(title: str, store: StoreOptions, settings: Settings, *, scheme: str = "") -> Endpoints:
    """Return the nodes that the settings name, in random order, else the store's own; raises ``UsageError``.

    ``title`` is what errors call the store. ``scheme`` is for addresses that have none; empty: that of the settings.
    """
    scheme = scheme or settings.scheme
    find: Find | None = None
    nodes: tuple[Node, ...] = ()
    if settings.srv_record or settings.srv_domain:
        from confpy.http import srv  # it loads dnspython

        find = partial(srv.find, srv_records(settings, scheme), settings.connect_timeout)
    else:
        nodes = parse_nodes(settings.nodes or store.nodes, scheme=scheme, port=store.port)
        if settings.nodes:  # the default ones are in the order in which they are likely
            nodes = tuple(random.sample(nodes, len(nodes)))
    trust = None
    named = settings.client_ca_keys or settings.client_cert or settings.client_key
    if find or named or any(node.scheme == "https" for node in nodes):
        trust = read_trust(settings)
    return Endpoints(
        title,
        nodes,
        trust=trust,
        find=find,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )


def read_trust(settings: Settings, *, with_key: bool = True) -> Trust:
    """Return what TLS is to trust and to show, as the settings say. ``with_key``: ``client_key`` is a key."""
    from confpy.http.tls import Trust  # it loads ssl

    return Trust(
        ca=settings.client_ca_keys,
        cert=settings.client_cert,
        key=settings.client_key if with_key else None,
        server_name=settings.server_name,
        insecure=settings.client_insecure,
    )


def srv_records(settings: Settings, scheme: str) -> tuple[Record, ...]:
    """Return the records that may name the nodes, of which the first that exists counts; raises ``UsageError``.

    A domain stands for confd's record, ``_<backend>._tcp.<domain>``, and then for those of etcd's own tools.
    """
    from confpy.http import srv

    if settings.srv_record:
        return (srv.record(settings.srv_record, scheme),)
    services = [settings.backend.removesuffix("-catalog")]  # one Consul has both its stores
    if settings.backend.startswith("etcd"):
        services += ["etcd-client-ssl", "etcd-client"]
    return tuple(srv.record(f"_{service}._tcp.{settings.srv_domain}", scheme) for service in services)


def etcd_scheme(settings: Settings) -> str:
    """Return the scheme of etcd's nodes: as with confd, a CA or a certificate means TLS."""
    return "https" if settings.client_ca_keys or settings.client_cert else settings.scheme


def secret(text: str | None, file: str | None) -> str | None:
    """Return the content of the file if one is given, else ``text``; raises ``UsageError``."""
    found = read_text(file).strip() if file else text
    if found and not found.isprintable():
        raise UsageError("a password or a token is not printable text", **({"file": file} if file else {}))
    return found


def basic_auth(settings: Settings) -> tuple[bytes, bytes] | None:
    """Return user and password if the settings want basic authentication; raises ``UsageError``."""
    if not settings.basic_auth:
        return None
    password = secret(settings.password, settings.password_file)
    return (settings.username or "").encode(), (password or "").encode()
