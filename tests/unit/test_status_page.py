"""The page for people: what it shows, that nothing in it can run, and that everybody can read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product

import pytest

from confpy.frozen import replace
from confpy.status.page import ASSETS, MOST_ROWS, STATES, Delivery, Page, Shown, ago, span, version
from tests.unit.status_examples import NOW, failed, owed, resource, status, store

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>'\"&{{ 7*7 }}"
PAGE = Page()


class Parsed(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.text = []
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "img", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def whole(found, shown=None):
    return PAGE.whole(found, shown or Shown("lb1")).body.decode()


def parse(found, shown=None):
    parsed = Parsed(whole(found, shown))
    assert parsed.open == []
    return parsed


def words(found, shown=None):
    return " ".join("".join(parse(found, shown).text).split())


def evil():
    error = {"error": EVIL, EVIL: EVIL}
    one = replace(resource(), name=EVIL, target=EVIL, group=EVIL, digest=EVIL)
    two = replace(owed(EVIL, command=EVIL), why=EVIL, error=error)
    three = failed(EVIL, why=EVIL, error=error)
    stores = (store(nodes=(EVIL, EVIL), node=EVIL, error=error, is_up=False, denied=(EVIL,)),)
    shown = Shown(EVIL, {EVIL: (f"+{EVIL}", f"-{EVIL}")}, (Delivery(EVIL, EVIL, NOW, 1, EVIL),), EVIL)
    return replace(status(one, two, three, stores=stores), confdir=EVIL, backend=EVIL, version=EVIL, mode=EVIL), shown


def test_nothing_that_a_value_holds_becomes_part_of_the_page():
    found, shown = evil()
    parsed = parse(found, shown)
    assert [one["src"] for one in parsed.all("script")] == ["/page.js"]
    assert parsed.all("img") == []
    assert not any(name.startswith("on") or name == "style" for _, attributes in parsed.elements for name in attributes)
    assert "".join(parsed.text).count(EVIL) > 10
    assert "49" not in whole(found, shown).replace(EVIL, "")


def test_a_value_with_characters_that_are_no_text_is_shown_all_the_same():
    found = status(failed("a\udcff\0\x1b[31m"))
    assert PAGE.whole(found, Shown("x")).body.decode()


def test_the_page_loads_nothing_from_elsewhere():
    plain = whole(status(owed()))
    addresses = [
        value
        for _, attributes in Parsed(plain).elements
        for name, value in attributes.items()
        if name in {"src", "href"}
    ]
    assert all(one.startswith(("/", "#")) and not one.startswith("//") for one in addresses)
    for name in ASSETS:
        source = PAGE.asset(name).body.decode()
        assert not re.search(r"https?://|//[a-z]|@import|url\(", re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE))


def test_the_page_has_no_script_and_no_style_of_its_own():
    text = whole(status(owed(), failed()))
    assert "<style" not in text
    assert re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL) == [""]


def test_the_page_is_whole_without_its_script():
    shown = Shown(
        "lb1",
        {"/etc/haproxy.cfg": ("-old", "+new")},
        (Delivery("haproxy", "/etc/haproxy.cfg", NOW - 75, 418, "2 keys"),),
    )
    found = words(status(owed(), resource("nginx", group="web")), shown)
    for part in (
        "1 of 2 resources needs attention", "haproxy /etc/haproxy.cfg ↻ owed", "1 min ago", "next look in 12 s",
        "its reload failed: the command failed with 7", "nginx in group web", "✓ current", "418", "-old +new",
        "Last deliveries", "2 keys", "http://10.0.0.1:2379", "✓ up", "/etc/confpy", "confpy 1.2.3", "process 4711",
    ):  # fmt: skip
        assert part in found, part


def test_what_needs_attention_comes_first():
    text = whole(status(resource("a"), owed("b"), resource("c", state="waiting", cause="settle"), failed("d")))
    places = [text.index(f'scope="row">{name}') for name in "dbca"]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("found", "title"),
    [
        (status(), "All is well: 0 resources"),
        (status(resource()), "All is well: 1 resource"),
        (status(resource("a"), failed("b"), failed("c")), "2 of 3 resources need attention"),
        (status(resource(), stores=(store(is_up=False, error={"error": "refused"}),)), "Store etcdv3: refused"),
    ],
)
def test_the_title_says_how_it_is(found, title):
    assert re.search("<title>(.*)</title>", whole(found)).group(1) == f"{title} – confpy lb1"


def test_a_daemon_that_does_not_answer_is_the_first_thing_that_is_said():
    answer = PAGE.whole(status(resource()), Shown("lb1", notice="the main thread has not answered for 9 s"))
    assert answer.code == 503
    assert b"confpy does not answer" in answer.body


def test_the_version_of_a_view_changes_with_what_is_shown_and_not_with_its_age():
    shown = Shown("lb1")
    first = version(status(resource()), shown)
    assert version(replace(status(resource()), now=NOW + 60), shown) == first
    assert version(status(failed()), shown) != first
    assert version(status(resource()), Shown("lb1", notice="frozen")) != first
    assert PAGE.view(status(resource()), shown).headers["ETag"] == first


def test_of_many_resources_those_that_need_attention_are_listed_and_the_others_counted():
    found = whole(status(*(resource(f"r{number:04}") for number in range(1000)), failed("z")))
    assert found.count('role="row"') < MOST_ROWS + 20
    assert "and 801 more, in" in found
    assert 'scope="row">z' in found


def test_every_state_has_a_tone_and_a_sign_of_its_own_beside_the_colour():
    from typing import get_args

    from confpy.status.model import State

    assert {*get_args(State), "up", "away"} == STATES.keys()
    assert all(sign.strip() for _, sign in STATES.values())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_799, "47 h"), (172_800, "2 d")],
)
def test_ages_are_short(seconds, text):
    assert span(seconds) == text
    assert ago(NOW - seconds, NOW) == f"{text} ago"
    assert ago(NOW + seconds + 1, NOW).startswith("in ")


# --- for everybody: what axe-core does not see, or needs a browser for, is in tests/e2e/test_status_page.py -----------

COLOURS = {"text", "soft", "link", "good", "busy", "warn", "bad"}


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def schemes():
    with (files("confpy.status") / "page.css").open() as file:
        blocks = re.findall(r":root \{(.*?)\}", file.read(), re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]


def test_every_text_has_enough_contrast_in_the_light_and_in_the_dark():
    light, dark = schemes()
    for scheme in (light, dark):
        for colour, ground in product(COLOURS, ("page", "raised")):
            assert contrast(scheme[colour], scheme[ground]) >= 4.5, (colour, ground)


def test_the_page_has_a_language_landmarks_headings_and_tables_with_headers():
    parsed = parse(status(owed(), failed()), Shown("lb1", {}, (Delivery("a", "/a", NOW, 1, "x"),)))
    assert parsed.all("html")[0]["lang"] == "en"
    assert {"header", "main", "footer"} <= {tag for tag, _ in parsed.elements}
    headings = [tag for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1", "h2", "h2", "h2", "h2", "h2"]
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len({*ids})
    assert all(one["aria-labelledby"] in ids for one in parsed.all("section"))
    assert {one["scope"] for one in parsed.all("th")} == {"col", "row"}
    assert all(one["href"].removeprefix("#") in ids for one in parsed.all("a") if one["href"].startswith("#"))
    assert "maximum-scale" not in str(parsed.all("meta"))
