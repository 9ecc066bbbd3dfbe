"""Whom a store trusts and what it shows: certificates, passwords and tokens."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import urllib3

from confpy.errors import UsageError
from confpy.settings import read_text

if TYPE_CHECKING:
    from confpy.settings import Settings


def trust(
    *, ca: str | None = None, cert: str | None = None, key: str | None = None, insecure: bool = False
) -> ssl.SSLContext:
    """Return what TLS trusts (the machine's CAs where no ``ca`` is given) and shows; raises ``UsageError``."""
    if key and not cert:
        raise UsageError("a client key is given without its certificate", hint="give the certificate, too")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            f"the CA file cannot be used: {error.strerror or error}", hint="it must be readable and PEM", file=ca or ""
        ) from error
    if cert:
        try:
            context.load_cert_chain(cert, key, password="")  # no prompt for the passphrase of an encrypted key
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the client certificate cannot be used: {getattr(error, 'strerror', None) or error}",
                hint="certificate and key must be readable, PEM, without a passphrase, and belong together",
                file=cert,
            ) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user asked for it by name
    return context


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
