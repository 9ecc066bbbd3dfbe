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
    r"(add server|del server|set server|set maxconn server|enable (health|agent)|disable (health|agent)"
    r"|prepare (map|acl)|add (map|acl)|commit (map|acl)|(new|set|commit|del) ssl cert|(add|del) ssl crt-list)"
    r"( [A-Za-z0-9_.:/\[\]@%+-]+)+"
)
"""The only commands that a plan may hold."""
PIECES = (
    b"\\", b'"', b"'", b"#", b"\r", b"\n", b"\t", b" ", b"\0", b"${A}", b"${.LINE}", b"\\x", b"\\x41", b";", b"\xff",
    b".if", b".endif", b".else", b"[scope]", b"server", b"server-template", b"default-server", b"backend ", b"listen ",
    b"defaults", b"disabled", b"no-check", b"check", b"backup", b"weight", b"maxconn", b"cookie", b"resolvers", b"id 7",
    b"10.0.0.1:80", b"localhost:80", b"::1:80", b"/run/x.sock", b":80", b"1-3", b"from", b"source 1.2.3.4 usesrc",
    b"\x0b", b"\x85", b"\xa0", b"\xc3\xa9", b"99999999999", b"-1", b"+80", b"${", b"global", b"balance source",
)  # fmt: skip
VERSIONS = ((2, 6), (3, 0), (3, 2), (3, 4))


def mutated(content: bytes, random: Random) -> bytes:
    """Return a content with a few mistakes in it."""
    text = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(text) + 1)
        kind = random.randrange(7)
        if kind == 0:
            text[at:at] = random.choice(PIECES)
        elif kind == 1:
            del text[at : at + random.choice((1, 1, 5, 40))]
        elif kind == 2 and at < len(text):
            text[at] = random.randrange(256)
        elif kind == 3:
            text[at : at + random.randrange(8)] = random.choice(PIECES)
        else:
            lines = bytes(text).split(b"\n")
            one, other = random.randrange(len(lines)), random.randrange(len(lines))
            if kind == 4:
                lines[one], lines[other] = lines[other], lines[one]
            elif kind == 5:
                lines.insert(one, lines[other])
            else:
                lines[one] += b" " + random.choice(PIECES)
            text = bytearray(b"\n".join(lines))
    return bytes(text)


def case(random: Random) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return two contents of one configuration: the second may have changed by right, by mistakes, or both."""
    make = SHAPES[random.choice(NAMES)]
    world = begin(random)
    old = make(world)[CONFIG].encode()
    new = make(change(world, random))[CONFIG].encode() if random.random() < 0.5 else old
    kind = random.randrange(3)
    if kind != 1:
        new = mutated(new, random)
    if kind == 1 or random.random() < 0.2:
        old = mutated(old, random)
    return {PATH: old}, {PATH: new}


NAMES = [name for name in SHAPES if name not in {"several_files", "mapped", "listed"}]


def running(difference: Difference, random: Random) -> Running:
    """Return a state in which a process may be: that of the files, or anything else."""
    found = {}
    for backend in difference.backends:
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
        assert "\n" not in difference.why
        return "reload"
    assert all(map(is_safe, (backend.name for backend in difference.backends)))
    for question in questions(difference):
        assert all(map(is_safe, question.split(" "))), question
    state = running(difference, random)
    plan = steps(difference, state, Process(random.choice(VERSIONS), 1, 1.0))
    unequal(difference, state)
    again = whole(new)
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
    from tests.haproxy_oracle import Proxy, Trial, is_valid

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
            trial = Trial.of(Proxy(program, folder / "a", {CONFIG: contents[0]}), program, folder)
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
