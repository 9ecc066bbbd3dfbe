"""Reading Go's templates: what is refused, where and with what hint; and that no text at all upsets the parser."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confpy.templates.golang import nodes
from confpy.templates.golang.lexer import Kind, Lexer
from confpy.templates.golang.parser import DEEPEST, GoSyntaxError, parse
from confpy.templates.golang.signatures import FUNCTIONS


def read(source):
    return parse(source, "t.tmpl", FUNCTIONS)


def refused(source):
    with pytest.raises(GoSyntaxError) as caught:
        read(source)
    return caught.value


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("a\n  {{nofunc}}", 2, 5, 'function "nofunc" not defined'),
        ("{{if true}}\nx\n", 3, 1, "unexpected EOF"),
        ('{{print "a", "b"}}', 1, 12, 'unexpected "," in operand'),
        ("{{$x}}", 1, 3, 'undefined variable "$x"'),
        ("{{`a\nb`}}\n{{'ab'}}", 3, 3, "malformed character constant: 'ab'"),
        ("{{1 | 2}}", 1, 8, "non executable command in pipeline stage 2"),
        ("{{end}}", 1, 1, "unexpected {{end}}"),
        ("{{/* c", 1, 3, "unclosed comment"),
        ("{{/* c */ }}", 1, 3, "comment ends before closing delimiter"),
        ("{{(1}}", 1, 5, "unclosed left paren"),
        ("{{range $a, $b, $c := 1}}{{end}}", 1, 13, "too many declarations in range"),
        ("{{break}}", 1, 3, "{{break}} outside {{range}}"),
        ("\N{PILE OF POO}{{1_}}", 1, 4, 'illegal number syntax: "1_"'),
    ],
)
def test_a_mistake_is_told_with_its_place(source, line, column, message):
    error = refused(source)
    assert (error.line, error.column, error.message) == (line, column, message)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ('{{getsv "/a"}}', "did you mean getv"),
        ("{{getv '/a'}}", "double quotes"),
        ('{{key "a"}}', "consul-template"),
        ('{{cgetv "/a"}}', "does not decrypt"),
        ("{{if 1}}", "{{end}} is missing"),
        ("{{with 1}}{{else with 2}}{{end}}", "{{else}}{{with …}} … {{end}}{{end}}"),
    ],
)
def test_a_common_mistake_is_told_with_what_to_do(source, hint):
    assert hint in refused(source).hint


def test_trim_markers_need_white_space_and_take_only_that_of_go():
    tree = read("a \n{{- 1 -}}\t b{{-1}}\xa0{{- 2}}")
    texts = [item.text for item in tree.main.body if isinstance(item, nodes.Text)]
    assert texts == ["a", "b", "\xa0"]


def test_comments_stay_in_the_tree():
    (comment,) = read("{{- /* why */ -}} ").main.body
    assert comment.text == " why "
    assert (comment.tag.trims_left, comment.tag.trims_right) == (True, True)
    assert (comment.tag.pos, comment.tag.end) == (0, 17)


def test_a_tag_knows_where_it_stands():
    source = "x{{- if 1 }}y{{ else -}}\nz{{end}}"
    branch = read(source).main.body[1]
    assert [source[tag.pos : tag.end] for tag in (branch.tag, branch.else_tag, branch.end_tag)] == [
        "{{- if 1 }}", "{{ else -}}", "{{end}}",
    ]  # fmt: skip


def test_an_expression_knows_its_text():
    source = '{{ printf "%s" (get "/a").Value | toUpper }}'
    pipeline = read(source).main.body[0].pipeline
    assert [source[c.pos : c.end] for c in pipeline.commands] == ['printf "%s" (get "/a").Value', "toUpper"]
    chain = pipeline.commands[0].operands[2]
    assert [source[one.pos : one.end] for one in (chain, chain.operand)] == ['(get "/a").Value', '(get "/a")']


@pytest.mark.parametrize(
    ("text", "integer", "floating", "imaginary"),
    [
        ("1_000", 1000, 1000.0, None),
        ("0x1F", 31, 31.0, None),
        ("0b101", 5, 5.0, None),
        ("0o17", 15, 15.0, None),
        ("017", 15, 15.0, None),
        ("1e3", 1000, 1000.0, None),
        ("0x1p-2", None, 0.25, None),
        (".5", None, 0.5, None),
        ("-0", 0, 0.0, None),
        ("9223372036854775808", None, 9223372036854775808.0, None),
        ("1i", None, None, 1j),
        ("1+2i", None, None, 1 + 2j),
        (r"'\x41'", 65, 65.0, None),
    ],
)
def test_a_constant_has_every_value_that_go_gives_it(text, integer, floating, imaginary):
    number = read("{{" + text + "}}").main.body[0].pipeline.commands[0].operands[0]
    assert (number.integer, number.floating, number.imaginary) == (integer, floating, imaginary)


@pytest.mark.parametrize("opening", ["{{if 1}}", "{{range .}}", "{{with 1}}", "{{if 1}}{{else}}", '{{block "b" .}}'])
def test_what_is_nested_too_deeply_is_refused(opening):
    assert "nested too deeply" in refused(opening * (DEEPEST + 1)).message
    assert "nested too deeply" in refused("{{" + "(" * (DEEPEST + 1)).message


def test_a_long_chain_of_else_if_is_not_deep():
    assert read("{{if 1}}" + "{{else if 1}}x" * 5000 + "{{end}}").main.body


WORDS = """{{ }} {{- -}} ( ) | := = , . $ $x .Key " ` ' \\ /* */ {{/* */}} if else end range with define template block
break continue nil true getv print eq 1 0x 1e5 1i 'a' "s" `r` {{end}} {{else}} {{if {{range .}}"""
PIECES = st.sampled_from([*WORDS.split(), "\n", " "])
TEXTS = st.one_of(st.text(), st.lists(PIECES).map(" ".join), st.lists(PIECES).map("".join))


@given(TEXTS)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_a_template_or_refused_within_itself(source):
    error, lines = None, source.split("\n")
    try:
        tree = read(source)
    except GoSyntaxError as refused:
        error = refused
    if error is None:
        assert tree.source == source
    else:
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1


@given(TEXTS)
@settings(max_examples=1000, deadline=None)
def test_tokens_follow_each_other_through_the_text(source):
    tokens = list(Lexer(source))
    assert [token.kind in {Kind.EOF, Kind.ERROR} for token in tokens] == [False] * (len(tokens) - 1) + [True]
    end = 0
    for token in tokens[:-1]:
        assert token.pos >= end
        assert source.startswith(token.text, token.pos)
        end = token.pos + len(token.text)
