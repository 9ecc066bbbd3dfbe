"""What ``confpy init k8s|compose|systemd`` writes: the files of ``confpy/deployments``, with a user's names in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from confpy.errors import UsageError

DEPLOYMENTS = files("confpy") / "deployments"
"""One folder per kind, and ``proxy``: the confdir of HAProxy in a container. In a zipapp they have no paths."""
EXAMPLES = files("confpy") / "examples"
PLACEHOLDER = re.compile(r"@([A-Z]+)@")
OWN_STORE = re.compile(r"^ *#<own store>\n.*?^ *#</own store>\n", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^ *#</?own store>\n", re.MULTILINE)


class Kind(NamedTuple):
    """One way of running confpy."""

    image: str
    """The image, if none is named."""
    node: str
    """The node of the store, if none is named."""
    next: str
    """What to do with the files."""


KINDS: Mapping[str, Kind] = {
    "k8s": Kind(
        "confpy",
        "http://etcd:2379",
        """
  confpy check {folder}/confpy
  confpy test {folder}/confpy
  kubectl apply --dry-run=server -k {folder}
  kubectl apply -k {folder}
""",
    ),
    "compose": Kind(
        "confpy",
        "http://etcd:2379",
        """
  confpy check {folder}/confpy
  confpy test {folder}/confpy
  docker compose --project-directory {folder} up --build --detach
  curl http://127.0.0.1:8080/
""",
    ),
    "systemd": Kind(
        "nginx:1.27",
        "http://127.0.0.1:2379",
        """
  confpy check {folder}/confpy
  cp -r {folder}/confpy /etc/
  install -m 0644 {folder}/*.service /etc/systemd/system/
  install -m 0644 {folder}/{name}.default /etc/default/{name}
  systemctl daemon-reload
  systemctl enable --now confpy {name}@8080 {name}-register@8080
""",
    ),
}
NAMES = {
    "name": (
        re.compile(r"(?!(y|n|yes|no|on|off|true|false|null)$)[a-z]([a-z0-9-]{0,40}[a-z0-9])?"),
        "lower-case letters, digits and -, 42 at most, and no word like yes, which YAML takes for a truth",
    ),
    "image": (re.compile(r"[A-Za-z0-9][\w.:/@-]*"), "letters, digits and ._-:/@"),
    "backend": (re.compile(r"[a-z0-9]+"), "the name of a store"),
    "nodes": (re.compile(r"[\w.:/\[\],-]+"), "letters, digits and ._-:/[], without a user or a password"),
    "prefix": (re.compile(r"(/[\w.-]+)+"), "a path of letters, digits and ._-, such as /services/web"),
}
"""What the names of a user may consist of: no character that means something in YAML, in a unit or to a shell."""


def fill(kind: str, options: Mapping[str, str], flags: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of a kind by their paths; raises ``UsageError`` for a name that cannot be used."""
    names = _names(KINDS[kind], options, flags)
    if kind == "compose" and names["backend"] not in {"etcd", "etcdv3"}:
        raise UsageError("the containers of this example register themselves in etcd v3", hint="leave out -backend")
    own_store = "nodes" not in flags
    nodes = names["nodes"].split(",")
    words = {key.upper(): text for key, text in names.items()}
    words |= {"NODE": nodes[0], "NODELIST": ", ".join(f'"{node}"' for node in nodes)}

    def filled(text: str) -> bytes:
        text = MARK.sub("", text if own_store else OWN_STORE.sub("", text))
        return PLACEHOLDER.sub(lambda match: words[match[1]], text).encode()

    return {path.replace("NAME", names["name"]): filled(text) for path, text in _sources(kind)}


def _names(kind: Kind, options: Mapping[str, str], flags: Mapping[str, str]) -> dict[str, str]:
    name = options.get("name", "web")
    names = {
        "name": name,
        "image": options.get("image", kind.image),
        "backend": flags.get("backend", "etcdv3"),
        "nodes": flags.get("nodes", kind.node),
        "prefix": "/" + flags.get("prefix", f"/services/{name}").strip("/"),
    }
    for key, text in names.items():
        pattern, may_be = NAMES[key]
        if pattern.fullmatch(text) is None:
            flag = "node" if key == "nodes" else key
            raise UsageError(f"-{flag} {text!r} cannot be used in the files", hint=f"it may consist of: {may_be}")
    return names


def _sources(kind: str) -> Iterator[tuple[str, str]]:
    """Yield the files with their placeholders, by their paths."""
    yield from _walk(DEPLOYMENTS / kind, "")
    if kind != "systemd":
        yield from _walk(DEPLOYMENTS / "proxy", "confpy/")
        return
    for folder in ("conf.d", "templates"):
        for path, text in _walk(EXAMPLES / "haproxy" / folder, f"confpy/{folder}/"):
            yield path, text.replace("/services/web", "@PREFIX@")


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir():
            yield from _walk(one, f"{path}{one.name}/")
        elif not one.name.endswith(".pyc"):
            yield f"{path}{one.name}", one.read_text(encoding="utf-8")
