"""Settings of every store on a network."""

from __future__ import annotations

from confpy.config.kinds import BOOLEAN, DURATION, LIST, PATH, SECRET, TEXT, choice
from confpy.config.options import rows, setting

GROUP = "Stores on a network"
"""The heading of its settings."""


@rows
class NetworkSettings:
    """How to reach, and log in to, a store's servers."""

    nodes: tuple[str, ...] = setting(
        GROUP,
        (),
        LIST._replace(metavar="ADDRESS"),
        "An address of the store. May be repeated, or comma-separated.",
        unset="the store's own",
        flag="node",
        keys=("nodes", "node"),
    )
    srv_domain: str | None = setting(
        GROUP, None, TEXT._replace(metavar="NAME"), "The domain whose SRV records name the nodes, instead of -node."
    )
    srv_record: str | None = setting(
        GROUP,
        None,
        TEXT._replace(metavar="NAME"),
        "The SRV record that names the nodes, instead of -node.",
        unset="from the store and srv_domain, such as _etcd._tcp.example.com",
    )
    scheme: str = setting(GROUP, "http", choice("http", "https"), "The scheme of nodes whose address has none.")
    client_cert: str | None = setting(GROUP, None, PATH, "TLS client certificate.")
    client_key: str | None = setting(GROUP, None, PATH, "TLS key of the client certificate.")
    client_ca_keys: str | None = setting(GROUP, None, PATH, "TLS authorities to trust.", unset="the system's")
    server_name: str | None = setting(
        GROUP,
        None,
        TEXT._replace(metavar="NAME"),
        "The name that the nodes' TLS certificates must have.",
        unset="the name in the node's address",
    )
    client_insecure: bool = setting(GROUP, False, BOOLEAN, "Trust any certificate: for tests only.")
    basic_auth: bool = setting(GROUP, False, BOOLEAN, "Log in with username and password.")
    username: str | None = setting(GROUP, None, TEXT._replace(metavar="NAME"), "The user to log in as.")
    password: str | None = setting(GROUP, None, SECRET, "The password; prefer a file.")
    password_file: str | None = setting(GROUP, None, PATH, "A file with the password.")
    connect_timeout: float = setting(GROUP, 3.0, DURATION, "How long a node may take to accept a connection.")
    read_timeout: float = setting(GROUP, 10.0, DURATION, "How long a node may take to answer.")
