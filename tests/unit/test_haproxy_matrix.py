"""The page with all kinds of changes of HAProxy's files and what each version can follow is what the planner says.

``python -m tests.unit.test_haproxy_matrix`` writes its table anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from confpy.haproxy.compare import compare, whole
from confpy.haproxy.entries import read_list, read_map
from confpy.haproxy.steps import steps
from confpy.haproxy.values import Difference, Process, ReloadNeeded, Running, RunningServer
from tests.generated import with_part

PAGE = Path(__file__).parents[2] / "docs" / "haproxy-changes.md"
CONFIG, MAP, LIST, PEM, CRT_LIST = "/h.cfg", "/hosts.map", "/blocked.acl", "/site.pem", "/crt-list"
VERSIONS = ((2, 6), (3, 0), (3, 2), (3, 4))
GLOBAL = "global\n    maxconn 100\n"
DEFAULTS = "defaults base\n    mode http\n    default-server inter 2s\n"
FRONTEND = "frontend web\n    bind :80\n    default_backend app\n"
BACKEND = (
    "backend app\n    balance roundrobin\n    server a 10.0.0.1:80 check weight 10\n    server b 10.0.0.2:80 check\n"
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


class Row(NamedTuple):
    change: str
    old: str
    new: str
    balance: str = "roundrobin"
    file: str = CONFIG
    more: str = ""
    """Lines of the backend before its servers."""


def servers(change: str, old: str, new: str, **more: str) -> Row:
    return Row(change, f"    server {old}\n" if old else "", f"    server {new}\n" if new else "", **more)


ROWS = (
    "Servers of a backend or a `listen`",
    servers("added", "", "c 10.0.0.3:80 check"),
    servers("removed", "c 10.0.0.3:80 check", ""),
    servers("another IP address or port", "c 10.0.0.3:80 check", "c 10.0.0.4:81 check"),
    servers("another `weight`", "c 10.0.0.3:80", "c 10.0.0.3:80 weight 20"),
    servers("`weight 0`: no new clients", "c 10.0.0.3:80", "c 10.0.0.3:80 weight 0"),
    servers("another `maxconn`", "c 10.0.0.3:80", "c 10.0.0.3:80 maxconn 20"),
    servers(
        "another `maxconn` beside a `minconn`", "c 10.0.0.3:80 minconn 2 maxconn 9", "c 10.0.0.3:80 minconn 2 maxconn 8"
    ),
    servers("`disabled` comes or goes", "c 10.0.0.3:80", "c 10.0.0.3:80 disabled"),
    servers("`check` goes", "c 10.0.0.3:80 check", "c 10.0.0.3:80"),
    servers("`check` comes, and was not there when HAProxy started", "c 10.0.0.3:80", "c 10.0.0.3:80 check"),
    servers("`agent-check` goes", "c 10.0.0.3:80 agent-check agent-port 9", "c 10.0.0.3:80 agent-port 9"),
    servers("another option (`ssl`, `inter`, `cookie`, …)", "c 10.0.0.3:80", "c 10.0.0.3:80 ssl"),
    servers("another address, with any options", "c 10.0.0.3:80 sni str(x)", "c 10.0.0.4:80 sni str(x)"),
    servers("added with `cookie`", "", "c 10.0.0.3:80 cookie c"),
    servers("added with `init-state`", "", "c 10.0.0.3:80 init-state fully-down"),
    servers("added with `ssl`, `verify`, `send-proxy`, …", "", "c 10.0.0.3:80 ssl verify none send-proxy"),
    servers("added with `resolvers` or `init-addr` and an IP address", "", "c 10.0.0.3:80 resolvers r init-addr none"),
    servers("added with `non-stick`, `namespace`, `redir`, …", "", "c 10.0.0.3:80 non-stick"),
    servers("with a host name as its address, added or changed", "", "c app.internal:80"),
    servers("with a variable of the environment as its address", 'c "${A}":80', 'c "${B}":80'),
    servers("another name", "c 10.0.0.3:80", "d 10.0.0.3:80"),
    Row(
        "their order",
        BACKEND.split("roundrobin\n")[1],
        "".join(reversed(BACKEND.split("roundrobin\n")[1].splitlines(True))),
    ),
    servers(
        "a `backup` server added after the others",
        "c 10.0.0.3:80 backup",
        "c 10.0.0.3:80 backup\n    server d 10.0.0.4:80 backup",
    ),
    servers(
        "a `backup` server added before another",
        "c 10.0.0.3:80 backup",
        "d 10.0.0.4:80 backup\n    server c 10.0.0.3:80 backup",
    ),
    Row(
        "the number of a `server-template`",
        "    server-template t 3 10.0.0.9:80\n",
        "    server-template t 4 10.0.0.9:80\n",
    ),
    "By the algorithm of the backend",
    servers("`leastconn`, `random`: added or removed", "", "c 10.0.0.3:80", balance="leastconn"),
    servers("`source`, `uri`, `hdr`, …: added or removed", "", "c 10.0.0.3:80", balance="source"),
    servers(
        "`source`, `uri`, `hdr`, …: another address, `disabled`",
        "c 10.0.0.3:80",
        "c 10.0.0.4:80 disabled",
        balance="source",
    ),
    servers("`source`, `uri`, `hdr`, …: another `weight`", "c 10.0.0.3:80", "c 10.0.0.3:80 weight 3", balance="source"),
    servers(
        "the same with `hash-type consistent`: another `weight`",
        "c 10.0.0.3:80",
        "c 10.0.0.3:80 weight 3",
        balance="uri",
        more="    hash-type consistent\n",
    ),
    servers(
        "the same with `hash-type consistent`: added",
        "",
        "c 10.0.0.3:80",
        balance="uri",
        more="    hash-type consistent\n",
    ),
    servers(
        "the same, each server with `hash-key addr`: added",
        "c 10.0.0.3:80",
        "c 10.0.0.3:80\n    server d 10.0.0.4:80",
        balance="uri",
        more="    hash-type consistent\n    default-server hash-key addr\n",
    ),
    servers("`first`: added or removed", "", "c 10.0.0.3:80", balance="first"),
    "Files that HAProxy has read",
    Row("a map: any entry", "a.example app\n", "a.example web\nb.example app\n", file=MAP),
    Row("a map: an entry without a value", "a.example app\n", "a.example app\nb.example\n", file=MAP),
    Row("a file of an ACL (`-f`): any entry", "10.0.0.0/8\n", "10.0.0.0/8\n192.168.0.0/16\n", file=LIST),
    Row("a file of an ACL: an entry with spaces or other characters", "/a\n", "/a;b\n", file=LIST),
    Row("a certificate and its key", CERTIFICATE.format("QUJD"), CERTIFICATE.format("QUJE"), file=PEM),
    Row(
        "a `crt-list`: a line added at its end, or removed",
        "/site.pem\n",
        "/site.pem\n/site.pem b.example\n",
        file=CRT_LIST,
    ),
    Row(
        "a `crt-list`: its first line, its order, the options of a line",
        "/site.pem [alpn h2]\n",
        "/site.pem\n",
        file=CRT_LIST,
    ),
    Row("any other file, such as Lua or an error page", "a\n", "b\n", file="/other"),
    "Everything else",
    Row("comments, spaces, quotes, blank lines", GLOBAL, "# a comment\n\nglobal\n    'maxconn'   100\n"),
    Row("`global`, `defaults`, `default-server`", "maxconn 100", "maxconn 200"),
    Row("`bind`, rules, timeouts, options", "bind :80", "bind :81"),
    Row(
        "a server of a section that begins or ends with `.if`",
        "    .if defined(A)\n    server c 10.0.0.3:80\n    .endif\n",
        "    .if defined(A)\n    server c 10.0.0.4:80\n    .endif\n",
    ),
    Row(
        "a `backend NAME from DEFAULTS` of nothing but servers comes or goes",
        "",
        "backend other from base\n    server a 10.0.0.1:80\n",
    ),
    Row("any other `backend`, `frontend` or `listen` comes or goes", "", "backend other\n    server a 10.0.0.1:80\n"),
)


def contents(row: Row) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files before and after a change."""
    base = GLOBAL + DEFAULTS + FRONTEND + BACKEND.replace("roundrobin\n", f"{row.balance}\n{row.more}")
    files = {CONFIG: base, MAP: "a b\n", LIST: "10.0.0.0/8\n", PEM: CERTIFICATE.format("QUJD"), CRT_LIST: "/site.pem\n"}
    if row.file != CONFIG:
        both = ({**files, row.file: row.old}, {**files, row.file: row.new})
    elif row.old and row.old in base:
        both = (files, {**files, CONFIG: base.replace(row.old, row.new)})
    else:
        both = ({**files, CONFIG: base + row.old}, {**files, CONFIG: base + row.new})
    old, new = ({path: text.encode() for path, text in each.items()} for each in both)
    return old, new


def running(files: dict[str, bytes]) -> Running:
    """Return the state of a process that has read files."""
    difference = whole(files)
    assert isinstance(difference, Difference)
    found = {}
    for backend in difference.backends:
        one = [change.server for change in backend.changes if change.server is not None]
        found[backend.name] = {
            it.name: RunningServer(
                it.name,
                it.address,
                it.port,
                5 * it.is_disabled,
                2,
                it.weight,
                it.weight,
                6 * it.is_checked,
                6 * it.has_agent,
            )
            for it in one
        }
    lines = [line for line in files[CRT_LIST].decode().split("\n") if line]
    return Running(
        servers=found,
        maps={MAP: 1},
        acls={LIST: 1},
        entries={MAP: read_map(files[MAP]), LIST: read_list(files[LIST])},
        certificates={PEM: ""},
        lists={CRT_LIST: tuple(line.replace("/site.pem", f"/site.pem:{at}") for at, line in enumerate(lines, 1))},
    )


def cell(row: Row, version: tuple[int, int]) -> tuple[str, str]:
    """Return what a version does for a change, and why it has to reload."""
    old, new = contents(row)
    difference = compare(old, new)
    if isinstance(difference, ReloadNeeded):
        return "reload", difference.why
    made = steps(difference, running(old), Process(version, 1, 1.0))
    if isinstance(made, ReloadNeeded):
        return "reload", made.why
    left = any(one.name == "c" for one in made.left)
    return "maintenance" if left else "plan" if made.commands else "nothing to do", ""


def table() -> str:
    names = [".".join(map(str, version)) for version in VERSIONS]
    lines = [f"| Change | {' | '.join(names)} | Why a reload |", f"|---|{'---|' * len(names)}---|"]
    for row in ROWS:
        if isinstance(row, str):
            lines.append(f"| **{row}** |{' |' * (len(names) + 1)}")
            continue
        cells = [cell(row, version) for version in VERSIONS]
        why = next((why for _, why in reversed(cells) if why), "")
        lines.append(f"| {row.change} | {' | '.join(what for what, _ in cells)} | {why} |")
    return "\n".join(lines)


def regenerated(text: str) -> str:
    return with_part(text, "changes", table())


def test_the_page_of_changes_is_what_the_planner_says():
    text = PAGE.read_text(encoding="utf-8")
    assert regenerated(text) == text, "python -m tests.unit.test_haproxy_matrix writes it anew"


def test_what_is_followed_in_one_version_is_followed_in_the_next():
    followed = {"plan", "maintenance", "nothing to do"}
    for row in ROWS:
        if isinstance(row, Row):
            cells = [cell(row, version)[0] in followed for version in VERSIONS]
            assert cells == sorted(cells), row.change


if __name__ == "__main__":
    PAGE.write_text(regenerated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
