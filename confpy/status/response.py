"""An answer about the status, and its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from confpy.frozen import NOTHING, frozen

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Connection": "close",
}


@frozen
class Response:
    """What is answered."""

    code: int
    type: str
    body: bytes
    headers: Mapping[str, str] = NOTHING

    def encode(self, *, is_head: bool = False) -> bytes:
        """Return the bytes of the answer; ``is_head``: without the body."""
        has_body = self.code != HTTPStatus.NOT_MODIFIED
        own = {"Content-Type": self.type, "Content-Length": str(len(self.body))} if has_body else {}
        lines = [f"HTTP/1.1 {self.code} {HTTPStatus(self.code).phrase}"]
        lines += [f"{name}: {value}" for name, value in {**own, **self.headers, **_HEADERS}.items()]
        head = "\r\n".join([*lines, "\r\n"]).encode("ascii")
        return head if is_head or not has_body else head + self.body


def text(code: int, body: str) -> Response:
    """Return a short answer for programs and people."""
    return Response(code, TEXT, body.encode("utf-8", "backslashreplace"))
