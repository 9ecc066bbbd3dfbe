"""From a template's text in Jinja to its code, and what is known of what it will ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension, do
from jinja2.lexer import Token

from confpy.errors import TemplateError
from confpy.templates.explain import suggest
from confpy.templates.lookup import Lookup
from confpy.templates.registry import known_lookups
from confpy.templates.results import NO_FILE, CompileResult, template_lookup

# Jinja makes all line ends alike. What stands for a carriage return while it reads must be white space to it, and no
# line end: the space of the Ogham script is, and such a space in a template is set aside as half of a character.
_HIDE = str.maketrans({"\r": "\u1680", "\u1680": "\ud800"})
_SHOW = str.maketrans({"\u1680": "\r", "\ud800": "\u1680"})
_HIDDEN = re.compile("[\u1680\ud800]")


class LineEnds(Extension):
    """Keeps the carriage returns of a template where they are."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        return source.translate(_HIDE) if "\r" in source or "\u1680" in source else source

    def filter_stream(self, stream: Iterable[Token]) -> Iterator[Token]:
        for token in stream:
            if token.type in {"data", "string"} and _HIDDEN.search(token.value):
                yield Token(token.lineno, token.type, token.value.translate(_SHOW))
            else:
                yield token


EXTENSIONS: tuple[type[Extension], ...] = (LineEnds, do, LoopControlExtension)
"""What an environment needs to compile templates."""


def with_delimiters(environment: jinja2.Environment, delimiters: tuple[str, ...]) -> jinja2.Environment:
    """Return the same environment for templates whose expressions stand between other delimiters."""
    left, right = delimiters
    return environment.overlay(variable_start_string=left, variable_end_string=right)


def compile_source(source: str, lookup: Lookup, file: str, environment: jinja2.Environment) -> CompileResult:
    """Return a template's code and the lookups that stand in it word for word; raises ``TemplateError``."""
    name = lookup.name
    try:
        tree = environment.parse(source, name, file)
        asking = [*tree.find_all(_ASKING)]
        needs = frozenset(need for node in asking for need in _needs(node, lookup.delimiters))
        # Jinja writes it into the error of a macro that an imported template does not have.
        names_itself = any(isinstance(node, nodes.FromImport) for node in asking)
        code = environment.compile(tree, name if names_itself else "", NO_FILE)
        return CompileResult("jinja", code, needs, names_itself=names_itself)
    except jinja2.TemplateSyntaxError as error:
        message = error.message or "syntax error"
        failure = TemplateError(message, hint=suggest(message, environment), template=name, line=error.lineno)
        from confpy.templates.columns import malformed_at  # only for errors

        if column := malformed_at(source, error.lineno, message, environment):
            failure.at(column=column)
    except RecursionError:
        failure = TemplateError("nested too deeply", template=name)
    raise failure


_ASKING = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Call)


def _needs(node: nodes.Node, delimiters: tuple[str, ...]) -> Iterator[Lookup]:
    """Yield the lookups that stand in a node of a template, but not in those below it."""
    if isinstance(node, nodes.Call):
        constants = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
        words = [value for value in constants if isinstance(value, str)]
        if isinstance(node.node, nodes.Name) and len(words) == len(node.args):
            yield from known_lookups(node.node.name, words)
        return
    named = getattr(node, "template", None)
    for constant in named.items if isinstance(named, nodes.List | nodes.Tuple) else [named]:
        if isinstance(constant, nodes.Const) and isinstance(constant.value, str):
            yield template_lookup(constant.value, "jinja", delimiters)
