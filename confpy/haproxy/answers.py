"""What the process answers, as values. https://docs.haproxy.org/3.0/management.html#9.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from confpy.haproxy.values import Process, RunningServer

_VERSION = re.compile(r"^(\d+)\.(\d+)")
_FILE = re.compile(r"(?P<id>\d+) \((?P<path>[^)]*)\) .*\bcurr_ver=(?P<current>\d+) next_ver=(?P<next>\d+)")
_COLUMNS = (
    "be_name srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_check_state srv_agent_state "
    "srv_fqdn srv_port"
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


def read_servers_state(text: str, only: Iterable[str] | None = None) -> dict[str, dict[str, RunningServer]]:
    """Return backend → its servers in their order, from ``show servers state``; ``only``: the names that matter.

    A backend without servers is not listed. Raises ``UnknownAnswer``.
    """
    lines = text.split("\n")
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
        raise UnknownAnswer("show servers state")
    columns = lines[1][2:].split(" ")
    try:
        places = [columns.index(column) for column in _COLUMNS.split()]
    except ValueError:
        raise UnknownAnswer("show servers state") from None
    wanted = None if only is None else frozenset(only)
    found: dict[str, dict[str, RunningServer]] = {}
    for line in lines[2:]:
        if not line or line.startswith("#"):
            continue
        values = line.split(" ")
        if len(values) < len(columns):
            raise UnknownAnswer("show servers state")
        if wanted is not None and values[places[1]] not in wanted:
            continue
        backend, name, address, *rest, fqdn, port = [values[place] for place in places]
        try:
            operation, admin, weight, initial, check, agent, number = map(int, (*rest, port))
        except ValueError:
            raise UnknownAnswer("show servers state") from None
        name_of_host = "" if fqdn == "-" else fqdn
        server = RunningServer(name, address, number, admin, operation, weight, initial, check, agent, name_of_host)
        found.setdefault(backend, {})[name] = server
    return found


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


def read_certificates(text: str) -> dict[str, str]:
    """Return the files that ``show ssl cert`` lists, each with an empty fingerprint; transactions are left out."""
    return dict.fromkeys((line for line in text.split("\n") if line and line[0] not in "#*"), "")


def read_certificate(text: str) -> Mapping[str, str]:
    """Return the fields of ``show ssl cert FILE``; raises ``UnknownAnswer``."""
    fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
    if "SHA1 FingerPrint" not in fields or "Status" not in fields:
        raise UnknownAnswer("show ssl cert")
    return fields


def is_accepted(answer: str, accepts: Sequence[str]) -> bool:
    """Say whether an answer is one of those that are known: a whole one, or a beginning that ends with ``…``."""
    return any(answer.startswith(known[:-1]) if known.endswith("…") else answer == known for known in accepts)
