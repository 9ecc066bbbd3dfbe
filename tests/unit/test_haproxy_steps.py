"""Which commands make a running HAProxy equal to its files, by its state and version, and what is verified then."""

from __future__ import annotations

import pytest

from confpy.haproxy.answers import (
    UnknownAnswer,
    is_accepted,
    read_entries,
    read_files,
    read_fingerprint,
    read_help,
    read_info,
    read_lists,
    read_names,
    read_running,
    read_servers_state,
    split_answers,
)
from confpy.haproxy.commands import Unsafe, command
from confpy.haproxy.compare import compare, whole
from confpy.haproxy.steps import left_over, questions, steps
from confpy.haproxy.values import Difference, Left, Plan, Process, ReloadNeeded, Running
from confpy.haproxy.verify import unequal

PATH = "/etc/haproxy/haproxy.cfg"
HEAD = "defaults\n    mode http\n    default-server inter 2s\nbackend app\n"
COLUMNS = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)
V26, V30, V34 = Process((2, 6), 1, 5.0), Process((3, 0), 1, 5.0), Process((3, 4), 1, 5.0, frozenset({"inter", "check"}))


def line(name, address, port=80, *, up=2, admin=0, weight=1, first=None, check=0, agent=0):
    initial = weight if first is None else first
    return f"2 app 1 {name} {address} {up} {admin} {weight} {initial} 9 1 0 2 {check} {agent} 0 0 - {port} - 0 0 - - 0"


def state(*lines, backend="app", **more):
    text = "\n".join(["1", COLUMNS, *lines])
    return read_running({f"show servers state {backend}": text}, Running(**more))


def config(*servers, head=HEAD):
    return {PATH: (head + "".join(f"    server {one}\n" for one in servers)).encode()}


def texts(plan):
    assert isinstance(plan, Plan), plan
    return [one.text for one in plan.commands]


def plan(old, new, running, process=V30, left=(), *, head=HEAD):
    difference = compare(config(*old, head=head), config(*new, head=head))
    assert isinstance(difference, Difference), difference
    return steps(difference, running, process, left)


A = "a 10.0.0.1:80"
RUNNING = state(line("a", "10.0.0.1"), line("b", "10.0.0.2"))


def test_a_server_is_added_with_what_it_inherits_and_checked_before_it_is_ready():
    made = plan([A], [A, "c 10.0.0.3:80 check weight 5 maxconn 7"], state(line("a", "10.0.0.1")))
    assert texts(made) == [
        "add server app/c 10.0.0.3:80 inter 2s check weight 5 maxconn 7",
        "enable health app/c",
        "set server app/c state ready",
    ]
    assert made.summary == "+1"


def test_an_address_of_ipv6_is_sent_in_brackets():
    assert (
        texts(plan([A], [A, "c [2001:DB8::1]:80"], state(line("a", "10.0.0.1"))))[0].split(" ")[3] == "[2001:db8::1]:80"
    )


def test_before_3_0_no_server_is_added_and_one_that_goes_stays_in_maintenance():
    needed = plan([A], [A, "c 10.0.0.3:80"], state(line("a", "10.0.0.1")), V26)
    assert isinstance(needed, ReloadNeeded)
    assert "slots()" in needed.hint
    made = plan([A, "b 10.0.0.2:80"], [A], RUNNING, V26)
    assert texts(made) == ["set server app/b state maint"]
    assert [one.path for one in made.left] == ["app/b"]


def test_a_server_that_goes_is_removed_after_all_else_and_may_stay_while_it_has_connections():
    made = plan([A, "b 10.0.0.2:80"], ["a 10.0.0.9:80"], RUNNING)
    assert texts(made) == [
        "set server app/a state drain",
        "set server app/a addr 10.0.0.9 port 80",
        "wait 1ms",
        "set server app/a state ready",
        "set server app/b state maint",
        "del server app/b",
    ]
    assert made.commands[-1].leaves == Left("app", "b", ("inter", "2s"))
    assert is_accepted("Server still has connections attached to it, cannot remove it.", made.commands[-1].tolerates)
    assert made.summary == "-1 ~1"


def test_the_only_server_is_moved_without_a_moment_in_which_there_is_none():
    assert texts(plan([A], ["a 10.0.0.9:80"], state(line("a", "10.0.0.1")))) == [
        "set server app/a addr 10.0.0.9 port 80"
    ]


def test_a_server_that_is_down_begins_its_checks_anew_at_another_address():
    made = plan([f"{A} check"], ["a 10.0.0.9:80 check"], state(line("a", "10.0.0.1", up=0, check=6)))
    assert texts(made) == [
        "set server app/a state maint",
        "set server app/a addr 10.0.0.9 port 80",
        "wait 1ms",
        "set server app/a state ready",
    ]


@pytest.mark.parametrize(
    ("old", "new", "running", "sent"),
    [
        ("", " weight 9", {}, ["set server app/a weight 9"]),
        (" weight 9", "", {"weight": 9}, ["set server app/a weight 1"]),
        ("", " maxconn 9", {}, ["set maxconn server app/a 9"]),
        ("", " disabled", {}, ["set server app/a state maint"]),
        (" disabled", "", {"admin": 5, "up": 0}, ["set server app/a state ready"]),
        (" check", "", {"check": 6}, ["disable health app/a"]),
        (" check", "", {"check": 6, "up": 0}, ["disable health app/a", "set server app/a health up"]),
        ("", " check", {"check": 2}, ["enable health app/a"]),
        (" agent-check", "", {"agent": 4 + 2 + 16}, ["disable agent app/a"]),
        ("", " agent-check", {"agent": 2 + 16}, ["enable agent app/a"]),
        (" disabled", " disabled weight 3", {"admin": 5, "up": 0}, ["set server app/a weight 3"]),
        ("", " weight 9", {"weight": 9}, []),
        (
            " disabled", " disabled check", {"admin": 5, "up": 0, "check": 2},
            ["enable health app/a", "set server app/a state drain", "set server app/a state maint"],
        ),
    ],
)  # fmt: skip
def test_what_can_be_set_is_set_unless_it_is_so_already(old, new, running, sent):
    assert texts(plan([A + old], [A + new], state(line("a", "10.0.0.1", **running)), V26)) == sent


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("", " check", "a check that was not configured when HAProxy started"),
        ("", " agent-check", "an agent-check that was not configured when HAProxy started"),
        (" minconn 3 maxconn 9", " minconn 3 maxconn 8", "maxconn changed beside minconn"),
    ],
)
def test_what_cannot_be_set_needs_a_reload(old, new, why):
    assert plan([A + old], [A + new], state(line("a", "10.0.0.1"))).why == why


def test_an_option_that_is_not_taken_at_run_time_needs_a_reload():
    for process in (V30, V34):
        needed = plan([A], [A, "c 10.0.0.3:80 non-stick"], state(line("a", "10.0.0.1")), process)
        assert needed.why.startswith("non-stick is not taken at run time by HAProxy 3.")
    assert texts(plan([A], [A, "c 10.0.0.3:80 cookie c"], state(line("a", "10.0.0.1"))))[0].endswith(
        "cookie c inter 2s"
    )
    assert plan([A], [A, "c 10.0.0.3:80 cookie c"], state(line("a", "10.0.0.1")), V34).why.startswith("cookie")


def test_a_weight_is_not_set_where_the_algorithm_takes_none():
    head = HEAD + "    balance source\n"
    needed = plan([A], [A + " weight 4"], state(line("a", "10.0.0.1")), head=head)
    assert needed.why == "the weight of a server cannot be changed with this balance"
    assert texts(plan([A], ["a 10.0.0.9:80"], state(line("a", "10.0.0.1")), head=head))


def test_a_server_comes_back_from_maintenance_with_the_options_that_it_had():
    running = state(line("a", "10.0.0.1"), line("b", "10.0.0.2", up=0, admin=1))
    left = [Left("app", "b", ("inter", "2s"))]
    assert texts(plan([A], [A, "b 10.0.0.7:80"], running, V26, left)) == [
        "set server app/b addr 10.0.0.7 port 80",
        "set maxconn server app/b 0",
        "set server app/b state ready",
    ]
    assert (
        plan([A], [A, "b 10.0.0.7:80 ssl"], running, V26, left).why
        == "HAProxy before 3.0 adds and removes no servers safely"
    )
    made = plan([A], [A, "b 10.0.0.7:80 ssl"], running, V30, left)
    assert texts(made) == [
        "del server app/b",
        "add server app/b 10.0.0.7:80 inter 2s ssl",
        "set server app/b state ready",
    ]
    assert made.commands[0].tolerates == ()


def test_a_plan_that_was_cut_off_is_finished():
    old, new = config(A), config(A, "c 10.0.0.3:80 check")
    running = state(line("a", "10.0.0.1"), line("c", "10.0.0.3", up=0, admin=1, check=2))
    difference = compare(old, new, new)
    assert texts(steps(difference, running, V30)) == ["enable health app/c", "set server app/c state ready"]
    back = compare(old, old, new)
    assert texts(steps(back, running, V30)) == ["del server app/c"]


def test_a_repair_leaves_what_somebody_has_set_by_hand_and_says_so():
    difference = whole(config(A, "b 10.0.0.2:80 weight 9", "c 10.0.0.3:80", "d 10.0.0.4:80 disabled"))
    running = state(
        line("a", "10.0.0.1", admin=1, up=0),
        line("b", "10.0.0.2", weight=3, first=9),
        line("d", "10.0.0.4", admin=5, up=0),
        line("x", "10.0.0.9"),
    )
    made = steps(difference, running, V30)
    assert texts(made) == [
        "add server app/c 10.0.0.3:80 inter 2s",
        "set server app/c state ready",
        "set server app/x state maint",
        "del server app/x",
    ]
    assert made.by_hand == ("app/a",)
    assert unequal(difference, running) == ("app/c", "app/x")


def test_a_repair_sets_address_and_weight_that_the_process_has_not_read():
    difference = whole(config("a 10.0.0.1:80 weight 9"))
    running = state(line("a", "10.0.0.5", weight=3, first=4))
    assert texts(steps(difference, running, V26)) == [
        "set server app/a addr 10.0.0.1 port 80",
        "set server app/a weight 9",
    ]


def test_verification_names_what_differs():
    difference = compare(config(A, "b 10.0.0.2:80"), config("a 10.0.0.9:80", "c 10.0.0.3:80 check disabled"))
    assert unequal(difference, RUNNING) == ("app/a", "app/c", "app/b")
    good = state(line("a", "10.0.0.9"), line("c", "10.0.0.3", admin=5, check=14), line("b", "10.0.0.2", admin=1))
    assert unequal(difference, good) == ()
    late = state(
        line("a", "10.0.0.9", admin=8), line("c", "10.0.0.3", admin=5, check=2), line("b", "10.0.0.2", admin=1)
    )
    assert unequal(difference, late) == ("app/a", "app/c")


def test_the_order_of_servers_that_are_tried_in_turn_is_verified():
    backup = "    server y 10.0.1.1:80 backup\n"
    old, new = {PATH: (HEAD + backup).encode()}, {PATH: (HEAD + backup + backup.replace("y", "z")).encode()}
    difference = compare(old, new)
    assert unequal(difference, state(line("y", "10.0.1.1"), line("z", "10.0.1.1"))) == ()
    assert unequal(difference, state(line("z", "10.0.1.1"), line("y", "10.0.1.1"))) == ("app",)


def test_without_its_defaults_a_server_is_added_only_if_there_is_no_other_file():
    head = "backend app\n"
    difference = compare(config(A, head=head), config(A, "c 10.0.0.3:80", head=head))
    assert questions(difference) == ("show servers state app", "show env HAPROXY_CFGFILES")
    running = state(line("a", "10.0.0.1"))
    assert steps(difference, running, V30).why == "what it inherits may stand in another file"
    alone = read_running({"show env HAPROXY_CFGFILES": f"HAPROXY_CFGFILES={PATH}"}, running)
    assert texts(steps(difference, alone, V30))
    assert questions(difference, alone) == ()


def test_a_backend_that_the_process_does_not_have_needs_a_reload():
    difference = compare(config(A), config("a 10.0.0.9:80"))
    running = read_running({"show servers state app": "Can't find backend."}, Running())
    assert steps(difference, running, V30).why == "HAProxy has no servers in this backend"


def test_what_was_left_is_removed_when_it_is_idle():
    difference = left_over([Left("app", "b", ("inter", "2s"), is_backup=True)])
    assert questions(difference) == ("show servers state app",)
    made = steps(difference, state(line("b", "10.0.0.2", admin=1, up=0, agent=4)), V30)
    assert texts(made) == ["disable agent app/b", "del server app/b"]
    assert texts(steps(difference, state(line("a", "10.0.0.1")), V30)) == []


@pytest.mark.parametrize("word", ["a;b", "a b", "", "a\n", "ä", "a\\", "<<", "'a'", "a\0"])
def test_a_word_with_any_other_character_is_never_sent(word):
    with pytest.raises(Unsafe):
        command("set", "server", word)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_answers_of_one_connection_are_told_apart():
    text = "\nIP changed from 'a' to 'b' by 'stats socket command'\n\n\nNew server registered.\n\nno end\n"
    assert split_answers(text) == [
        "",
        "IP changed from 'a' to 'b' by 'stats socket command'",
        "",
        "New server registered.",
        "no end",
    ]


def test_only_known_answers_are_good():
    assert is_accepted("", ("",))
    assert not is_accepted("No such server.", ("",))
    assert is_accepted("IP changed from 'a'", ("IP changed from …",))
    assert is_accepted("Committing /a.pem..\nSuccess!", ("Committing /a.pem…Success!",))
    assert not is_accepted("Committing /a.pem..\nFailed!", ("Committing /a.pem…Success!",))


def test_the_process_is_read():
    text = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 42\nUptime_sec: 1.525\n"
    assert read_info(text) == Process((2, 6), 42, 1.525)
    for broken in ("", "Version: x\nPid: 1\nUptime_sec: 1\n", "Version: 3.0\nPid: one\nUptime_sec: 1\n"):
        with pytest.raises(UnknownAnswer):
            read_info(broken)
    assert read_help("List of keywords supported for dynamic server:\nalpn\nbackup\n") == {"alpn", "backup"}
    assert read_help("Require 'backend/server'.") is None
    assert read_files("HAPROXY_CFGFILES=/a.cfg;/b.cfg") == ("/a.cfg", "/b.cfg")
    assert read_files("Variable not found") == ()


@pytest.mark.parametrize(
    "text", ["", "Can't find backend.", "2\n# be_id be_name srv_id srv_name x", f"1\n{COLUMNS}\n2 app"]
)
def test_a_state_in_another_form_is_not_taken_for_one(text):
    with pytest.raises(UnknownAnswer):
        read_servers_state(text)


def test_a_server_in_another_form_is_found_when_it_is_looked_at():
    servers = read_servers_state(f"1\n{COLUMNS}\n{line('a', '10.0.0.1', 'x')}\n2 app 1 b 10.0.0.2 2\n")["app"]
    for name in servers:
        with pytest.raises(UnknownAnswer):
            servers[name]


def test_files_of_the_process_are_read():
    text = (
        "# id (file) description\n0 (/m.map) pattern loaded from file '/m.map'. curr_ver=1 next_ver=3 entry_cnt=4\n"
        "1 () acl 'path' file '/h.cfg' line 12. curr_ver=0 next_ver=0 entry_cnt=0\n"
    )
    assert read_lists(text) == {"/m.map": 4}
    assert read_entries("0x55 example.org app one\n0x56 c.org \n") == ("example.org app one", "c.org ")
    assert read_names("# filename\n*/t.pem\n/a.pem\n") == ("/a.pem",)
    assert read_names("Unknown command. Please enter one of …") == ()
    assert read_fingerprint("Filename: /a.pem\nStatus: Used\nSHA1 FingerPrint: AB12\n") == "AB12"
    assert read_fingerprint("Can't display the certificate: Not found!") == ""


# --- whole backends --------------------------------------------------------------------------------------------------

NAMED = "defaults base\n    mode http\n    default-server inter 2s\nbackend app from base\n"
OTHER = "backend more from base\n    server m 10.0.0.7:80 check\n"


def with_other(*contents, process=V34, running=None):
    old, new, *begun = ({PATH: text.encode()} for text in contents)
    difference = compare(old, new, *begun)
    assert isinstance(difference, Difference), difference
    return difference, steps(difference, running or state(line("a", "10.0.0.1")), process)


def test_from_3_4_on_a_backend_of_nothing_but_servers_comes_and_is_published_when_it_is_whole():
    difference, made = with_other(NAMED, NAMED + OTHER)
    assert texts(made) == [
        "add backend more from base mode http",
        "add server more/m 10.0.0.7:80 inter 2s check",
        "enable health more/m",
        "set server more/m state ready",
        "publish backend more",
    ]
    assert unequal(difference, Running()) == ("more",)
    row = line("m", "10.0.0.7", check=6).replace(" app ", " more ")
    there = state(row, backend="more")
    assert unequal(difference, there) == ()
    assert texts(with_other(NAMED, NAMED + OTHER, NAMED + OTHER, running=there)[1]) == ["publish backend more"]
    assert with_other(NAMED, NAMED + OTHER, process=V30)[1].why == "backend added"


def test_from_3_4_on_a_backend_of_nothing_but_servers_goes():
    row = line("m", "10.0.0.7", check=6).replace(" app ", " more ")
    there = state(row, backend="more")
    difference, made = with_other(NAMED + OTHER, NAMED, running=there)
    assert texts(made) == [
        "unpublish backend more",
        "set server more/m state maint",
        "del server more/m",
        "del backend more",
    ]
    assert is_accepted("Server more/m is going DOWN.\nBackend deleted.", made.commands[-1].accepts)
    assert unequal(difference, there) == ("more",)
    assert unequal(difference, Running()) == ()
    assert with_other(NAMED + OTHER, NAMED, process=V30, running=there)[1].why == "backend removed"


@pytest.mark.parametrize(
    "more", ["    option httpchk\n", "    .if defined(A)\n    .endif\n", "    stick-table type ip size 1k\n"]
)
def test_a_backend_with_lines_of_its_own_needs_a_reload(more):
    assert compare({PATH: NAMED.encode()}, {PATH: (NAMED + OTHER + more).encode()}).why == "backend added"
