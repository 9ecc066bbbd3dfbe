"""The request that reloads a program."""

from __future__ import annotations

from confpy.errors import ReloadError
from confpy.http.addresses import Node
from confpy.http.once import request_once
from confpy.http.response import Disconnected
from confpy.reload.haproxy import not_sent
from confpy.system.subprocesses import TAIL, for_people


def send_request(method: str, url: str, timeout: float) -> None:
    """Make a request, of ``timeout`` seconds as a whole; raises ``ReloadError`` unless the answer is a 2xx."""
    status, said, body = request_once(method, url, timeout, _describe, TAIL)
    if not 200 <= status < 300:
        where = {"output": output} if (output := for_people(body)) else {}
        reason = for_people(said.encode())[:200]
        raise ReloadError(f"the reload was answered with {status} {reason}".rstrip(), kind=("HTTP", status), **where)


def _describe(error: BaseException, _: Node) -> ReloadError:
    if isinstance(error, OSError) and not isinstance(error, Disconnected):
        return not_sent(error)
    return ReloadError("the reload was not answered in HTTP", hint="is it the right port?")
