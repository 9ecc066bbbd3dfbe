"""What the process answers, as values. https://docs.haproxy.org/3.0/management.html#9.3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confpy.frozen import replace
from confpy.haproxy.values import Process, Running, RunningServer

_VERSION = re.compile(r"^(\d+)\.(\d+)")
_FILE = re.compile(r"(?P<id>\d+) \((?P<path>[^)]*)\) .*\bcurr_ver=(?P<current>\d+) next_ver=(?P<next>\d+)")
_COLUMNS = (
    "srv_addr srv_fqdn srv_op_state srv_admin_state srv_uweight srv_iweight srv_check_state srv_agent_state srv_port"
)


class UnknownAnswer(ValueError):
    """An answer that is not in the form that is known; says of what."""


def split_answers(text: str) -> list[str]:
    """Return the answers to commands that were sent in one line, separated by ``;``: each ends with an empty line."""
    answers: list[str] = []
    lines: list[str] = []
    for line in text.split("\n")[:-1]:
        if line:
            lines.append(line)
        else:
            answers.append("\n".join(lines))
            lines = []
    if lines:
        answers.append("\n".join(lines))
    return answers


def read_info(text: str) -> Process:
    """Return what ``show info`` says of the worker; raises ``UnknownAnswer``."""
    fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
    try:
        major, minor = _VERSION.findall(fields["Version"])[0]
        return Process((int(major), int(minor)), int(fields["Pid"]), float(fields["Uptime_sec"]))
    except (LookupError, ValueError):
        raise UnknownAnswer("show info") from None


def read_help(text: str) -> frozenset[str] | None:
    """Return the options that ``add server help`` lists; None: this version does not list them."""
    first, *words = text.rstrip("\n").split("\n")
    return frozenset(words) if first.startswith("List of keywords") and words else None


def read_files(text: str) -> tuple[str, ...]:
    """Return the files of ``show env HAPROXY_CFGFILES``; empty: not known."""
    name, _, value = text.strip().partition("=")
    return tuple(value.split(";")) if name == "HAPROXY_CFGFILES" and value else ()


class _Servers(Mapping[str, RunningServer]):
    """The servers of a backend, each read when it is asked for: there may be thousands, of which few matter."""

    def __init__(self, places: Sequence[int]) -> None:
        self._places = places
        self.lines: dict[str, str] = {}

    def __getitem__(self, name: str) -> RunningServer:
        values = self.lines[name].split(" ")
        try:
            address, fqdn, *rest = [values[place] for place in self._places]
            operation, admin, weight, initial, check, agent, port = map(int, rest)
        except (LookupError, ValueError):
            raise UnknownAnswer("show servers state") from None
        host = "" if fqdn == "-" else fqdn
        return RunningServer(name, address, port, admin, operation, weight, initial, check, agent, host)

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)


def read_servers_state(text: str) -> dict[str, Mapping[str, RunningServer]]:
    """Return backend → its servers in their order, from ``show servers state``; one without servers is not listed.

    Raises ``UnknownAnswer``, later too, for a server that is not in the form that is known.
    """
    lines = text.split("\n")
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# be_id be_name srv_id srv_name "):
        raise UnknownAnswer("show servers state")
    columns = lines[1][2:].split(" ")
    try:
        places = [columns.index(column) for column in _COLUMNS.split()]
    except ValueError:
        raise UnknownAnswer("show servers state") from None
    found: dict[str, _Servers] = {}
    for line in lines[2:]:
        if not line or line.startswith("#"):
            continue
        try:
            _, backend, _, name, _ = line.split(" ", 4)
        except ValueError:
            raise UnknownAnswer("show servers state") from None
        servers = found.get(backend)
        if servers is None:
            servers = found[backend] = _Servers(places)
        servers.lines[name] = line
    return dict(found)


def read_lists(text: str) -> dict[str, int]:
    """Return file → the version that follows, from ``show map`` or ``show acl``; what has no file is left out."""
    found: dict[str, int] = {}
    for line in text.split("\n"):
        match = _FILE.match(line)
        if match and match["path"]:
            found[match["path"]] = int(match["next"]) + 1
    return found


def read_entries(text: str) -> tuple[str, ...]:
    """Return the entries of a map or an ACL in their order, without their addresses in memory."""
    return tuple([line.partition(" ")[2] for line in text.split("\n") if line])


def read_names(text: str) -> tuple[str, ...]:
    """Return the files that ``show ssl cert`` or ``show ssl crt-list`` lists; transactions are left out."""
    # A HAProxy without TLS does not know the command.
    if text.startswith("Unknown command"):
        return ()
    return tuple([line for line in text.split("\n") if line and line[0] not in "#*"])


def read_fingerprint(text: str) -> str:
    """Return the SHA-1 fingerprint of ``show ssl cert FILE``; empty: it holds no certificate."""
    fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
    return fields.get("SHA1 FingerPrint", "")


def read_running(answers: Mapping[str, str], before: Running) -> Running:
    """Return what is known after more answers, by command; raises ``UnknownAnswer``."""
    servers, entries = dict(before.servers), dict(before.entries)
    certificates, lists = dict(before.certificates), dict(before.lists)
    more: dict[str, Any] = {}
    for command, answer in answers.items():
        kind, _, name = command.rpartition(" ")
        if kind == "show servers state":
            servers |= {name: {}, **read_servers_state(answer)} if answer.startswith("1\n") else {}
        elif kind == "show env":
            more["files"] = read_files(answer)
        elif command in {"show map", "show acl"}:
            more[f"{name}s"] = read_lists(answer)
        elif kind in {"show map", "show acl"}:
            entries[name] = read_entries(answer)
        elif command == "show ssl cert":
            certificates |= dict.fromkeys(read_names(answer), "")
        elif kind == "show ssl cert":
            certificates[name] = read_fingerprint(answer)
        elif command == "show ssl crt-list":
            lists |= dict.fromkeys(read_names(answer), ())
        elif kind == "show ssl crt-list -n":
            lists[name] = read_names(answer)
    return replace(
        before,
        asked=before.asked | answers.keys(),
        servers=servers,
        entries=entries,
        certificates=certificates,
        lists=lists,
        **more,
    )


def is_accepted(answer: str, accepts: Sequence[str]) -> bool:
    """Say whether an answer is one of those that are known: a whole one, or one with anything in place of ``…``."""
    for known in accepts:
        start, more, end = known.partition("…")
        if answer == known or (
            more and len(answer) >= len(start) + len(end) and answer.startswith(start) and answer.endswith(end)
        ):
            return True
    return False
