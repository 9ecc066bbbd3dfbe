"""Consul: its settings, its own tools' variables, its default node."""

from __future__ import annotations

from typing import Literal

from confpy.config.kinds import BOOLEAN, LIST, PATH, SECRET, TEXT, choice, truth
from confpy.config.options import StoreOptions, Variable, rows, setting

GROUP = "Consul"
"""The heading of its settings."""


@rows
class ConsulSettings:
    """Settings of Consul alone."""

    auth_token: str | None = setting(GROUP, None, SECRET, "The ACL token; prefer a file.")
    auth_token_file: str | None = setting(GROUP, None, PATH, "A file with the ACL token.")
    datacenter: str | None = setting(
        GROUP, None, TEXT._replace(metavar="NAME"), "The datacenter to read.", unset="the agent's own"
    )


CATALOGUE = "Consul's catalogue"
"""The heading of its settings."""


@rows
class CatalogSettings:
    """Which services Consul's catalogue is read for, and as what."""

    services: tuple[str, ...] = setting(
        CATALOGUE,
        (),
        LIST._replace(metavar="NAME"),
        "A service to read. May be repeated, or comma-separated.",
        unset="all",
        flag="service",
        keys=("services", "service"),
    )
    service_tags: tuple[str, ...] = setting(
        CATALOGUE,
        (),
        LIST._replace(metavar="TAG"),
        "A tag that instances must have. May be repeated, or comma-separated.",
        flag="service-tag",
        keys=("service_tags", "service_tag"),
    )
    service_status: Literal["passing", "warning", "any"] = setting(
        CATALOGUE, "passing", choice("passing", "warning", "any"), "The worst status that an instance may have."
    )
    service_value: Literal["json", "address"] = setting(
        CATALOGUE, "json", choice("json", "address"), "The value of an instance: JSON, or host:port alone."
    )
    namespace: str | None = setting(
        CATALOGUE,
        None,
        TEXT._replace(metavar="NAME"),
        "The namespace of Consul Enterprise to read.",
        unset="the token's own",
    )
    partition: str | None = setting(
        CATALOGUE,
        None,
        TEXT._replace(metavar="NAME"),
        "The admin partition of Consul Enterprise to read.",
        unset="the agent's own",
    )


TLS = BOOLEAN._replace(parse=lambda text: "https" if truth(text) else "http")
CONSUL = StoreOptions(
    "consul",
    "confpy.stores.consul.store:ConsulStore",
    nodes=("127.0.0.1",),
    port=8500,
    variables=(
        (Variable("CONSUL_HTTP_ADDR", "nodes"),),
        (Variable("CONSUL_HTTP_TOKEN_FILE", "auth_token_file"), Variable("CONSUL_HTTP_TOKEN", "auth_token")),
        (Variable("CONSUL_HTTP_SSL", "scheme", TLS),),
        (Variable("CONSUL_CACERT", "client_ca_keys"),),
        (Variable("CONSUL_CLIENT_CERT", "client_cert"), Variable("CONSUL_CLIENT_KEY", "client_key")),
    ),
    registrar="confpy.stores.consul.registrar:ConsulRegistrar",
    service_registrar="confpy.stores.consul.services:ConsulServiceRegistrar",
)
CONSUL_CATALOG = CONSUL._replace(name="consul-catalog", code="confpy.stores.catalog.store:CatalogStore")
