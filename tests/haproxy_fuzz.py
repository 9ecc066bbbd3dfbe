"""Mutated configurations: no crash, no command that was not planned, no plan that HAProxy itself would contradict.

`python -m tests.haproxy_fuzz [--cases 1000000] [--seed 1] [--oracle 200] [PROGRAM]…` runs it for long.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

from confpy.haproxy.compare import compare, whole
from confpy.haproxy.steps import questions, steps
from confpy.haproxy.values import BackendChange, Difference, Plan, Process, ReloadNeeded, Running, RunningServer
from confpy.haproxy.verify import unequal
from confpy.haproxy.words import is_safe
from tests.haproxy_shapes import CONFIG, SHAPES, begin, change

PATH = "/etc/haproxy/haproxy.cfg"
SAFE = re.compile(
    r"((add|publish|unpublish|del) backend|(add|del|set|set maxconn) server|(enable|disable) (health|agent)"
    r"|prepare (map|acl)|add (map|acl)|commit (map|acl)|(new|set|commit|del) ssl cert|(add|del) ssl crt-list|wait)"
    r"( [A-Za-z0-9_.:/\[\]@%+-]+)+"
)
"""The only commands that a plan may hold."""
WHY = re.compile(r"[a-zA-Z.:,\\_ -]+[0-9]*[a-z ]*")
"""Words of ours and of HAProxy's: a reason holds nothing of a file that may be the value of a key."""
PIECES = (
    b"\\", b'"', b"'", b"#", b"\r", b"\n", b"\t", b" ", b"\0", b"${A}", b"${.LINE}", b"\\x", b"\\x41", b";", b"\xff",
    b".if", b".endif", b".else", b"[scope]", b"server", b"server-template", b"default-server", b"backend ", b"listen ",
    b"defaults", b"disabled", b"no-check", b"check", b"backup", b"weight", b"maxconn", b"cookie", b"resolvers", b"id 7",
    b"10.0.0.1:80", b"localhost:80", b"::1:80", b"/run/x.sock", b":80", b"1-3", b"from", b"source 1.2.3.4 usesrc",
    b"\x0b", b"\x85", b"\xa0", b"\xc3\xa9", b"99999999999", b"-1", b"+80", b"${", b"global", b"balance source",
)  # fmt: skip
VERSIONS = ((2, 6), (3, 0), (3, 2), (3, 4))


HARMLESS = (b"  ", b"\t", b" # more", b"\n# a line", b"\n", b"\n\n   ", b" \r", b" ''", b"#")
OPTIONS = (
    b" weight 7", b" maxconn 9", b" disabled", b" enabled", b" check", b" no-check", b" backup", b" inter 3s", b" id 7",
    b" cookie x", b" ssl verify none", b" 'weight' \"5\"", b" weight 3 weight 4", b" track app/n1", b" maxconn 1x",
)  # fmt: skip


def mutated(content: bytes, random: Random) -> bytes:
    """Return a content with a few mistakes in it, most of them in the lines of servers."""
    text = content
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        lines = text.split(b"\n")
        servers = [at for at, line in enumerate(lines) if b"server " in line]
        at = random.choice(servers) if servers and random.random() < 0.8 else random.randrange(len(lines))
        other = random.choice(servers) if servers else 0
        kind = random.randrange(10)
        if kind < 2:
            lines[at] += random.choice(HARMLESS)
        elif kind < 5:
            lines[at] += random.choice(OPTIONS)
        elif kind == 5:
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 6:
            lines.insert(at, lines[other])
        elif kind == 7:
            words = lines[at].split(b" ")
            words[random.randrange(len(words))] = random.choice(PIECES)
            lines[at] = b" ".join(words)
        else:
            line = bytearray(lines[at])
            place = random.randrange(len(line) + 1)
            line[place : place + random.choice((0, 0, 1, 3))] = (
                random.choice(PIECES) if kind == 8 else bytes([random.randrange(256)])
            )
            lines[at] = bytes(line)
        text = b"\n".join(lines)
    return text


@cache
def _pairs() -> list[tuple[bytes, bytes]]:
    """Return contents of all forms, each with what follows it."""
    random = Random(0)
    pairs = []
    for _ in range(40):
        for name in SHAPES:
            if name not in {"several_files", "mapped", "listed"}:
                world = begin(random)
                contents = [SHAPES[name](one)[CONFIG].encode() for one in (world, change(world, random))]
                pairs.append((contents[0], contents[1]))
    return pairs


def case(random: Random) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return two contents of one configuration: the second may have changed by right, by mistakes, or both."""
    old, new = random.choice(_pairs())
    if random.random() < 0.5:
        new = old
    kind = random.randrange(5)
    if kind != 1:
        new = mutated(new, random)
    if kind < 2:
        old = mutated(old, random)
    return {PATH: old}, {PATH: new}


def running(difference: Difference, random: Random) -> Running:
    """Return a state in which a process may be: that of the files, or anything else."""
    found = {}
    for backend in difference.backends:
        if random.random() < 0.9 - 0.4 * backend.is_new:
            found[backend.name] = dict(_servers(backend, random))
    return Running(servers=found, files=random.choice(((), (PATH,))))


def _servers(backend: BackendChange, random: Random):
    for one in backend.changes:
        server = one.previous[0] if one.previous else one.server
        assert server is not None
        if random.random() < (0.95 if one.previous else 0.1):
            admin = random.choice((0, 0, 0, 1, 5, 8))
            check = random.choice((0, 2, 6))
            operation = random.choice((0, 2, 2))
            yield (
                server.name,
                RunningServer(
                    server.name, server.address, server.port, admin, operation, server.weight, server.weight, check, 0
                ),
            )


def hold(old: dict[str, bytes], new: dict[str, bytes], random: Random) -> str:
    """Plan a change in any state and version, and fail for a command that may not be; returns what came of it."""
    difference = compare(old, new)
    if isinstance(difference, ReloadNeeded):
        assert WHY.fullmatch(difference.why), difference.why
        return "reload"
    assert all(map(is_safe, (backend.name for backend in difference.backends)))
    for question in questions(difference):
        assert all(map(is_safe, question.split(" "))), question
    state = running(difference, random)
    plan = steps(difference, state, Process(random.choice(VERSIONS), 1, 1.0))
    unequal(difference, state)
    again = whole(new) if random.random() < 0.2 else difference
    if isinstance(again, Difference):
        steps(again, running(again, random), Process(random.choice(VERSIONS), 1, 1.0))
    if isinstance(plan, ReloadNeeded):
        return "reload by version or state"
    for command in plan.commands:
        assert SAFE.fullmatch(command.text), command.text
    return "plan" if plan.commands else "nothing to do"


def main() -> None:
    """Run so many cases, and hand some of those that have a plan to HAProxy itself."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--cases", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--oracle", type=int, default=0)
    options.add_argument("programs", nargs="*")
    given = options.parse_args()
    random = Random(given.seed)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(given.cases):
        old, new = case(random)
        try:
            counts[hold(old, new, random)] += 1
        except BaseException:
            sys.stderr.write(f"case {number}: {old}\n{new}\n")
            raise
    took = time.monotonic() - began
    sys.stdout.write(f"{given.cases} cases in {took:.0f} s: {dict(counts)}\n")
    for program in given.programs:
        sys.stdout.write(f"{program}: {with_haproxy(program, given.oracle, given.seed)}\n")


def with_haproxy(program: str, number: int, seed: int) -> dict[str, int]:
    """Carry out so many plans for mutated files, and compare with a HAProxy that was started from the new file."""
    from tests.haproxy_oracle import Trial, is_valid

    random = Random(seed)
    counts: Counter[str] = Counter()
    while sum(counts.values()) < number:
        old, new = case(random)
        difference = compare(old, new)
        if isinstance(difference, ReloadNeeded) or old == new:
            continue
        folder = Path(tempfile.mkdtemp())
        try:
            contents = [content[PATH].decode("latin-1") for content in (old, new)]
            if not is_valid(program, folder, contents[0]):
                continue
            if not is_valid(program, folder, contents[1]):
                # A reload would be refused, and the plan is none; `check_cmd` finds such a file before.
                counts["HAProxy refuses the new file"] += 1
                continue
            trial = Trial(program, folder, {CONFIG: contents[0]})
            try:
                trial.follow({CONFIG: contents[1]})
            finally:
                trial.close()
            counts["equal after a plan" if trial.planned else "reloaded"] += 1
        except BaseException:
            sys.stderr.write(f"{old}\n{new}\n")
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return dict(counts)


__all__ = ["Plan", "case", "hold", "mutated", "with_haproxy"]


if __name__ == "__main__":
    main()
