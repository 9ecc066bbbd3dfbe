"""TLS: the certificate authorities that are trusted, and the certificate that is shown."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from typing import TypeAlias

from confpy.errors import UsageError

_Stamp: TypeAlias = tuple[int, int, int] | None

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, most images that have one file alone
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine
)
"""Where systems have their CAs as one file. OpenSSL looks where the system that built it has them."""


class Trust:
    """What TLS trusts and shows: read at once, and again for a new connection if one of its files has changed."""

    def __init__(
        self,
        *,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        server_name: str | None = None,
        insecure: bool = False,
    ) -> None:
        """Without ``ca`` the system's CAs are trusted, without ``server_name`` the name of the node is expected.

        Raises ``UsageError``. Without files, nothing is read yet.
        """
        if key and not cert:
            raise UsageError("a client key is given without its certificate", hint="give the certificate, too")
        self.server_name = _host_name(server_name) if server_name else None
        self.insecure = insecure
        self.stale: UsageError | None = None
        """Why the current files cannot be used; their previous content is used meanwhile."""
        self._ca, self._cert, self._key = ca, cert, key
        self._seen = self._stamps()
        self._context = self._read() if self._seen else None

    def context(self) -> ssl.SSLContext:
        """Return the context of a new connection. A file that is missing or half written changes nothing."""
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
        """Return what changes if a file is replaced or written to."""
        return tuple(_stamp(file) for file in (self._ca, self._cert, self._key) if file)

    def _read(self) -> ssl.SSLContext:
        context = _trusting(self._ca) if self._ca else _trusting_system()
        if self._cert:
            _show(context, self._cert, self._key)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        # From 3.13 on, Python refuses private authorities without a key usage, which other clients of a store accept: a
        # new Python must not be an outage.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def _stamp(file: str) -> _Stamp:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _trusting_system() -> ssl.SSLContext:
    """Trust the system's CAs, or those that OpenSSL's variables name; where a system has none, those of ``certifi``."""
    context = ssl.create_default_context()
    if _finds_authorities():
        return context
    bundle = next(filter(os.path.isfile, BUNDLES), None)
    if bundle is None:
        from certifi import where

        bundle = where()
    with contextlib.suppress(OSError):  # no CA is trusted then: each connection fails, and says so
        context.load_verify_locations(bundle)
    return context


def _finds_authorities() -> bool:
    """Say whether OpenSSL has a file of CAs, or a folder with names by which it finds them: ``5ed36f99.0``."""
    paths = ssl.get_default_verify_paths()
    if {paths.openssl_cafile_env, paths.openssl_capath_env} & os.environ.keys() or paths.cafile:
        return True
    try:
        return any(name.endswith(".0") for name in os.listdir(paths.openssl_capath))
    except OSError:
        return False


def _trusting(ca: str) -> ssl.SSLContext:
    try:
        _regular(ca)
        context = ssl.create_default_context(cafile=ca)
        if context.cert_store_stats()["x509"]:
            return context
        reason = _what_it_holds(ca)
    except ssl.SSLError:
        reason = _what_it_holds(ca)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise UsageError(
        f"the CA file cannot be used: {reason}", hint="it must be readable, PEM, and hold a certificate", file=ca
    )


def _what_it_holds(file: str) -> str:
    """Describe the content of a file in which OpenSSL found no certificate."""
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
    """Raise ``OSError`` for anything but a regular file: opening a FIFO would block."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(0, "it is not a regular file")


def _host_name(name: str) -> str:
    try:
        if name.encode("idna").isascii() and not name.startswith(".") and name.isprintable() and " " not in name:
            return name
    except UnicodeError:
        pass
    raise UsageError(f"server_name {name!r} is not the name of a host", hint="write it as the certificate does")
