"""The options of a server: how many words follow each, and which versions take it for a server added at run time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from confpy.haproxy.lexer import VARIABLE

SAFE = re.compile(r"[A-Za-z0-9_.:/\[\]@%+-]+")
"""What a word of a command is made of. The runtime API splits its input at ``;``, and values come from a store."""
NAME = re.compile(r"[A-Za-z0-9_.:-]+")
"""What HAProxy takes as the name of a server or a backend."""


def is_safe(word: str) -> bool:
    """Say whether a word may stand in a command: the one check of all that is sent but payloads."""
    return SAFE.fullmatch(word) is not None


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEVER = (99,)
"""A version that no HAProxy has: the option is not taken at run time."""
_FIRST = (2, 6)

FLAGS: Mapping[str, tuple[str, bool]] = {
    "agent-check": ("agent-check", True),
    "backup": ("backup", True),
    "check": ("check", True),
    "check-reuse-pool": ("check-reuse-pool", True),
    "check-send-proxy": ("check-send-proxy", True),
    "check-ssl": ("check-ssl", True),
    "disabled": ("disabled", True),
    "enabled": ("disabled", False),
    "no-agent-check": ("agent-check", False),
    "no-backup": ("backup", False),
    "no-check": ("check", False),
    "no-check-reuse-pool": ("check-reuse-pool", False),
    "no-check-send-proxy": ("check-send-proxy", False),
    "no-check-ssl": ("check-ssl", False),
    "no-send-proxy": ("send-proxy", False),
    "no-send-proxy-v2": ("send-proxy-v2", False),
    "no-send-proxy-v2-ssl": ("send-proxy-v2-ssl", False),
    "no-send-proxy-v2-ssl-cn": ("send-proxy-v2-ssl-cn", False),
    "no-ssl": ("ssl", False),
    "no-ssl-reuse": ("no-ssl-reuse", True),
    "no-tfo": ("tfo", False),
    "no-tls-tickets": ("no-tls-tickets", True),
    "non-stick": ("non-stick", True),
    "send-proxy": ("send-proxy", True),
    "send-proxy-v2": ("send-proxy-v2", True),
    "send-proxy-v2-ssl": ("send-proxy-v2-ssl", True),
    "send-proxy-v2-ssl-cn": ("send-proxy-v2-ssl-cn", True),
    "ssl": ("ssl", True),
    "ssl-reuse": ("no-ssl-reuse", False),
    "stick": ("non-stick", False),
    "tfo": ("tfo", True),
    "tls-tickets": ("no-tls-tickets", False),
}
"""Word → the option that it switches on or off; off is what a server has that says nothing of it."""

SWITCHES = _set(
    "allow-0rtt check-via-socks4 force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12 force-tlsv13 no-sslv3 "
    "no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 strict-maxconn"
)
"""Options that are one word, and that nothing switches off again."""

VALUES = _set(
    "addr agent-addr agent-inter agent-port agent-send alpn ca-file cc check-alpn check-pool-conn-name "
    "check-proto check-sni ciphers ciphersuites client-sigalgs cookie crl-file crt curves downinter error-limit "
    "fall fastinter guid hash-key healthcheck id idle-ping init-addr init-state inter ktls log-bufsize "
    "log-proto max-reuse maxconn maxqueue minconn namespace npn observe on-error on-marked-down on-marked-up "
    "pool-conn-name pool-low-conn pool-max-conn pool-purge-delay port proto proxy-v2-options redir resolve-net "
    "resolve-opts resolve-prefer resolvers rise set-proxy-v2-tlv-fmt shard sigalgs slowstart sni socks4 "
    "ssl-max-ver ssl-min-ver tcp-md5sig tcp-ut track verify verifyhost weight ws"
)
"""Options with one word after them."""

OF_NAMES = frozenset({"init-addr", "resolvers", "resolve-net", "resolve-opts", "resolve-prefer"})
"""Options that say how a host name is looked up: nothing where the address is an IP address."""

SINCE: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        _set(
            "addr agent-addr agent-check agent-inter agent-port agent-send allow-0rtt alpn backup ca-file check "
            "check-alpn check-proto check-send-proxy check-sni check-ssl check-via-socks4 ciphers ciphersuites "
            "crl-file crt disabled downinter error-limit fall fastinter force-sslv3 force-tlsv10 force-tlsv11 "
            "force-tlsv12 force-tlsv13 id inter maxconn maxqueue minconn no-ssl-reuse no-sslv3 no-tls-tickets "
            "no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 npn observe on-error on-marked-down on-marked-up "
            "pool-low-conn pool-max-conn pool-purge-delay port proto proxy-v2-options rise send-proxy "
            "send-proxy-v2 send-proxy-v2-ssl send-proxy-v2-ssl-cn slowstart sni source ssl ssl-max-ver "
            "ssl-min-ver tfo track verify verifyhost weight ws"
        ),
        _FIRST,
    ),
    **dict.fromkeys(_set("client-sigalgs curves sigalgs"), (2, 8)),
    **dict.fromkeys(_set("cookie guid hash-key set-proxy-v2-tlv-fmt"), (3, 0)),
    **dict.fromkeys(_set("idle-ping init-state pool-conn-name strict-maxconn"), (3, 2)),
    **dict.fromkeys(_set("check-pool-conn-name check-reuse-pool"), (3, 2)),
}
"""Option → the first version that takes it for a server added at run time; from 3.2 on the process lists them."""


def is_taken(option: str, version: tuple[int, ...], listed: frozenset[str] | None) -> bool:
    """Say whether a server with this option can be added at run time."""
    return option in listed if listed is not None else version >= SINCE.get(option, NEVER)


def options(words: tuple[str, ...]) -> dict[str, tuple[str, ...]] | str:
    """Return option → what follows it, of what the words mean in their order; or the word that is not known."""
    found: dict[str, tuple[str, ...]] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word in FLAGS:
            option, is_on = FLAGS[word]
            found.pop(option, None)
            if is_on:
                found[option] = ()
        elif word in SWITCHES:
            found[word] = ()
        elif word in VALUES and at < len(words):
            found[word] = (words[at],)
            at += 1
        elif word == "source" and at < len(words):
            length = 3 if words[at + 1 : at + 2] in {("usesrc",), ("interface",)} else 1
            if at + length > len(words):
                return word
            found[word] = words[at : at + length]
            at += length
        else:
            return word.partition(VARIABLE)[0] or "a variable"
    return found
