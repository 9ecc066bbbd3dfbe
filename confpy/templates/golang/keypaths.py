"""Which keys a Go template asks for, as far as that stands in it word for word. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confpy.templates.golang import nodes

_FUNCTIONS = frozenset({"exists", "get", "gets", "getv", "getvs", "ls", "lsdir"})
"""Those whose first argument is a path or a pattern of keys."""
_INTEGER = re.compile(r"%0?[0-9]*d")


class KeyPath(NamedTuple):
    """A path or a pattern."""

    text: str
    """All of it, or what it begins with."""
    whole: bool
    function: str = ""
    """What it is given to."""
    pos: int = 0
    """Where that stands in the source, in characters."""


def key_paths(template: nodes.Template) -> Iterator[KeyPath]:
    """Yield what the functions of a template that look up keys are given: an empty beginning where nothing is known."""
    for definition in (template.main, *template.order):
        for statement in nodes.statements(definition.body):
            if isinstance(statement, nodes.Action | nodes.Call | nodes.Branch) and statement.pipeline:
                yield from _within(statement.pipeline)


def _within(pipeline: nodes.Pipeline) -> Iterator[KeyPath]:
    piped: KeyPath | None = None
    for command in pipeline.commands:
        function, *arguments = command.operands
        if isinstance(function, nodes.Function) and function.name in _FUNCTIONS:
            asked = _text(arguments[0]) if arguments else piped
            place = next((one for one in arguments if isinstance(one, nodes.String)), function)
            yield (asked or KeyPath("", whole=False))._replace(function=function.name, pos=place.pos)
        piped = _value(command)
        for operand in command.operands:
            inner = nodes.innermost(operand)
            if isinstance(inner, nodes.Pipeline):
                yield from _within(inner)


def _text(expression: nodes.Expression) -> KeyPath | None:
    """Return what a text is, or begins with; None where neither stands there."""
    if isinstance(expression, nodes.String):
        return KeyPath(expression.value, whole=True)
    if isinstance(expression, nodes.Pipeline) and len(expression.commands) == 1:
        return _value(expression.commands[0])
    return None


def _value(command: nodes.Command) -> KeyPath | None:
    function, *arguments = command.operands
    if not arguments:
        return _text(function)
    if isinstance(function, nodes.Function) and function.name == "printf" and isinstance(arguments[0], nodes.String):
        # A digit stands for a number, which is part of the segment that it stands in; a text may begin with a slash.
        head, verb, _ = _INTEGER.sub("0", arguments[0].value).partition("%")
        return KeyPath(head, whole=not verb and len(arguments) == 1)
    if isinstance(function, nodes.Function) and function.name == "print":
        return _joined(arguments)
    return None


def _joined(arguments: Iterable[nodes.Expression]) -> KeyPath:
    head = ""
    for argument in arguments:
        if not isinstance(argument, nodes.String):
            return KeyPath(head, whole=False)
        head += argument.value
    return KeyPath(head, whole=True)
