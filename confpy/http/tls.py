"""Whom a store trusts and what it shows: certificates, passwords and tokens."""

from __future__ import annotations

import os
import ssl
import stat
from typing import TYPE_CHECKING, TypeAlias

import urllib3

from confpy.config.settings import read_text
from confpy.errors import UsageError

if TYPE_CHECKING:
    from confpy.config.settings import Settings

_Stamp: TypeAlias = tuple[int, int, int] | None


class Trust:
    """What TLS trusts and shows: read at once, and again for a new connection when one of its files changed."""

    def __init__(
        self,
        *,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        server_name: str | None = None,
        insecure: bool = False,
    ) -> None:
        """Without ``ca`` the machine's CAs are trusted, without ``server_name`` the node's own; raises ``UsageError``.

        Nothing is read yet where no file is given.
        """
        if key and not cert:
            raise UsageError("a client key is given without its certificate", hint="give the certificate, too")
        self.server_name = _host_name(server_name) if server_name else None
        self.insecure = insecure
        self.stale: UsageError | None = None
        """Why the files as they are now cannot be used; what they held before still is."""
        self._ca, self._cert, self._key = ca, cert, key
        self._seen = self._stamps()
        self._context = self._read() if self._seen else None
        if insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user asked for it by name

    def context(self) -> ssl.SSLContext:
        """Return what a new connection needs. A file that went away, or is half written, changes nothing."""
        seen = self._stamps()
        if self._context is None or seen != self._seen:
            try:
                # Two threads may read at once: both read the same.
                self._context, self._seen, self.stale = self._read(), seen, None
            except UsageError as error:
                if self._context is None:
                    raise
                self.stale = error
        return self._context

    def _stamps(self) -> tuple[_Stamp, ...]:
        """Return what tells that a file is another one than before, or was written to."""
        return tuple(_stamp(file) for file in (self._ca, self._cert, self._key) if file)

    def _read(self) -> ssl.SSLContext:
        context = _trusting(self._ca) if self._ca else ssl.create_default_context()
        if self._cert:
            _show(context, self._cert, self._key)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _stamp(file: str) -> _Stamp:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _trusting(ca: str) -> ssl.SSLContext:
    try:
        _regular(ca)
        context = ssl.create_default_context(cafile=ca)
        if context.cert_store_stats()["x509"]:
            return context
        reason = _instead_of_a_certificate(ca)
    except ssl.SSLError:
        reason = _instead_of_a_certificate(ca)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise UsageError(
        f"the CA file cannot be used: {reason}", hint="it must be readable, PEM, and hold a certificate", file=ca
    )


def _instead_of_a_certificate(file: str) -> str:
    """Say what a file holds in which OpenSSL found no certificate."""
    with open(file, "rb") as opened:
        held = opened.read(1 << 20)
    if not held.strip():
        return "it is empty"
    if held.startswith(b"\x30"):  # an ASN.1 sequence
        return "it is DER, not PEM"
    if b"-----BEGIN CERTIFICATE-----" in held:
        return "its certificate is broken"
    return "it holds a key, no certificate" if b"PRIVATE KEY-----" in held else "it holds no certificate"


def _show(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    try:
        for file in (cert, key):
            if file:
                _regular(file)
        context.load_cert_chain(cert, key, password="")  # no prompt for the passphrase of an encrypted key
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the client certificate cannot be used: {getattr(error, 'strerror', None) or error}",
            hint="certificate and key must be readable, PEM, without a passphrase, and belong together",
            file=cert,
        ) from error


def _regular(file: str) -> None:
    """Raise ``OSError`` for what is no file: to open a FIFO waits for ever."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(0, "it is not a regular file")


def _host_name(name: str) -> str:
    try:
        if name.encode("idna").isascii() and not name.startswith(".") and name.isprintable() and " " not in name:
            return name
    except UnicodeError:
        pass
    raise UsageError(f"server_name {name!r} is not the name of a host", hint="write it as the certificate does")


def secret(text: str | None, file: str | None) -> str | None:
    """Return what stands in the file where one is given, else ``text``; raises ``UsageError``."""
    found = read_text(file).strip() if file else text
    if found and not found.isprintable():
        raise UsageError("a password or a token is not printable text", **({"file": file} if file else {}))
    return found


def basic_auth(settings: Settings) -> tuple[bytes, bytes] | None:
    """Return user and password, where logging in by them is wanted; raises ``UsageError``."""
    if not settings.basic_auth:
        return None
    password = secret(settings.password, settings.password_file)
    return (settings.username or "").encode(), (password or "").encode()
