"""The views of the status: readiness, metrics, JSON, and what others may see of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from confpy.commands.status_text import plain, status_lines
from confpy.frozen import fields, replace
from confpy.status import endpoints as endpoints_module
from confpy.status import readiness as readiness_module
from confpy.status.endpoints import Endpoints
from confpy.status.inquiries import ALIVE, PATIENCE, Seen
from confpy.status.metrics import FAMILIES, FORK_FAMILIES, Metrics
from confpy.status.model import Cause, ReloadStatus, as_json
from confpy.status.page import Delivery, Shown
from confpy.status.readiness import ANSWERS, SOON, judge
from confpy.status.redaction import for_everybody, without_secrets
from confpy.status.request import Request
from tests.unit.status_examples import NOW, SECRET, failed, owed, resource, status, store
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "examples" / "monitoring"


class Asked:
    """Inquiries that answer at once."""

    def __init__(self, found, *, responds=True, age=0.0):
        self.seen = Seen(found, responds, age)
        self.wanted = []

    def want(self, wanted, done):
        self.wanted.append(wanted)
        done(self.seen)


def ask(path, found, *, responds=True, age=0.0, content=False, max_stale=0.0, etag="", additions=None):
    path, _, query = path.partition("?")
    asked = Asked(found, responds=responds, age=age)
    endpoints = Endpoints(asked, shows_content=content, max_stale=max_stale, additions=additions)
    answers = []
    endpoints.answer(Request(path, frozenset(query.split("&")) - {""}, etag=etag), answers.append)
    (answer,) = answers
    return answer


def body(path, found, **more):
    return ask(path, found, **more).body.decode()


# --- probes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/health"])
def test_health_is_whether_the_owner_answers_and_nothing_else(path):
    wrong = status(failed(), stores=(store(is_up=False),), is_started=False)
    answer = ask(path, wrong)
    assert (answer.code, answer.body) == (200, b"ok")
    answer = ask(path, wrong, responds=False, age=12)
    assert (answer.code, answer.body) == (503, b"the main thread of confpy has not answered for 12 s\n")
    assert ask(path, None, responds=False).code == 503


def test_readiness_once_reached_stays_whatever_fails_later():
    assert ask("/readyz", status(failed(), owed(), stores=(store(is_up=False),))).code == 200


def test_before_the_start_readiness_says_which_resources_are_not():
    answer = ask("/readyz", status(resource("a"), failed("b"), is_started=False))
    assert answer.code == 503
    assert "resource b: no such key" in answer.body.decode()
    assert "resource a" not in answer.body.decode()


def test_an_owner_that_does_not_answer_is_not_ready():
    assert ask("/readyz", status(resource()), responds=False).code == 503
    assert ask("/readyz", None, responds=True).code == 503


WRONG = {
    "an owed reload": status(owed()),
    "a reload that has been owed for a while": status(
        owed(cause="reload", command="x"),
        reloads=(ReloadStatus("x", ("haproxy",), NOW - SOON - 1, is_running=True),),
    ),
    "a resource that failed": status(failed()),
    "a resource that is held": status(resource(state="held", cause="keys suspect", why="gone", since=NOW - 1)),
    "a store that is away": status(resource(), stores=(store(is_up=False, error={"error": "refused"}),)),
    "a store that is silent": status(resource(), stores=(store(answered_at=NOW - ANSWERS - 1),)),
    "a delivery that hangs": status(
        resource(state="delivering", cause="delivery", since=NOW - 60, next_at=NOW - SOON - 1)
    ),
    "a resource that waits for ever": status(resource(state="waiting", cause="lookup", since=NOW - SOON - 1)),
    "a start that is not over": status(resource(), is_started=False),
}


@pytest.mark.parametrize("found", WRONG.values(), ids=WRONG)
def test_strict_readiness_is_false_while_something_is_wrong(found):
    answer = ask("/readyz?strict", found)
    assert answer.code == 503
    assert answer.body.startswith(b"not ready\n")


RIGHT = {
    "nothing to do": status(resource()),
    "a delivery under way": status(resource(state="delivering", cause="delivery", since=NOW - 1)),
    "a long check within its time": status(
        resource(state="delivering", cause="delivery", since=NOW - 25, next_at=NOW + 5)
    ),
    "a burst that settles": status(resource(state="waiting", cause="settle", since=NOW - 1, next_at=NOW + 1)),
    "a reload under way": status(
        resource(state="owed", cause="reload", since=NOW - 1, reload="x"),
        reloads=(ReloadStatus("x", ("haproxy",), NOW - 1, is_running=True),),
    ),
    "a store that answered of late": status(resource(), stores=(store(answered_at=NOW - ANSWERS + 1),)),
    "a store that nothing is read from": status(stores=(store(answered_at=0.0),)),
}


@pytest.mark.parametrize("found", RIGHT.values(), ids=RIGHT)
def test_strict_readiness_is_true_while_all_goes_its_way(found):
    assert ask("/readyz?strict", found).body == b"ok"


def test_with_max_stale_readiness_is_false_when_something_has_been_wrong_for_so_long():
    found = status(owed())  # for 75 s
    assert ask("/readyz", found, max_stale=76).code == 200
    answer = ask("/readyz", found, max_stale=75)
    assert (answer.code, b"resource haproxy" in answer.body) == (503, True)
    assert ask("/readyz?strict", found, max_stale=76).code == 503
    assert ask("/readyz", status(resource()), max_stale=1).code == 200


def test_what_is_wrong_is_known_within_ten_seconds():
    assert max(SOON, ANSWERS, ALIVE) + PATIENCE <= 10


def test_who_wants_to_know_of_trouble_has_the_stores_asked_and_nobody_else():
    for path, max_stale, asks in (("/readyz", 0, False), ("/readyz?strict", 0, True), ("/readyz", 9, True)):
        asked = Asked(status(resource()))
        endpoints = Endpoints(asked, shows_content=False, max_stale=max_stale)
        name, _, query = path.partition("?")
        endpoints.answer(Request(name, frozenset({query} - {""})), lambda _: None)
        assert asked.wanted[0].asks_stores is asks


def test_a_long_list_of_troubles_is_cut():
    found = body("/readyz?strict", status(*(failed(f"r{number:03}") for number in range(100))))
    assert found.count("\n") == 22
    assert found.endswith("and 80 more\n")


def test_the_fork_s_readiness_is_ours_and_its_details_are_json():
    assert ask("/ready", status(failed())).body == b"ok"
    assert ask("/ready", status(failed(), is_started=False)).code == 503
    answer = ask("/ready/detailed", status(resource(), stores=(store(is_up=False),)))
    found = json.loads(answer.body)
    assert (answer.code, found["healthy"], found["details"]) == (200, True, {"etcdv3": "away"})
    assert found["message"]
    assert found["duration_ms"] >= 0
    assert json.loads(ask("/ready/detailed", None, responds=False).body)["healthy"] is False


# --- metrics ---------------------------------------------------------------------------------------------------------


def measure(found, *, is_healthy=True):
    answer = Metrics().respond(found, judge(found), "", is_healthy=is_healthy)
    families = text_string_to_metric_families(answer.body.decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_gauges_stay_while_something_is_wrong():
    held = resource("c", state="held", cause="keys suspect", why="gone")
    found = measure(status(owed("a"), failed("b"), held, resource("d")))
    a, b, c, d = (("resource", name) for name in "abcd")
    for name, values in {
        "confpy_config_last_reload_successful": (0, 0, 0, 1),
        "confpy_reload_owed": (1, 0, 0, 0),
        "confpy_resource_failed": (0, 1, 0, 0),
    }.items():
        assert tuple(found[name, one] for one in (a, b, c, d)) == values
    assert found["confpy_reload_owed_since_seconds", a] == NOW - 75
    assert found["confpy_reload_failures", a] == 2
    assert found["confpy_held_back", ("reason", "keys suspect"), c] == 1
    assert found["confpy_config_last_reload_success_timestamp_seconds", a] == NOW - 3000
    assert found["confpy_resources", ("state", "failed")] == 1
    assert found["confpy_well",] == 0
    assert ("confpy_reload_owed_since_seconds", d) not in found


def test_what_was_counted_and_how_the_store_is():
    found = measure(status(resource()))
    etcd = ("store", "etcdv3")
    assert found["confpy_reloads_total", ("result", "success")] == 3
    assert found["confpy_reloads_total", ("result", "failure")] == 2
    assert found["confpy_commits_total",] == 5
    assert found["confpy_store_up", etcd] == 1
    assert found["confpy_store_last_success_timestamp_seconds", etcd] == NOW - 2
    assert found["confpy_store_resync_seconds", etcd] == 60
    assert found["confpy_build_info", ("version", "1.2.3")] == 1
    assert found["confpy_well",] == found["confpy_ready",] == found["confpy_healthy",] == 1
    assert found["confd_backend_healthy", ("backend", "etcdv3")] == 1
    assert found["confd_templates_loaded",] == 1
    assert found["confd_template_cache_hits_total",] == 8
    assert found["process_start_time_seconds",] > 0


def test_metrics_of_an_owner_that_does_not_answer_are_its_last_ones():
    answer = ask("/metrics", status(resource()), responds=False)
    assert answer.code == 200
    assert b"confpy_healthy 0.0\n" in answer.body
    assert b"confpy_well 0.0\n" in answer.body


def test_one_resource_in_two_owed_reloads_makes_one_sample():
    one = owed()
    two = (ReloadStatus("x", (one.name,), NOW - 9), ReloadStatus("y", (one.name,), NOW - 8))
    assert measure(status(one, reloads=two))["confpy_reload_owed_since_seconds", ("resource", "haproxy")] == NOW - 8


def test_no_label_has_anything_of_the_stores_nor_a_command():
    poisoned = replace(owed(), why=SECRET, digest=SECRET, group=SECRET)
    answer = ask("/metrics", status(poisoned, failed(why=SECRET, error={"error": SECRET, "key": SECRET})))
    assert SECRET.encode() not in answer.body
    labels = set(re.findall(r'[{,](\w+)="', answer.body.decode()))
    assert labels == {"version", "state", "resource", "result", "store", "backend"}


def test_a_name_with_quotes_and_newlines_stays_one_label():
    name = 'a"b\nc\\d'
    assert measure(status(resource(name)))["confpy_reload_owed", ("resource", name)] == 0


def test_openmetrics_is_spoken_to_who_asks_for_it():
    answer = Metrics().respond(
        status(), judge(status()), "application/openmetrics-text; version=1.0.0", is_healthy=True
    )
    assert answer.type.startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_where_prometheus_client_is_not_installed_metrics_say_so_and_all_else_is_answered(monkeypatch):
    monkeypatch.setitem(sys.modules, "confpy.status.metrics", None)
    answer = ask("/metrics", status())
    assert (answer.code, b"needs the Python package prometheus_client" in answer.body) == (500, True)
    assert ask("/healthz", status()).code == ask("/status", status()).code == 200


def test_the_node_that_answered_last_is_shown_with_those_that_are_set():
    several = store(nodes=("10.0.0.1", "10.0.0.2"), node="http://10.0.0.2:2379")
    found = status(stores=(several,))
    assert "http://10.0.0.2:2379, of 10.0.0.1, 10.0.0.2" in body("/", found)
    assert "http://10.0.0.2:2379, of 10.0.0.1, 10.0.0.2" in plain(status_lines(as_json(found)))
    assert json.loads(body("/status", found))["stores"][0]["node"] == "http://10.0.0.2:2379"
    only = status(stores=(store(nodes=("10.0.0.1",), node="http://10.0.0.1:2379"),))
    assert "  http://10.0.0.1:2379\n" in plain(status_lines(as_json(only)))
    by_dns = status(stores=(store(nodes=(), node="http://a:2379"),))
    assert "http://a:2379" in body("/", by_dns)
    assert "http://a:2379" in plain(status_lines(as_json(by_dns)))


EXPORTED = {
    *(f"{name}{'_total' if name in {'confpy_reloads', 'confpy_commits'} else ''}" for name in FAMILIES),
    "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total", "up",
}  # fmt: skip


def expressions():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]
    yield from re.findall(
        r"expr: (?:>-\n)?((?:.*\n(?= {10} )?)*?)(?= +for:)", (MONITORING / "confpy.rules.yml").read_text()
    )


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are():
    found = list(expressions())
    assert len(found) >= 20
    for expression in found:
        names = set(re.findall(r"\b(?:confpy|confd|process)_\w+", expression))
        assert names, expression
        assert names <= EXPORTED


def test_the_manual_lists_the_metrics_with_their_labels_and_meanings():
    rows = re.findall(
        r"^\| `(conf\w+?)(?:\{([\w, ]+)\})?` \| (.*) \|$", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE
    )
    listed = {name: (text, tuple(filter(None, labels.split(", ")))) for name, labels, text in rows}
    counters = {
        "confpy_reloads",
        "confpy_reloads_avoided",
        "confpy_commits",
        "confd_template_cache_hits",
        "confd_file_changed",
    }
    known = {f"{name}_total" if name in counters else name: row for name, row in {**FAMILIES, **FORK_FAMILIES}.items()}
    assert listed == known


# --- what others may see ---------------------------------------------------------------------------------------------

PATHS = ("/", "/view", "/status", "/metrics", "/readyz?strict", "/readyz", "/healthz", "/ready", "/ready/detailed")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_started", [True, False])
def test_over_tcp_neither_commands_nor_what_they_print_are_shown(path, is_started):
    found = poisoned(is_started=is_started)
    assert SECRET in str(as_json(found))
    assert SECRET not in body(path, found)


def poisoned(**more):
    one = replace(owed(), cause="reload", why=f"its reload runs: {SECRET}")
    printed = {"error": "the check failed", "output": SECRET, "command": SECRET, "answer": SECRET}
    return status(
        one,
        failed("a", cause="command", why=f"in use: check {SECRET}"),
        failed("b", cause="lookup", why=f"its template asks for file {SECRET}"),
        failed("c", cause="invalid file", why=SECRET, error={"error": SECRET, "file": "c.toml"}),
        failed("d", cause="first try", why=f"shares {SECRET}"),
        failed("e", error=printed),
        stores=(store(is_up=False, error={"error": "refused", "output": SECRET}),),
        **more,
    )


def test_on_a_socket_of_our_own_user_commands_and_what_they_print_are_shown():
    assert SECRET in body("/status", poisoned(), content=True)
    assert SECRET in body("/", poisoned(), content=True)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_check_of_a_sensitive_resource_printed_is_shown_nowhere(path):
    error = {"error": "the check failed", "output": SECRET}
    found = status(failed(sensitive=True, digest="", error=error))
    assert SECRET not in body(path, found, content=True)


def test_diffs_and_history_are_made_for_our_own_user_alone():
    def additions(_):
        return Shown(
            "", {"/etc/haproxy.cfg": (f"+{SECRET}",)}, (Delivery("haproxy", "/etc/haproxy.cfg", NOW, 1, SECRET),)
        )

    assert SECRET not in body("/", status(resource()), additions=additions)
    shown = body("/", status(resource()), additions=additions, content=True)
    assert shown.count(SECRET) == 2


def test_numbers_stand_for_commands_and_belong_together():
    seen = for_everybody(status(owed("a"), owed("b", command="second")))
    assert [one.command for one in seen.reloads] == ["#1", "#2"]
    assert [one.reload for one in seen.resources] == ["#1", "#2"]


def test_the_hash_of_what_not_everybody_may_read_is_shown_to_our_own_user_alone():
    found = status(resource("a"), resource("b", digest="ef" * 32, is_public=False))
    for path in ("/", "/status"):
        assert ("cdcd" in body(path, found), "efef" in body(path, found)) == (True, False)
        assert "efef" in body(path, found, content=True)


def test_the_places_of_an_error_are_shown_to_everybody():
    seen = for_everybody(status(failed()))
    assert seen.resources[0].error == failed().error


def test_what_is_shown_without_a_change_is_the_status_itself():
    found = status(resource(), owed())
    assert without_secrets(found) is found


def test_every_cause_whose_sentence_may_name_a_command_has_another_for_everybody():
    for cause in get_args(Cause):
        seen = for_everybody(status(failed(cause=cause, why="x"))).resources[0]
        assert seen.why


# --- what it costs ----------------------------------------------------------------------------------------------------


class Often:
    """Endpoints that are asked again and again, of a status that may change."""

    def __init__(self, found):
        self.asked = Asked(found)
        self.endpoints = Endpoints(self.asked, shows_content=False, max_stale=0.0)

    def get(self, path, *, etag="", accept=""):
        answers = []
        self.endpoints.answer(Request(path, frozenset(), etag=etag, accept=accept), answers.append)
        return answers[0]


@pytest.mark.parametrize("path", ["/", "/view", "/status", "/metrics"])
def test_what_was_made_of_a_status_is_used_for_all_who_ask(path):
    often = Often(status(resource()))
    first = often.get(path)
    assert all(often.get(path, accept=f"text/{number}") is first for number in range(50))
    assert len(often.endpoints._kept) <= 2
    often.asked.seen = Seen(status(failed()), responds=True)
    wait_until(lambda: often.get(path).body != first.body)
    often.asked.seen = Seen(often.asked.seen.status, responds=False)
    assert often.get(path) is not first


def test_what_takes_long_to_make_is_used_for_some_times_as_long(monkeypatch):
    often, now = Often(status(resource())), [0.0]
    monkeypatch.setattr(endpoints_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        endpoints_module, "as_json", lambda found: now.__setitem__(0, now[0] + 2.0) or {"now": found.now}
    )
    first = often.get("/status")
    for seconds, is_old in ((9.0, True), (0.9, True), (0.2, False)):
        now[0] += seconds
        often.asked.seen = Seen(replace(status(resource()), now=NOW + now[0]), responds=True)
        assert (often.get("/status") is first) == is_old


def test_who_has_the_view_is_told_so_and_who_has_another_gets_it():
    often = Often(status(resource()))
    view = often.get("/view")
    etag = view.headers["ETag"]
    often.asked.seen = Seen(replace(status(resource()), now=NOW + 1), responds=True)
    assert often.get("/view", etag=etag).code == 304
    other = often.get("/view", etag='"other"')
    assert (other.code, other.headers["ETag"], other.body[:8]) == (200, etag, view.body[:8])


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_the_status_is_json_with_every_field_and_whether_it_is_current():
    answer = ask("/status", status(owed()), content=True)
    found = json.loads(answer.body)
    assert answer.type == "application/json"
    assert {*fields(status())} <= found.keys()
    assert (found["is_healthy"], found["is_well"]) == (True, False)
    stale = ask("/status", status(owed()), responds=False)
    assert (stale.code, json.loads(stale.body)["is_healthy"]) == (503, False)


def test_there_is_nothing_elsewhere():
    for path in ("/x", "/../etc/passwd", "/page.py", "/view.html", "//", "/%2e%2e/", ""):
        assert ask(path, status()).code == 404
    assert ask("/favicon.ico", status()).code == 204


def test_a_bug_in_the_status_is_said_so():
    for path in ("/", "/view", "/status", "/metrics", "/readyz"):
        answer = ask(path, None)
        assert (answer.code, answer.body) == (503, b"there is no status: a bug in confpy, see its log\n")


def test_the_limits_are_read_when_they_are_used(monkeypatch):
    monkeypatch.setattr(readiness_module, "SOON", 1e9)
    assert judge(status(resource(state="waiting", cause="lookup", since=NOW - 60))).is_well
