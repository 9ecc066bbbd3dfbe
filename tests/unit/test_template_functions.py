"""confd's functions give confd's results; the vectors are what its binary printed."""

from __future__ import annotations

import json
import random
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.errors import KeyMissing, TemplateError
from confpy.templates import functions
from confpy.templates.lookup import Lookup
from confpy.templates.registry import FUNCTIONS
from confpy.templates.results import Service
from tests.rendering import rendered, text

KEYS = {
    "/k": "v", "/kx": "x", "/e": "", "/dup/a": "2", "/dup/b": "1", "/dup/c": "2",
    "/obj": '{"z":1,"a":[1],"m":null,"t":true}', "/list": '["x",{"p":8080},1e6]',
}  # fmt: skip

VECTORS = [
    ('split("a,b,,c", ",")', ["a", "b", "", "c"]),
    ('split("", ",")', [""]),
    ('split("abc", "")', ["a", "b", "c"]),
    ('join(split("c,a,b", ","), "-")', "c-a-b"),
    ('toUpper("aß")', "Aß"),
    ('toUpper("ᾳ")', "ᾼ"),
    ('toLower("İΣ")', "iσ"),
    ('contains("abc", "")', True),
    ('contains("abc", "d")', False),
    ('replace("aaa", "a", "b", 2)', "bba"),
    ('replace("aaa", "a", "b", 0)', "aaa"),
    ('replace("aaa", "a", "b", -1)', "bbb"),
    ('replace("ab", "", "-", -1)', "-a-b-"),
    ('trimSuffix("a.conf.conf", ".conf")', "a.conf"),
    (r'base64Decode("aG\nVsbG8=")', "hello"),
    ('base64Encode("hello")', "aGVsbG8="),
    ("seq(3, 5)", [3, 4, 5]),
    ("seq(5, 3)", []),
    ("seq(2, 2)", [2]),
    ("add(2, 3)", 5),
    ("sub(2, 3)", -1),
    ("mul(2, 3)", 6),
    ("div(-7, 2)", -3),
    ("div(7, -2)", -3),
    ("div(-7, -2)", 3),
    ("mod(-7, 2)", -1),
    ("mod(7, -2)", 1),
    ('atoi("+7")', 7),
    ('atoi("-07")', -7),
    ('atoi("9223372036854775807")', 2**63 - 1),
    ('parseBool("T")', True),
    ('parseBool("0")', False),
    ('sortByLength(split("ccc,bb,a,dd,éé", ","))', ["a", "bb", "dd", "ccc", "éé"]),
    ('sortKVByLength(gets("/k*"))', [["/k", "v"], ["/kx", "x"]]),
    ('reverse(split("a,b", ","))', ["b", "a"]),
    ('getenv("EMPTY", "d")', "d"),
    ('getenv("NONE")', ""),
    ('getenv("SET", "d")', "s"),
    ('getv("/none", "")', ""),
    ('getv("/none", "a", "b")', "a"),
    ('getv("/e", "d")', ""),
    ('get("/k").value', "v"),
    ('gets("/k*")', [["/k", "v"], ["/kx", "x"]]),
    ('gets("/none/*")', []),
    ('getvs("/dup/*")', ["1", "2", "2"]),
    ('ls("/dup")', ["a", "b", "c"]),
    ('lsdir("/dup")', []),
    ('exists("/k")', True),
    ('exists("/dup")', False),
    ('base("/a/b/")', "b"),
    ('base("")', "."),
    ('base("///")', "/"),
    ('dir("/a/b/")', "/a/b"),
    ('dir("/a/b")', "/a"),
    ('dir("a")', "."),
    ('dir("/a")', "/"),
    ('dir("//a/../b/c")', "/b"),
    ('lookupIP("nope.invalid")', []),
    ('lookupIP("two.test")', ["10.0.0.10", "10.0.0.9", "fd00::1"]),
    ('lookupIPV4("two.test")', ["10.0.0.10", "10.0.0.9"]),
    ('lookupIPV6("two.test")', ["fd00::1"]),
    ('lookupIP("10.1.2.3")', ["10.1.2.3"]),
    ('lookupIP("0:0::1")', ["::1"]),
    ('lookupIP("::ffff:10.1.2.3")', ["10.1.2.3"]),
    ('lookupIP("")', []),
    ('lookupSRV("http", "tcp", "web.test")', [["a.test.", 80, 1, 2]]),
    ('lookupSRV("", "", "none.test")', []),
    ('fileExists("/there")', True),
    ('map("a", 1, "b", "x")', {"a": 1, "b": "x"}),
    ('json(getv("/obj"))', {"z": 1, "a": [1], "m": None, "t": True}),
    ('json("null")', {}),
    ('jsonArray(getv("/list"))', ["x", {"p": 8080}, 1000000]),
    ('jsonArray("null")', []),
    ('json(\'{"a":1,"a":2}\').a', 2),
]

FACTS = {
    Lookup("ip", "nope.invalid"): TemplateError("no such name"),
    Lookup("ip", "two.test"): ("10.0.0.10", "10.0.0.9", "fd00::1"),
    Lookup("srv", "_http._tcp.web.test"): (Service("a.test.", 80, 1, 2),),
    Lookup("srv", "none.test"): TemplateError("no such name"),
    Lookup("exists", "/there"): True,
}
ENVIRON = {"EMPTY": "", "SET": "s"}


def value(expression: str, **more):
    return json.loads(text("{{ to_json(" + expression + ") }}", KEYS, environ=ENVIRON, facts=FACTS, **more))


@pytest.mark.parametrize(("expression", "expected"), VECTORS)
def test_confds_functions_give_confds_results(expression, expected):
    assert value(expression) == expected


@pytest.mark.parametrize(("expression", "expected"), VECTORS)
def test_the_sandbox_gives_the_same_results(expression, expected):
    assert value(expression, sandbox=True) == expected


@pytest.mark.parametrize(("alias", "name"), [(alias, row.name) for row in FUNCTIONS for alias in row.aliases])
def test_an_alias_is_the_same_function(alias, name):
    assert text("{{ " + alias + " == " + name + " }}") == "true"


def test_every_function_of_confd_has_a_name_with_underscores_and_its_own_in_jinja():
    of_confd = [row for row in FUNCTIONS if row.origin == "confd"]
    assert [row.name for row in of_confd if row.name != row.name.lower()] == []
    assert [row.go_name for row in of_confd if row.go_name not in row.names] == []


REFUSED = [
    ('atoi(" 7")', "not an integer"),
    ('atoi("1_000")', "not an integer"),
    ('atoi("")', "not an integer"),
    ('atoi("٣")', "not an integer"),
    ('atoi("9223372036854775808")', "not an integer"),
    ('atoi("9" * 5000)', "not an integer"),
    ('parseBool("yes")', "not a boolean"),
    ('base64Decode("aGVsbG8")', "not base64"),
    ('base64Decode("aGV sbG8=")', "not base64"),
    ('base64Decode("é")', "not base64"),
    ('map("a")', "even number"),
    ("map(1, 2)", "keys of a map are texts"),
    ("mod(1, 0)", "division by zero"),
    ("div(1, 0)", "division by zero"),
    ('gets("[")', "pattern"),
    ('join([1], "-")', "list of texts"),
    ('join("abc", "-")', "list of texts"),
    ("sortByLength([[1]])", "text is needed"),
    ('add("1", 2)', "an integer is needed"),
    ("add(true, 2)", "an integer is needed"),
    ('json("[]")', "not an object"),
    ('json("{} x")', "not JSON: Extra data"),
    ('json("{\\"a\\": NaN}")', "not JSON"),
    ('json("{\\"a\\": 1e400}")', "a number that is none"),
    ('json("[" * 100000)', "nested too deeply"),
    ('jsonArray("{}")', "not an array"),
    ("seq(1, 100000000)", "more than 1000000"),
    ("toUpper([])", "text is needed here, not list"),
    ('fileExists("/hangs")', "no answer"),
    ('regex_match("a", "(")', "malformed"),
    ('regex_replace("a", "a", "\\\\1")', "group"),
    ('from_yaml("a: [")', "not YAML: line 1"),
    ('from_toml("a = ")', "not TOML"),
    ("to_toml([1])", "only a dictionary"),
    ('to_toml({"a": none})', "no null"),
    ("to_json({(1, 2): 1})", "cannot be written as JSON"),
    ("to_json(datetime())", "datetime cannot be written"),
    ("to_yaml(datetime)", "cannot be written as YAML"),
    ('required("", "set /name")', "set /name"),
    ('required(nothing, "set /name")', "set /name"),
    ('fail("no luck")', "no luck"),
    ('int_range("70000", 1, 65535)', "not an integer from 1 to 65535"),
    ("int_range(true, 0, 5)", "not an integer from 0 to 5"),
    ('one_of("x", "a", "b")', "not one of a, b"),
    ('hostport("a b", 80)', "not an address"),
    ('parse_hostport("::1:80")', "not an address"),
]


@pytest.mark.parametrize(("expression", "message"), REFUSED)
def test_what_a_function_cannot_take_is_an_error_of_the_template(expression, message):
    facts = {Lookup("exists", "/hangs"): TemplateError("no answer within 5 s")}
    with pytest.raises(TemplateError, match=message) as caught:
        text("\n{{ " + expression + " }}", KEYS, facts=facts)
    assert caught.value.where["line"] == 2
    assert caught.value.where["resource"] == "web"


MORE = [
    ('"/a/b" | base', "b"),
    ('"/k" | getv', "v"),
    ('"x-y" | to_upper | replace("-", "_")', "X_Y"),  # Jinja's filter takes all
    ('["b", "a"] | join("-")', "b-a"),
    ('from_json("[1.0, 1.5, \\"é\\"]")[:2]', [1, 1.5]),
    ('from_json("\\"\\\\ud83d\\\\ude00 \\\\udc80\\"")', "😀 \ufffd"),
    ('to_json({"b": "é", "a": [1, none, true]})', '{"b": "é", "a": [1, null, true]}'),
    ('to_json({"a": 1}, pretty=true)', '{\n  "a": 1\n}'),
    ('from_yaml("a: [1, x]")', {"a": [1, "x"]}),
    ('to_yaml({"b": gets("/k*"), "a": "x: y"})', "b:\n- - /k\n  - v\n- - /kx\n  - x\na: 'x: y'"),
    ('to_yaml("x")', "x"),
    ('from_toml("a = 1")', {"a": 1}),
    ('to_toml({"a": 1, "t": {"x": ["é"]}})', 'a = 1\n\n[t]\nx = [\n    "é",\n]\n'),
    ('sha256("")', "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ('b64encode("é") | b64decode', "é"),
    ('regex_match("web1", "web[0-9]")', True),
    ('regex_match("xweb1", "web")', False),
    ('regex_search("id=42;", "id=([0-9]+)")', "42"),
    ('regex_search("id=42;", "[0-9]+")', "42"),
    ('regex_search("x", "y", "none")', "none"),
    ('regex_replace("a.b", "[.](b)", "-\\\\1")', "a-b"),
    ('nindent("a\nb", 2)', "\n  a\n  b"),
    ('quote("a\\\\b\\"")', '"a\\\\b\\""'),
    ('squote("a")', "'a'"),
    ('natural_sort(["web10", "web2", "Web1", "web"])', ["Web1", "web", "web2", "web10"]),
    ('shell_quote("a\'b")', "'a'\"'\"'b'"),
    ('hostport("::1", "80")', "[::1]:80"),
    ('hostport("a.b", 80)', "a.b:80"),
    ('parse_hostport("[fd00::1]:80").host', "fd00::1"),
    ('parse_hostport("a:80").port', 80),
    ('true | ternary("a", "b")', "a"),
    ('int_range("80", 1, 65535)', 80),
    ('one_of("a", "a", "b")', "a"),
    ('required("x", "set it")', "x"),
    ('trim_prefix("/a", "/")', "a"),
    ('"a:1" is valid_hostport', True),
    ('"a:0" | valid_hostport', False),
    ('"/k" is exists', True),
]


@pytest.mark.parametrize(("expression", "expected"), MORE)
def test_what_people_asked_for(expression, expected):
    assert value(expression) == expected


def test_pairs_unpack_and_have_names():
    template = "{% for key, value in gets('/k*') %}{{ key }}={{ value }} {% endfor %}{{ gets('/k')[0].key }}"
    assert text(template, KEYS) == "/k=v /kx=x /k"


def test_booleans_are_printed_as_confd_prints_them_and_null_is_an_error():
    assert text("{{ exists('/k') }} {{ false }} {{ 1 }} {{ 1.5 }}", KEYS) == "true false 1 1.5"
    with pytest.raises(TemplateError, match="null"):
        text("{{ json(getv('/obj')).m }}", KEYS)


def test_numbers_in_json_are_printed_without_an_exponent():
    template = "{% set o = json(getv('/o')) %}{{ o.a }} {{ o.b }} {{ o.c }} {{ o.d }}"
    assert text(template, {"/o": '{"a":8080,"b":1000000,"c":1e6,"d":0.5}'}) == "8080 1000000 1000000 0.5"


def test_the_time_is_that_of_the_world_and_is_told_of():
    made = rendered("{{ datetime().strftime('%Y-%m-%d') }}", now=1_000_000_000.0)
    assert made.content.decode() == datetime.fromtimestamp(1_000_000_000).strftime("%Y-%m-%d")  # noqa: DTZ006
    assert made.timely
    assert not rendered("x", now=5.0).timely


def test_a_missing_key_is_its_own_error():
    for call in ('get("/none")', 'getv("/none")'):
        with pytest.raises(KeyMissing, match="key does not exist") as caught:
            text("{{ " + call + " }}")
        assert caught.value.where["key"] == "/none"


def test_functions_change_nothing_in_place():
    template = "{% set l = ['b', 'aa', 'c'] %}{{ reverse(l) }}{{ sort_by_length(l) }}{{ shuffle(l, 1) }}{{ l }}"
    assert text(template).endswith("['b', 'aa', 'c']")


@given(st.lists(st.text(max_size=5), unique=True), st.text(), st.randoms(use_true_random=False))
def test_a_shuffle_depends_on_its_seed_alone(items, seed, chance):
    other = items.copy()
    random.Random(chance.random()).shuffle(other)
    assert functions.shuffle(items, seed) == functions.shuffle(other, seed)


@given(st.lists(st.text(max_size=5), unique=True, min_size=1), st.text())
def test_an_item_that_goes_leaves_the_shuffled_order_of_the_others(items, seed):
    rest = [item for item in functions.shuffle(items, seed) if item != items[0]]
    assert functions.shuffle(items[1:], seed) == rest


@given(st.lists(st.text(max_size=5), unique=True), st.integers(1, 20), st.randoms(use_true_random=False))
def test_slots_hold_each_item_once_whatever_their_order(items, number, chance):
    found = functions.slots(items, number)
    assert sorted(item for item in found if item is not None) == sorted(items)
    assert len(found) >= number
    assert len(found) == number or len(found) < 2 * len(items)
    other = items.copy()
    random.Random(chance.random()).shuffle(other)
    assert functions.slots(other, number) == found


def test_an_item_that_goes_moves_few_others_out_of_their_slots():
    items = [f"/services/web/n{number}" for number in range(60)]
    whole = functions.slots(items, 100)
    moved = 0
    for gone in items:
        rest = functions.slots([item for item in items if item != gone], 100)
        moved += sum(one != other for one, other in zip(whole, rest, strict=True) if one != gone and one is not None)
    assert moved <= len(items)


def test_full_slots_are_found_and_a_number_that_is_none_is_an_error():
    assert sorted(functions.slots([str(number) for number in range(200)], 200)) == sorted(map(str, range(200)))
    for number in (0, -1, True, "4", 2_000_000):
        with pytest.raises(functions.InvalidArgument):
            functions.slots([], number)


@given(st.lists(st.integers(0, 10**30)))
def test_natural_sort_puts_numbers_in_order(numbers):
    assert functions.natural_sort([f"w{n}" for n in numbers]) == [f"w{n}" for n in sorted(numbers)]


@given(st.integers(), st.integers().filter(bool))
def test_division_and_remainder_belong_together(a, b):
    assert functions.div(a, b) * b + functions.mod(a, b) == a
    assert abs(functions.mod(a, b)) < abs(b)


@given(st.binary())
def test_base64_carries_any_bytes(data):
    from confpy.templates import formats

    content = data.decode("utf-8", "surrogateescape")
    assert formats.base64_decode(formats.base64_encode(content)) == content


@pytest.mark.parametrize("template", ["{{ [1, 2] | random }}", "{{ lipsum() }}"])
def test_random_output_is_refused_with_the_way_out(template):
    with pytest.raises(TemplateError) as caught:
        text(template)
    assert "shuffle" in caught.value.hint
