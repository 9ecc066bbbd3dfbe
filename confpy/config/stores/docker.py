"""Docker and Podman: their settings, their own tools' variables, their default sockets."""

from __future__ import annotations

from typing import Literal

from confpy.config.kinds import BOOLEAN, PATH, TEXT, choice
from confpy.config.options import StoreOptions, Variable, rows, setting

GROUP = "Docker and Podman"
"""The heading of their settings."""
SOCKET = "unix:///var/run/docker.sock"


@rows
class DockerSettings:
    """How the containers of an engine become keys."""

    docker_network: str | None = setting(
        GROUP,
        None,
        TEXT._replace(metavar="NAME"),
        "The network on which containers are reached.",
        unset="one that confpy's own container is on, else any",
    )
    docker_health: Literal["healthy", "starting", "any"] = setting(
        GROUP,
        "healthy",
        choice("healthy", "starting", "any"),
        "Which containers with a health check are servers of their service: healthy ones, starting ones too, or any.",
    )
    docker_published: bool = setting(
        GROUP, False, BOOLEAN, "Reach containers by the ports that they publish on the engine's machine."
    )
    docker_env: bool = setting(
        GROUP, False, BOOLEAN, "Read the environment of containers, too: it may hold secrets, and takes more requests."
    )


def _in_folder(name: str) -> Variable:
    """Return the variable for a setting whose file has this name in the folder that the variable names."""
    setting_of = {"ca.pem": "client_ca_keys", "cert.pem": "client_cert", "key.pem": "client_key"}
    return Variable("DOCKER_CERT_PATH", setting_of[name], PATH._replace(parse=lambda folder: f"{folder}/{name}"))


DOCKER = StoreOptions(
    "docker",
    "confpy.stores.docker.store:DockerStore",
    nodes=(SOCKET,),
    variables=(
        (
            Variable("DOCKER_HOST", "nodes", TEXT._replace(parse=lambda text: (text,))),
            Variable("CONTAINER_HOST", "nodes"),
        ),
        # As for Docker's client, any value is one: "0", too.
        (Variable("DOCKER_TLS_VERIFY", "scheme", TEXT._replace(parse=lambda _: "https")),),
        (_in_folder("ca.pem"),),
        (_in_folder("cert.pem"), _in_folder("key.pem")),
    ),
)
