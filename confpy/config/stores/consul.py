"""Consul: its settings, its own tools' variables, its default node."""

from __future__ import annotations

from confpy.config.kinds import BOOLEAN, PATH, SECRET, TEXT, truth
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
)
