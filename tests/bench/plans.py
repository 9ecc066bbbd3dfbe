"""What it takes to compare two large configurations of HAProxy, and to plan the commands for their difference."""

from __future__ import annotations

import statistics
import time

from confpy.haproxy.answers import read_running
from confpy.haproxy.compare import compare
from confpy.haproxy.steps import questions, steps
from confpy.haproxy.values import Difference, Plan, Process, Running
from tests.bench.bench import Bench, say

SERVERS = 5000
TURNS = 30
PATH = "/etc/haproxy/haproxy.cfg"
HEAD = "global\n    maxconn 1000\ndefaults\n    mode http\n    default-server inter 2s fall 3\nbackend web\n"
COLUMNS = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port"
)


def configuration(moved: int = -1) -> bytes:
    """Return a configuration of many servers, one of which may have another address."""
    lines = (f"    server web{at} {address(at, moved)}:8080 check weight 10\n" for at in range(SERVERS))
    return (HEAD + "".join(lines)).encode()


def address(at: int, moved: int = -1) -> str:
    return "10.99.0.1" if at == moved else f"10.0.{at // 250}.{at % 250 + 1}"


def measure_plans(bench: Bench) -> None:
    """Measure one changed server among many: both files parsed and compared, the state read, the commands made."""
    say("plans")
    rows = (f"3 web {at} web{at} {address(at)} 2 0 10 10 9 1 0 2 6 0 0 0 - 8080" for at in range(SERVERS))
    state = "\n".join(["1", f"# {COLUMNS}", *rows])
    old, new = {PATH: configuration()}, {PATH: configuration(moved=SERVERS // 2)}
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        difference = compare(old, new)
        assert isinstance(difference, Difference)
        running = read_running(dict.fromkeys(questions(difference), state), Running())
        plan = steps(difference, running, Process((3, 0), 1, 1.0))
        times.append(time.perf_counter() - began)
        assert isinstance(plan, Plan)
        assert plan.summary == "~1"
    bench.figures.add("haproxy.plan.wall", bench.own.name, statistics.median(times))
