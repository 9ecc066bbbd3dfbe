"""Rendering Go's templates beyond the vectors: values, errors and their lines, what is added to confd's functions."""

from __future__ import annotations

import pytest

from confpy.errors import TemplateError
from confpy.keys.view import Pair
from confpy.templates.golang.environment import PURE
from confpy.templates.golang.parser import parse
from confpy.templates.golang.printf import sprintf
from confpy.templates.golang.signatures import FUNCTIONS
from confpy.templates.golang.values import Anys, Pairs, Strings
from confpy.templates.lookup import Lookup
from confpy.templates.results import Service
from tests.rendering import rendered

KEYS = {"/a": "1", "/b": "hello", "/l/x": "10.0.0.1:80", "/l/y": "10.0.0.2:81", "/d/s/one": "1", "/d/t/two": "2"}


def text(template, keys=KEYS, **more):
    return rendered(template, keys, engine="go", **more).content.decode("utf-8", "surrogateescape")


def failure(template, **more):
    with pytest.raises(TemplateError) as caught:
        text(template, **more)
    return caught.value


@pytest.mark.parametrize(
    ("template", "want"),
    [
        ("{{$x := 1}}{{if false}}{{$x := 2}}{{else}}{{$x}}{{end}}", "1"),
        ('{{if and (exists "/a") ($x := getv "/a")}}[{{$x}}]{{end}}', "[1]"),
        ('{{if and (exists "/z") ($x := getv "/z")}}a{{else}}b{{end}}', "b"),
        ("{{range seq 1 3}}{{if ($y := .)}}{{$y}}{{end}}{{end}}", "123"),
        ('{{$l := split "c,a,b" ","}}{{range $l}}{{.}}{{$z := reverse $l}}{{.}} {{end}}', "cb aa bc "),
        ('{{$i := 5}}{{$e := 6}}{{range $i, $e = ls "/z"}}x{{else}}{{$i}}{{end}}{{$e}}', "[][]"),
        ('{{$i := 5}}{{range $i = ls "/d"}}{{end}}{{$i}}', "t"),
        ("{{with $x := 1}}{{$x = 2}}{{.}}{{$x}}{{end}}", "12"),
        ('{{$x := "a"}}{{with $x}}{{$x = "b"}}{{.}}{{$x}}{{end}}', "ab"),
        ('{{range ls "/d"}}{{.}}{{continue}}{{else}}none{{end}}', "st"),
        ('{{$n := 0}}{{range ls "/d/s"}}{{range ls "/d/t"}}{{$n = add $n 1}}{{end}}{{end}}{{$n}}', "1"),
        ('{{range $k, $v := json `{"b":[1],"a":{}}`}}{{$k}}{{if $v}}+{{else}}-{{end}}{{end}}', "a-b+"),
        ('{{range jsonArray "[null,1e6]"}}{{.}} {{end}}', "<no value> 1e+06 "),
        ('{{define "t.x"}}{{.}}{{end}}{{range ls "/d"}}{{template "t.x" .}}{{end}}{{template "t.x" 5}}', "st5"),
        ('{{block "b" 1}}{{.}}{{end}}{{template "b" 2}}', "12"),
        ('{{$loop := 1}}{{$self := 2}}{{$getv := "/a"}}{{$none := getv $getv}}{{$loop}}{{$self}}{{$none}}', "121"),
        ("{{$größe := 1}}{{$1 := 2}}{{$ﬁ := 3}}{{$fi := 4}}{{$größe}}{{$1}}{{$ﬁ}}{{$fi}}", "1234"),
        ('{{(gets "/l/*").Len}}', "2"),
        ('{{eq (index "abc" 1) 98}}', "true"),
        ('{{ls "//d"}} {{ls "/d/."}} {{lsdir "/d/"}} {{lsdir "//d"}}', "[d] [d] [s t] []"),
        ("{{`{% raw %}`}}{# {{1}} #}", "{% raw %}{# 1 #}"),
    ],
)
def test_a_template_prints_what_go_prints(template, want):
    assert text(template) == want


@pytest.mark.parametrize(
    ("template", "line", "message"),
    [
        ("\n{{and\n 1\n (getv `/none`)}}", 4, "key does not exist"),
        ("\n{{printf `%s`\n (index (ls `/d`)\n 7)}}", 3, "index out of range: 7"),
        ("{{if false}}\n{{else if\n(lt 1 `a`)}}\n{{end}}", 3, "incompatible types for comparison: int and string"),
        ("{{define `x`}}\n{{.Value}}{{end}}\n\n{{template `x` `s`}}", 2, "can't evaluate field Value in type string"),
        ("{{range 3}}{{end}}", 1, "range can't iterate over a value of type int"),
        ("{{(get `/a`).value}}", 1, "can't evaluate field value"),
        ('{{$d := json `{"n":null}`}}\n{{$d.n.x}}', 2, "nil pointer evaluating interface {}.x"),
        ("{{$x = 1}}", 1, "undefined variable: $x"),
        ("{{template `none`}}", 1, 'template "none" not defined'),
        ("{{getv `/a` 5}}", 1, "expected string; found 5"),
        ("{{add (getv `/a`) 1}}", 1, "wrong type for value; expected int; got string"),
        ("{{range gets `/l/*`}}{{toUpper .}}{{end}}", 1, "wrong type for value; expected string; got memkv.KVPair"),
        ("{{define `r`}}{{template `r`}}{{end}}{{template `r`}}", 1, "calls itself without end"),
    ],
)
def test_an_error_names_the_line_in_the_go_file(template, line, message):
    error = failure(template)
    assert message in error.message
    assert error.where["line"] == line


def test_an_error_that_is_not_reached_is_none():
    assert text("{{if exists `/none`}}{{toUpper 5}}{{template `none`}}{{add 1}}{{end}}ok") == "ok"


def test_an_operator_between_its_operands_is_told_with_what_to_write():
    assert failure('{{if (len (ls "/d")) ne 0}}{{end}}').hint == "in Go the function comes first: ne A B"


def test_no_value_of_a_key_stands_in_an_error():
    keys = {"/secret": "s3cr3t", "/j": '{"a":"s3cr3t"}'}
    for template in (
        "{{atoi (getv `/secret`)}}", "{{json (getv `/secret`)}}", "{{(getv `/secret`).x}}",
        "{{(json (getv `/j`)).a.b}}",
        "{{range getv `/secret`}}{{end}}", "{{index (ls `/`) (getv `/secret`)}}", "{{eq (getv `/secret`) 1}}",
        "{{parseBool (getv `/secret`)}}", "{{add (getv `/secret`) 1}}", "{{base64Decode (getv `/secret`)}}",
    ):  # fmt: skip
        assert "s3cr3t" not in str(failure(template, keys=keys))


def test_a_long_template_of_one_loop_in_another_is_told_not_crashed():
    assert "nested too deeply" in failure("{{range ls `/d`}}" * 50 + "{{end}}" * 50).message


# --- times and services ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "want"),
    [
        ('{{datetime.UTC.Format "2006-01-02T15:04:05Z07:00"}}', "2009-02-13T23:31:30Z"),
        ('{{datetime.UTC.Format "Mon Jan _2 3:04PM 06 .000 MST -07 002"}}', "Fri Feb 13 11:31PM 09 .250 UTC +00 044"),
        ("{{datetime.Unix}} {{datetime.UTC.Year}}", "1234567890 2009"),
        ("{{datetime.UTC.Month}} {{datetime.UTC.Weekday}}", "February Friday"),
        ('{{printf "%d %s" datetime.UTC.Month datetime.UTC.Month}}', "2 February"),
        ('{{((datetime.UTC.AddDate 0 1 20).Format "2006-01-02")}}', "2009-04-02"),
        ("{{datetime.UTC}}", "2009-02-13 23:31:30.25 +0000 UTC"),
    ],
)  # fmt: skip
def test_the_time_has_gos_methods(template, want):
    made = rendered(template, engine="go", now=1234567890.25)
    assert made.content.decode() == want
    assert made.timely


def test_services_have_gos_fields():
    facts = {Lookup("srv", "_web._tcp.x.test"): (Service("a.x.test.", 80, 1, 2),)}
    template = '{{range lookupSRV "web" "tcp" "x.test"}}{{.Target}}:{{.Port}} {{.Priority}}/{{.Weight}} {{.}}{{end}}'
    assert text(template, facts=facts) == "a.x.test.:80 1/2 {a.x.test. 80 1 2}"


# --- functions of the living fork -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "want"),
    [
        ('{{default "d" ""}} {{"" | default "d"}} {{default "d" "v"}} {{default 1 0}}', "d d v 1"),
        ('{{ternary "y" "n" true}} {{coalesce "" 0 "x" "y"}} {{empty ""}} {{empty (ls "/d")}}', "y x true false"),
        ('{{toJson (dict "b" (list 1 "<x>" nil) "a" 1.5)}}', '{"a":1.5,"b":[1,"\\u003cx\\u003e",null]}'),
        ('{{toPrettyJson (dict "a" 1)}}', '{\n  "a": 1\n}'),
        ('{{(fromJson `{"a":{"b":1000000}}`).a.b}}', "1e+06"),
        ('{{indent 2 "a\nb"}}|{{nindent 2 "a"}}', "  a\n  b|\n  a"),
        ("""{{quote "a\\"b"}} {{squote "it's"}}""", """"a\\"b" 'it''s'"""),
        ('{{regexMatch "^a+$" "aa"}} {{regexFind "[0-9]+" "a12"}}', "true 12"),
        ('{{regexReplaceAll "(a)(b)" "ab" "${2}$1"}}', "ba"),
        ('{{trimPrefix "abc" "a"}} {{repeat 3 "x"}} {{nospace " a b "}}', "bc xxx ab"),
        ('{{snakecase "FooBar"}} {{kebabcase "fooBar baz"}} {{camelcase "foo_bar"}}', "foo_bar foo-bar-baz FooBar"),
        ('{{$m := dict "b" 1 "a" 2}}{{keys $m}} {{values $m}} {{hasKey $m "a"}}', "[a b] [2 1] true"),
        ('{{pluck "a" (dict "a" 1) (dict) (dict "a" 2)}}', "[1 2]"),
        ('{{append (list 1) 2}} {{sha256sum "a" | len}}', "[1 2] 64"),
    ],
)  # fmt: skip
def test_functions_of_the_living_fork_are_there(template, want):
    assert text(template.replace("a\nb", "a\\nb")) == want


def test_the_addresses_of_an_interface_are_those_of_the_machine():
    assert text('{{lookupIfaceIPV4 "lo"}} [{{lookupIfaceIPV4 "none"}}{{lookupIfaceIPV6 "none"}}]') == "127.0.0.1 []"
    facts = {Lookup("interface", "eth0"): ("192.0.2.1", "fe80::1")}
    assert text('{{lookupIfaceIPV6 "eth0"}}', facts=facts) == "fe80::1"


def test_a_template_includes_another_with_its_data():
    files = {
        "part": '{{define "x"}}<{{.}}>{{end}}{{range .}}{{template "x" .Value}}{{end}}{{getv "/a"}}',
        "self": '{{include "self"}}',
    }
    assert text('{{include "part" (gets "/l/*") | toUpper}}', files=files) == "<10.0.0.1:80><10.0.0.2:81>1"
    assert "includes itself" in failure('{{include "self"}}', files=files).message
    assert "there is no template" in failure('{{include "none"}}').message
    assert "below templates/" in failure('{{include "../x"}}').message


def test_every_function_that_may_be_called_is_there():
    asking = {
        "datetime", "exists", "file", "fileExists", "fileHash", "get", "getenv", "gets", "getv", "getvs", "include",
        "item", "lookupIP", "lookupIPV4", "lookupIPV6", "lookupIfaceIPV4", "lookupIfaceIPV6", "lookupSRV", "ls",
        "lsdir",
    }  # fmt: skip
    assert FUNCTIONS.keys() - {"and", "or", "not"} == {name for name in PURE if name[0] != "_"} | asking


def test_lookups_that_stand_in_it_are_known_before_it_is_rendered():
    assert {lookup.kind for lookup in rendered('{{fileExists "/"}}', engine="go").asked} == {"template", "exists"}
    tree = parse('{{if (lookupIP "n.test" | len)}}{{end}}', "t", FUNCTIONS)
    from confpy.templates.golang.compile import _needs

    assert list(_needs(tree)) == [Lookup("ip", "n.test")]


# --- printing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (("%5.2f|%-8.1f|%+.1f", 1.005, 2.5, 2.345), " 1.00|2.5     |+2.3"),
        (("%#g %#x %b %x", 1.0, 2.0, 1.0, 0.5), "1.00000 0x1.0000p+01 4503599627370496p-52 0x1p-01"),
        (("%[2]d %[1]d %[3]d", 1, 2), "2 1 %!d(BADINDEX)"),
        (("%*d|%-*d|%*d", 5, 42, 5, 42, "x", 1), "   42|42   |%!(BADWIDTH)1"),
        (("%v %+v %#v", *[Pair("a", "b")] * 3), '{a b} {Key:a Value:b} memkv.KVPair{Key:"a", Value:"b"}'),
        (("%d", Strings(["a"])), "[%!d(string=a)]"),
        (("%v %s", Anys([1, None]), None), "[1 <nil>] %!s(<nil>)"),
        (("%T %T %T", Pairs(), {}, 1.0), "memkv.KVPairs map[string]interface {} float64"),
        (("%U %#U %c %q", 233, 233, 233, 10), "U+00E9 U+00E9 'é' é '\\n'"),
        (("%x|% X|%#x|%q", "hé", "hé", "é", "\udcff"), '68c3a9|68 C3 A9|0xc3a9|"\\xff"'),
        (("%05s|%-05d|%+05d", "ab", 7, 7), "000ab|7    |+0007"),
        (("%!|%z|%", 1, 2), "%!!(int=1)|%!z(int=2)|%!(NOVERB)"),
        (("%s",), "%!s(MISSING)"),
        (("%\udcff", 1), "%!\ufffd(int=1)"),
        (("x", 1, "a"), "x%!(EXTRA int=1, string=a)"),
        (("%99999999d", 1), "%!(NOVERB)%!(EXTRA int=1)"),
        (("%v", 1e20), "1e+20"),
        (("%6.3v|%t|%v", 3.14159, True, 2 + 1j), "  3.14|true|(2+1i)"),
    ],
)
def test_printf_prints_what_go_prints(arguments, want):
    assert sprintf(*arguments) == want
