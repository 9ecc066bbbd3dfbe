"""What tells whether a reload was taken: processes before and after it, and what HAProxy's master says. Pure."""

from __future__ import annotations

import pytest

from confpy.reload.haproxy import Master, read_processes, stage
from confpy.reload.verify import KINDS, Seen, state

OLD, NEW = frozenset({11, 12}), frozenset({21, 22})
NONE: frozenset[int] = frozenset()


@pytest.mark.parametrize(
    ("program", "now", "expected"),
    [
        ("nginx", {}, "gone"),
        ("nginx", {10: Seen(OLD, waits=True)}, "unchanged"),
        ("nginx", {10: Seen(OLD, waits=False)}, "busy"),
        ("nginx", {10: Seen(OLD | NEW, waits=False)}, "busy"),
        ("nginx", {10: Seen(OLD | NEW, OLD, waits=True)}, "taken"),
        ("nginx", {10: Seen(NEW, waits=True)}, "taken"),
        # 12 has crashed: the new one has the old configuration.
        ("nginx", {10: Seen(frozenset({11, 13}), waits=True)}, "busy"),
        ("nginx", {9: Seen(OLD, waits=True), 10: Seen(NEW, waits=True)}, "taken"),
        # A master that was not there before: it was started, or started anew.
        ("nginx", {20: Seen(NEW, waits=True)}, "taken"),
        ("nginx", {20: Seen(NONE, waits=True)}, "unchanged"),
        ("apache", {}, "gone"),
        ("apache", {10: Seen(OLD)}, "busy"),
        ("apache", {10: Seen(NONE)}, "busy"),
        ("apache", {10: Seen(OLD | NEW)}, "new workers"),
        ("apache", {10: Seen(NEW)}, "taken"),
        ("haproxy", {10: Seen(OLD, waits=True)}, "unchanged"),
        ("haproxy", {10: Seen(OLD | NEW, waits=True)}, "new workers"),
        # From 3.1 on a new worker is there before it has read its configuration; its master blocks signals till then.
        ("haproxy", {10: Seen(OLD | NEW, waits=False)}, "busy"),
        ("haproxy", {10: Seen(NEW, waits=True)}, "taken"),
    ],
)
def test_new_workers_tell_of_a_reload_that_was_taken(program, now, expected):
    before = {number: Seen(OLD, waits=True) for number in (9, 10) if number == 10 or number in now}
    assert state(before, now, KINDS[program]) == expected


V26 = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
24139           master          2 [failed: 1]   0d00h00m04s     2.6.12-1+deb12u4
# workers
24163           worker          1               0d00h00m04s     2.6.12-1+deb12u4
# old workers
24150           worker          2               0d00h00m04s     2.6.12-1+deb12u4
# programs
24151           hello           0               0d00h00m04s     -
"""
V24 = """\
#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>
1163            master          0               5               0d00h03m22s     2.4.0
# workers
1271            worker          1               0               0d00h00m00s     2.4.0
"""


def test_the_answer_to_show_proc_is_read():
    assert read_processes(V26) == Master(24139, 2, 1, frozenset({24163}))
    assert read_processes(V24) == Master(1163, 5, None, frozenset({1271}))
    assert read_processes("") is None
    assert read_processes("Unknown command. Please enter one of the following commands only :\nhelp") is None
    assert read_processes("#<PID> <type> <reloads>\n# workers\n") is None


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (Master(1, 4, 0, OLD), Master(1, 4, 0, OLD), "not begun"),
        (Master(1, 4, 1, OLD), Master(1, 4, 1, OLD), "not begun"),
        (Master(1, 4, 0, OLD), Master(1, 5, 1, OLD), "failed"),
        (Master(1, 4, 1, OLD), Master(1, 5, 2, OLD), "failed"),
        (Master(1, 4, 1, OLD), Master(1, 5, 0, NEW), NEW),
        (Master(1, 4, 0, OLD), Master(1, 5, 0, NONE), "loading"),
        (Master(1, 4, None, OLD), Master(1, 5, None, OLD), "failed"),
        (Master(1, 4, None, OLD), Master(1, 5, None, NEW), NEW),
        # It was started anew, or was not there before.
        (Master(1, 4, 0, OLD), Master(2, 0, 0, NEW), NEW),
        (None, Master(2, 0, 0, NEW), NEW),
        (None, Master(2, 1, 1, OLD), "failed"),
    ],
)
def test_a_master_tells_how_its_reload_ended(before, now, expected):
    assert stage(before, now) == expected
