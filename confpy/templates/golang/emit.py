"""Nodes of Jinja's tree, each with the line and the Go type of what it is made of. Pure."""

from __future__ import annotations

from typing import NamedTuple

from jinja2 import nodes as jinja

from confpy.templates.golang.values import ANY, NOTHING


class Value(NamedTuple):
    """An expression, and the type that Go would find."""

    expr: jinja.Expr
    type: str


class Emitter:
    """Makes nodes for the statement in hand."""

    def __init__(self) -> None:
        self.line = 1
        """The line of the statement in hand."""

    def output(self, parts: list[jinja.Expr]) -> jinja.Output:
        return jinja.Output(parts, lineno=self.line)

    def name(self, name: str, ctx: str = "load") -> jinja.Name:
        return jinja.Name(name, ctx, lineno=self.line)

    def value(self, expr: jinja.Expr, kind: str) -> Value:
        expr.go_type = kind  # type: ignore[attr-defined]
        return Value(expr, kind)

    def constant(self, value: object, kind: str) -> Value:
        return self.value(jinja.Const(value, lineno=self.line), kind)

    def nothing(self) -> Value:
        return self.constant(None, NOTHING)

    def filter(self, name: str, first: jinja.Expr, *others: jinja.Expr, line: int = 0) -> jinja.Expr:
        """Call a function of the environment: as a filter it costs no look-up."""
        arguments = [first, *others]
        if line and line != self.line:
            # Python knows one line for each statement.
            arguments = [jinja.Const(line, lineno=self.line), jinja.Const(name, lineno=self.line), *arguments]
            name = "_at"
        return jinja.Filter(arguments[0], name, arguments[1:], [], None, None, lineno=self.line)

    def fail(self, message: str, line: int = 0, hint: str = "") -> Value:
        others = [jinja.Const(hint, lineno=self.line)] if hint else []
        return self.value(self.filter("_refuse", jinja.Const(message, lineno=self.line), *others, line=line), ANY)

    def settled(self, value: Value) -> Value:
        """Return what a pipeline ends in: there null is no value."""
        return self.value(self.filter("_settle", value.expr), ANY) if value.type == ANY else value


def join_types(kind: str, other: str) -> str:
    """Return the type of what is of one of two types."""
    return kind if kind == other else ANY
