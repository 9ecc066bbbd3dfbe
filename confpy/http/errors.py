"""What went wrong between a store and its server, said for people."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import HTTPException

from confpy.errors import StoreError
from confpy.http.addresses import Node


def said(error: BaseException, node: Node) -> StoreError:
    """Say for people what went wrong on the way to an answer and on the way back."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _said_of_tls(cause)
    for cause in causes:
        if isinstance(cause, ConnectionRefusedError):
            return StoreError("connection refused", hint="does the server run, are host and port right?")
        if isinstance(cause, TimeoutError):
            return StoreError("no answer in time", hint="is the address right, is the server alive?")
        if isinstance(cause, ConnectionError):  # also http.client's RemoteDisconnected
            wanted = "https://" if node.scheme == "http" else "http://, or a client certificate that it trusts"
            hint = f"if it stays so: does the server want {wanted}?"
            return StoreError("the connection was broken before the answer came", hint=hint)
        if isinstance(cause, HTTPException):
            return StoreError("its answer is not HTTP, or was broken off", hint="is it the right port?")
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return StoreError(cause.strerror[0].lower() + cause.strerror[1:])
    return StoreError(f"the request failed ({type(error).__name__})")


def _said_of_tls(error: ssl.SSLError) -> StoreError:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreError(
            f"its certificate is not trusted: {error.verify_message}",
            hint="name the CA that signed it (client_ca_keys), and the node as the certificate does",
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):  # which of them, differs between OpenSSLs
        hint = "if it stays so: does the server want http://, or a client certificate that it trusts?"
        return StoreError("the TLS connection was broken off", hint=hint)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
        return StoreError("it does not speak TLS", hint="write http:// instead of https://, or mend the port")
    said = reason.lower().replace("_", " ")
    if any(one in reason for one in ("CERTIFICATE", "HANDSHAKE_FAILURE", "ALERT_UNKNOWN_CA")):
        return StoreError(
            f"it refused our certificate ({said})", hint="give one that it trusts (client_cert, client_key)"
        )
    return StoreError(f"TLS failed ({said})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that it wraps, in the many ways of requests and urllib3."""
    seen: set[int] = set()
    open_ = [error]
    while open_:
        cause = open_.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
            open_.extend(one for one in inner if isinstance(one, BaseException))
