"""A real name server on the loopback that answers as set up: SRV records, an error, or not at all."""

from __future__ import annotations

import socket
import threading
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from dns.resolver import Resolver


class Dns:
    """Serves ``records``, by lower-case names with a dot at their end; all others do not exist."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        """Name → what follows ``SRV`` in a zone file: ``10 5 2379 db.example.``. An empty list: of another type."""
        self.failing = False
        """It answers SERVFAIL."""
        self.silent = False
        """It takes questions, and says nothing."""
        self.asked: list[str] = []
        self._end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._end.bind(("127.0.0.1", 0))
        self.port: int = self._end.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="name server")
        self._thread.start()

    def resolver(self) -> Resolver:
        """Return a resolver that asks this server."""
        made = Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], self.port
        return made

    def _serve(self) -> None:
        while True:
            data, peer = self._end.recvfrom(4096)
            if not data:
                return
            answer = self._answer(dns.message.from_wire(data))
            if not self.silent:
                self._end.sendto(answer.to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        (question,) = query.question
        name = question.name.to_text().lower()
        self.asked.append(name)
        answer = dns.message.make_response(query, recursion_available=True)
        if self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif self.records[name]:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *self.records[name]))
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._end.close()
