"""What differs between two configurations of HAProxy: servers that can be followed, or a line that needs a reload."""

from __future__ import annotations

import pytest

from confpy.haproxy.compare import compare, is_configuration, whole
from confpy.haproxy.values import Difference, ReloadNeeded

PATH = "/etc/haproxy/haproxy.cfg"
BASE = """\
global
    maxconn 100
defaults
    mode http
    default-server inter 2s
frontend web
    bind :80
    default_backend app
backend app
    balance roundrobin
    option httpchk
    server a 10.0.0.1:80 check
    server b 10.0.0.2:80 check weight 20
backend other
    server x 10.0.1.1:80
"""


def after(old, new, base=BASE):
    assert old in base
    return compare({PATH: base.encode()}, {PATH: base.replace(old, new).encode()})


def changed(difference):
    assert isinstance(difference, Difference), difference
    return {
        f"{backend.name}/{(change.server or change.previous[0]).name}": change
        for backend in difference.backends
        for change in backend.changes
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    option httpchk\n", "    # a comment\n    option   'httpchk' # another\n\n"),
        ("global\n", "# one more line\nglobal\n"),
        ("maxconn 100", "maxconn\\x20100".replace("\\x20", "\t")),
        ("server a 10.0.0.1:80 check\n    server b 10.0.0.2:80 check weight 20",
         "server b 10.0.0.2:80 check weight 20\n    server a 10.0.0.1:80 check"),
    ],
)  # fmt: skip
def test_comments_spaces_quotes_and_the_order_of_servers_are_no_change(old, new):
    assert after(old, new) == Difference(files=(PATH,))


def test_a_new_server_has_what_it_inherits():
    change = changed(after("    server b", "    server c [2001:DB8::0:1]:8080 backup maxconn 7\n    server b"))["app/c"]
    server = change.server
    assert (server.address, server.port, server.words) == ("2001:db8::1", 8080, ("inter", "2s"))
    assert (server.is_backup, server.maxconn, change.previous) == (True, 7, ())


def test_a_removed_and_a_changed_server_are_told_apart():
    found = changed(after("server a 10.0.0.1:80 check\n", "server a 10.0.0.9:81 check weight 3\n"))
    assert [*found] == ["app/a"]
    assert (found["app/a"].server.address, found["app/a"].server.weight) == ("10.0.0.9", 3)
    found = changed(after("    server a 10.0.0.1:80 check\n", ""))
    assert found["app/a"].server is None


@pytest.mark.parametrize(
    ("old", "new", "why", "line"),
    [
        ("bind :80", "bind :81", "bind changed", 7),
        ("    option httpchk\n", "", "option removed", 9),
        ("option httpchk", "option httpchk\n    http-check send uri /up", "http-check added", 12),
        ("inter 2s", "inter 3s", "default-server changed", 5),
        ("backend other", "backend others", "backend removed", 0),
        ("backend other\n", "backend third\nbackend other\n", "backend added", 14),
        ("server x 10.0.1.1:80", "server x app.internal:80", "the address of a server is not an IP address", 15),
        ("server x 10.0.1.1:80", "server x 10.0.1.1:80 ssl", "the options of a server changed", 15),
        ("1.1:80", "1.1:80 source ::1 usesrc", "a server changed, and it has an option that is not known", 15),
        ("10.0.1.1:80", "10.0.1.1:80 frobnicate", "a server changed, and it has an option that is not known", 15),
        ("10.0.1.1:80", "10.0.1.1:80 weight 300", "a server changed, and its weight is not a number", 15),
        ("server x 10.0.1.1:80", "server x 10.0.1.1", "the address of a server changed its form", 15),
        ("10.0.1.1:80", "10.0.1.1:80\n    server x 10.0.1.2:80", "two servers of one name", 16),
        ("10.0.1.1:80\n", "10.0.1.2:80", "the last line does not end: HAProxy refuses such a file", 15),
        ("server x", "frobnicate\n    server y 10.9.9.9:1\n    server x", "a line added", 15),
        ("server x", "server 'y;show' 10.0.0.4:1\n    server x",
         "a server changed, and its name holds a character that is not sent", 15),
        ("    server x", "    server y 10.0.1.1:80 sni str(a;b)\n    server x",
         "a server changed, and sni holds a character that is not sent", 15),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_followed_names_its_line(old, new, why, line):
    needed = after(old, new)
    assert isinstance(needed, ReloadNeeded)
    assert (needed.why, needed.file, needed.line) == (why, PATH, line)


def test_servers_between_if_and_endif_are_not_followed():
    base = BASE.replace("server x 10.0.1.1:80", ".if defined(X)\n    server x 10.0.1.1:80\n    .endif")
    assert after("10.0.1.1", "10.0.1.2", base).why == "server changed"


def test_a_section_that_begins_in_a_condition_is_not_followed():
    base = BASE.replace("backend other\n", ".if defined(X)\nbackend other\n.endif\n")
    assert after("10.0.1.1", "10.0.1.2", base).why == "a server depends on .if"


def test_a_word_that_may_begin_a_section_of_a_newer_version_stops_the_plan():
    base = BASE.replace("    server x", "newsection it\n    server x")
    assert (
        after("10.0.1.1", "10.0.1.2", base).why
        == "a word at the beginning of a line is not known: it may begin a section"
    )


def test_the_order_of_backup_servers_counts():
    base = BASE + "    server y 10.0.1.2:80 backup\n    server z 10.0.1.3:80 backup\n"
    lines = "    server y 10.0.1.2:80 backup\n    server z 10.0.1.3:80 backup\n"
    swapped = "    server z 10.0.1.3:80 backup\n    server y 10.0.1.2:80 backup\n"
    assert after(lines, swapped, base).why == "the order of servers that are tried in turn changed"
    assert "other/w" in changed(after(lines, lines + "    server w 10.0.1.4:80 backup\n", base))


def test_named_defaults_are_followed():
    base = BASE.replace("backend other\n", "defaults d from base\n default-server fall 7\nbackend other from d\n")
    base = base.replace("defaults\n", "defaults base\n", 1)
    server = changed(after("10.0.1.1", "10.0.1.2", base))["other/x"].server
    assert server.words == ("fall", "7", "inter", "2s")


def test_a_server_template_stands_for_its_servers():
    base = BASE + "    server-template s 2 10.2.0.1:80 disabled\n"
    found = changed(after("server-template s 2", "server-template s 1-3", base))
    assert [*found] == ["other/s3"]
    assert found["other/s3"].server.is_disabled


def test_what_a_plan_that_was_begun_has_changed_is_compared_too():
    begun = BASE.replace("    server b", "    server c 10.0.0.3:80\n    server b")
    new = BASE.replace("10.0.1.1", "10.0.1.2")
    found = changed(compare({PATH: BASE.encode()}, {PATH: new.encode()}, {PATH: begun.encode()}))
    assert {name: change.server is None for name, change in found.items()} == {"app/c": True, "other/x": False}


def test_whole_names_all_servers_and_none_as_changed():
    found = changed(whole({PATH: BASE.encode()}))
    assert {name: change.is_asked for name, change in found.items()} == dict.fromkeys(
        ["app/a", "app/b", "other/x"], False
    )


def test_a_file_beside_the_configuration_is_data():
    assert is_configuration(b"# x\n\n  global # y\n")
    assert not is_configuration(b"# x\nexample.org app\n")
    old, new = {PATH: BASE.encode(), "/m": b"a b\n"}, {PATH: BASE.encode(), "/m": b"a c\n", "/n": b"d e\n"}
    difference = compare(old, new)
    assert [(one.path, one.old, one.new) for one in difference.data] == [
        ("/m", b"a b\n", b"a c\n"),
        ("/n", None, b"d e\n"),
    ]


def test_a_file_that_comes_or_goes_needs_a_reload():
    both = {PATH: BASE.encode(), "/b.cfg": b"backend z\n"}
    assert compare({PATH: BASE.encode()}, both).why == "a file of the configuration is new"
    gone = "a file of the configuration is gone, or begins with no section any more"
    assert compare(both, {PATH: BASE.encode()}).why == gone
