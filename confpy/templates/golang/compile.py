"""How a Go template's tree becomes code, and what is known of what it will ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jinja2

from confpy.errors import TemplateError
from confpy.templates.golang import nodes
from confpy.templates.golang.translate import translate
from confpy.templates.golang.values import ANY, NOTHING
from confpy.templates.lookup import Lookup
from confpy.templates.registry import known_lookups
from confpy.templates.results import NO_FILE, CompileResult, template_lookup


def compile_tree(template: nodes.Template, lookup: Lookup, environment: jinja2.Environment) -> CompileResult:
    """Return what a tree is compiled to; raises ``TemplateError``."""
    try:
        tree = translate(template, ANY if lookup.engine == "included" else NOTHING)
        tree.set_environment(environment)
        code = environment.compile(tree, "", NO_FILE)
        warnings = () if lookup.engine == "included" else tuple(_warnings(template.main.body))
        return CompileResult("go", code, frozenset(_needs(template, lookup.delimiters)), warnings)
    except (RecursionError, SyntaxError, MemoryError):
        failure = TemplateError("nested too deeply", template=lookup.name)
    raise failure


def _needs(template: nodes.Template, delimiters: tuple[str, ...] = ()) -> Iterator[Lookup]:
    for command in nodes.commands(template):
        function, *arguments = command.operands
        words = [one.value for one in arguments if isinstance(one, nodes.String)]
        if not isinstance(function, nodes.Function) or len(words) != len(arguments):
            continue
        yield from known_lookups(function.name, words)
        if function.name == "include" and words:
            yield template_lookup(words[0], "included", delimiters)


def _warnings(body: Iterable[nodes.Statement]) -> Iterator[tuple[int, str]]:
    """Find what was written for a confd that gave templates data, which ended with 0.6: it prints ``<no value>``."""
    for statement in body:
        if not isinstance(statement, nodes.Action | nodes.Call | nodes.Branch):
            continue
        for command in nodes.commands_of(statement.pipeline) if statement.pipeline else ():
            for operand in command.operands:
                if isinstance(operand, nodes.Field):
                    name = operand.names[0]
                    example = f'getv "/{name.replace("_", "/")}"'
                    yield (
                        operand.line,
                        f".{name} is no value: a template has no data; keys are read by {example} or gets",
                    )
        if isinstance(statement, nodes.Branch):
            # In the body of the others the dot is what they are about.
            yield from _warnings(statement.body if statement.keyword == "if" else ())
            yield from _warnings(statement.orelse or ())
