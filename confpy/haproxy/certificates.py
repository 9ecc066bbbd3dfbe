"""Certificates and crt-lists: what a file holds, and the commands that put it into the process."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping

from confpy.haproxy.commands import MAX_PAYLOAD, Unsafe, command
from confpy.haproxy.values import Command

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_PRINTABLE = re.compile(r"[ -~\t]+")


def fingerprint(content: bytes) -> str:
    """Return the SHA-1 fingerprint of the first certificate as HAProxy writes it; empty: there is none."""
    for block in _BLOCK.finditer(content):
        if block[1] == b"CERTIFICATE":
            try:
                body = binascii.a2b_base64(b"".join(block[0].split(b"\n")[1:-1]))
            except ValueError:
                return ""
            return hashlib.sha1(body, usedforsecurity=False).hexdigest().upper()
    return ""


def set_certificate(path: str, content: bytes, *, is_new: bool) -> Iterator[Command]:
    """Yield the commands that give a certificate and its key; raises ``Unsafe``."""
    blocks = [b"\n".join(line.strip() for line in block[0].split(b"\n")) for block in _BLOCK.finditer(content)]
    payload = b"\n".join(blocks).decode("latin-1")
    if not fingerprint(content) or len(payload) > MAX_PAYLOAD:
        raise Unsafe("a file that holds no certificate, or more than one command can take")
    if not all(_PRINTABLE.fullmatch(line) for line in payload.split("\n")):
        raise Unsafe("a certificate with an empty line or a control character in it")
    if is_new:
        yield command("new", "ssl", "cert", path, accepts=("New empty certificate store …",))
    accepts = ("Transaction created for certificate …", "Transaction updated for certificate …")
    yield command("set", "ssl", "cert", path, accepts=accepts, payload=payload, is_secret=True)
    yield commit(path)


def commit(path: str) -> Command:
    """Return the command that puts a certificate in use; its answer has a dot for each of its uses."""
    return command("commit", "ssl", "cert", path, accepts=(f"Committing {path}…Success!",))


def read_crt_list(content: bytes) -> tuple[tuple[str, str, str], ...]:
    """Return the certificate, the options and the names of each line of a crt-list; raises ``Unsafe``."""
    found = []
    for line in content.decode("latin-1").split("\n"):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not _PRINTABLE.fullmatch(text):
            raise Unsafe("a line of a crt-list with a control character")
        found.append(split_line(text))
    return tuple(found)


def split_line(text: str) -> tuple[str, str, str]:
    """Return the certificate, the options and the names of a line of a crt-list."""
    path, _, rest = text.replace("\t", " ").partition(" ")
    options, rest = "", rest.strip()
    if rest.startswith("["):
        options, _, rest = rest[1:].partition("]")
    return path, " ".join(options.split()), " ".join(rest.split())


def change_list(
    path: str,
    running: tuple[str, ...],
    wanted: tuple[tuple[str, str, str], ...],
    loaded: Mapping[str, str],
    contents: Mapping[str, bytes],
) -> Iterator[Command]:
    """Yield the commands that give a crt-list its lines; raises ``Unsafe``.

    ``running``: its lines as the process shows them, numbered; ``loaded``: the certificates that the process has;
    ``contents``: those that can be loaded.
    """
    there: dict[tuple[str, str], str] = {}
    for line in running:
        name, _, names = split_line(line)
        certificate, _, number = name.rpartition(":")
        if (certificate, names) in there:
            raise Unsafe("a crt-list with one line twice")
        there[certificate, names] = number
    lines = {(name, names): options for name, options, names in wanted}
    stay = [line for line in there if line in lines]
    if len(lines) != len(wanted) or [*lines][: len(stay)] != stay or (there and [*there][:1] != stay[:1]):
        raise Unsafe("a crt-list whose lines are in another order, or with one line twice")
    known = set(loaded)
    for (name, names), options in lines.items():
        if (name, names) in there:
            continue
        if name not in known:
            if name not in contents:
                raise Unsafe("a crt-list names a certificate that is no target")
            yield from set_certificate(name, contents[name], is_new=True)
            known.add(name)
        line = " ".join(filter(None, (name, f"[{options}]" if options else "", names)))
        accepts = (f"Inserting certificate '{name}' in crt-list '{path}'…Success!",)
        yield command("add", "ssl", "crt-list", path, payload=line, accepts=accepts)
    for (name, names), number in there.items():
        if (name, names) not in lines:
            accepts = (f"Entry '{name}' deleted in crtlist '{path}'!",)
            yield command("del", "ssl", "crt-list", path, f"{name}:{number}", accepts=accepts)
