"""What can go wrong between a client and its server, described for people."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from confpy.errors import StoreError
from confpy.http.addresses import Node
from confpy.http.response import NotHTTP

if TYPE_CHECKING:
    import ssl

FOREIGN = (OSError, NotHTTP)
"""What the system, the resolver, ``ssl`` and ``response`` raise while a request is under way."""


class NoAnswer(TimeoutError):
    """A request took longer than its deadline."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")


class NoConnection(TimeoutError):
    """No address of a server answered."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no connection within {seconds:g} s")


class NoAddress(TimeoutError):
    """A name was not resolved in time."""


class TunnelRefused(OSError):
    """A proxy answered, and does not connect to the server."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it does not connect to the node (HTTP {status})")


def describe_error(error: BaseException, node: Node) -> StoreError:
    """Return the error for people for one of ``FOREIGN``, met on the way to ``node`` or back."""
    if "ssl" in sys.modules:  # otherwise it is no error of TLS
        import ssl

        if isinstance(error, ssl.SSLError):
            return _describe_tls(error)
    if node.socket_file and isinstance(error, FileNotFoundError | PermissionError | ConnectionRefusedError):
        return _describe_socket(error, node.socket_file)
    match error:
        case ConnectionRefusedError():
            return StoreError("connection refused", hint="does the server run, are host and port right?")
        case NoConnection():
            return StoreError(str(error), hint="is the address right, does a firewall block it?")
        case NoAddress():
            return StoreError(f"the name {node.host} could not be looked up in time", hint="does DNS work?")
        case NoAnswer() | TunnelRefused():
            return StoreError(str(error))
        case socket.gaierror():
            hint = "is it spelled right, does DNS work?"
            return StoreError(f"the name {node.host} is not known ({error.strerror})", hint=hint)
        case TimeoutError():
            return StoreError("no answer in time", hint="is the address right, is the server alive?")
        case ConnectionError():  # also ``Disconnected``
            wanted = "https://" if node.scheme == "http" else "http://, or a client certificate that it trusts"
            hint = f"if it stays so: does the server want {wanted}?"
            return StoreError("the connection was broken before the answer came", hint=hint)
        case NotHTTP():
            return StoreError("its answer is not HTTP, or was broken off", hint="is it the right port?")
        case OSError() if error.strerror:
            return StoreError(error.strerror[0].lower() + error.strerror[1:])
    return StoreError(f"the request failed ({type(error).__name__})")


def _describe_socket(error: OSError, path: str) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return StoreError(f"there is no socket {path}", hint="does the server run, is the path right?")
    if isinstance(error, ConnectionRefusedError):
        return StoreError(f"nobody listens at the socket {path}", hint="does the server run?")
    hint = "let confpy run as a user, or with a group, that may write to the socket, and enter the folders above it"
    return StoreError(f"the socket {path} may not be used: permission denied{_owners(path)}", hint=hint)


def _owners(path: str) -> str:
    """Return whose a socket is, as part of a sentence; empty if that cannot be seen."""
    import grp
    import os
    import pwd

    try:
        status = os.stat(path)
        owner, group = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f" (it belongs to user {owner}, group {group}, mode {status.st_mode & 0o7777:04o})"


def _describe_tls(error: ssl.SSLError) -> StoreError:
    import ssl

    reason = getattr(error, "reason", None) or type(error).__name__  # only OpenSSL's own errors have one
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
    words = reason.lower().replace("_", " ")
    if any(one in reason for one in ("CERTIFICATE", "HANDSHAKE_FAILURE", "ALERT_UNKNOWN_CA")):
        return StoreError(
            f"it refused our certificate ({words})", hint="give one that it trusts (client_cert, client_key)"
        )
    return StoreError(f"TLS failed ({words})")
