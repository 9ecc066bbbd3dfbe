"""Pipelines, operands and functions of a Go template as expressions of Jinja. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jinja2 import nodes as jinja

from confpy.templates.golang import nodes
from confpy.templates.golang.emit import Emitter, Value, join_types
from confpy.templates.golang.scope import Known, Place, Scope
from confpy.templates.golang.signatures import FUNCTIONS, Signature
from confpy.templates.golang.special import SPECIAL
from confpy.templates.golang.values import (
    ANY,
    BOOL,
    COMPLEX,
    ELEMENTS,
    FIELDS,
    FLOAT,
    INT,
    MAP,
    NILABLE,
    NOTHING,
    PAIR_LIST,
    PAIRS,
    STRING,
    VALUE,
    convert,
)


class Expressions:
    """Translates what stands in the tags of one file."""

    def __init__(self, source: str, emit: Emitter, scope: Scope, known: Known) -> None:
        self._source = source
        self._emit = emit
        self._scope = scope
        self._known = known

    def evaluated(self, pipeline: nodes.Pipeline, dot: Place) -> Value:
        """Return the value of a statement's pipeline, after it has set its variable."""
        value = self.pipeline(pipeline, dot)
        for variable in pipeline.declared:
            value = self._emit.settled(value)
            if pipeline.assigns:
                self._scope.assign(variable, value)
                place = self._scope.find(variable.name)
            else:
                place = self._scope.declare(variable, value)
            value = self._scope.read(place) if place else value
        return value

    def _text_of(self, node: nodes.Expression | nodes.Command) -> str:
        return self._source[node.pos : node.end]

    def pipeline(self, pipeline: nodes.Pipeline, dot: Place) -> Value:
        """Return the value of a pipeline; who asks sets its variables."""
        value = None
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        assert value is not None
        return value

    def _inner(self, pipeline: nodes.Pipeline, dot: Place) -> Value:
        """Return the value of a pipeline between parentheses, which may set a variable on its way."""
        value = self.pipeline(pipeline, dot)
        for variable in pipeline.declared:
            value = self._emit.settled(value)
            place = self._scope.find(variable.name)
            if not pipeline.assigns:
                place = self._scope.declared(variable, value.type)
                self._scope.open_space(place, None)
                self._scope.show(variable.name, place)
            if place is None or not place.space:
                return self._emit.fail(f"undefined variable: {variable.name}", pipeline.line)
            if join_types(place.type, value.type) != place.type:
                self._known.variables[place.declared] = ANY
            name = jinja.Const(place.name, lineno=self._emit.line)
            value = self._emit.value(
                self._emit.filter("_keep", value.expr, self._emit.name(place.space), name), value.type
            )
        return value

    def _command(self, command: nodes.Command, dot: Place, final: Value | None) -> Value:
        first, arguments = command.operands[0], command.operands[1:]
        if isinstance(first, nodes.Function):
            return self._function(first.name, arguments, dot, final, command.line)
        if arguments or final is not None:
            if isinstance(first, nodes.Field | nodes.Chain) or (isinstance(first, nodes.Variable) and first.fields):
                return self._method(first, arguments, dot, final)
            infix = arguments and isinstance(arguments[0], nodes.Function)
            hint = f"in Go the function comes first: {self._text_of(arguments[0])} A B" if infix else ""
            return self._emit.fail(f"can't give argument to non-function {self._text_of(first)}", first.line, hint)
        if isinstance(first, nodes.Nil):
            return self._emit.fail("nil is not a command", first.line)
        return self._operand(first, dot)

    def _operand(self, node: nodes.Expression, dot: Place) -> Value:
        if isinstance(node, nodes.Bool):
            return self._emit.constant(node.value, BOOL)
        if isinstance(node, nodes.String):
            return self._emit.constant(node.value, STRING)
        if isinstance(node, nodes.Number):
            return self._number(node)
        if isinstance(node, nodes.Nil):
            return self._emit.nothing()
        if isinstance(node, nodes.Dot):
            return self._scope.read(dot)
        if isinstance(node, nodes.Function):
            return self._function(node.name, (), dot, None, node.line)
        if isinstance(node, nodes.Pipeline):
            return self._inner(node, dot)
        receiver, names = self._receiver(node, dot)
        for name in names:
            receiver = self._field(receiver, name, node.line)
        return receiver

    def _receiver(self, node: nodes.Field | nodes.Variable | nodes.Chain, dot: Place) -> tuple[Value, tuple[str, ...]]:
        if isinstance(node, nodes.Field):
            return self._scope.read(dot), node.names
        if isinstance(node, nodes.Variable):
            place = self._scope.find(node.name)
            if place is None:
                return self._emit.fail(f"undefined variable: {node.name}", node.line), node.fields
            return self._scope.read(place), node.fields
        if isinstance(node.operand, nodes.Nil):
            return self._emit.fail("indirection through explicit nil", node.line), node.fields
        return self._emit.settled(self._operand(node.operand, dot)), node.fields

    def _method(
        self, node: nodes.Expression, arguments: Sequence[nodes.Expression], dot: Place, final: Value | None
    ) -> Value:
        """Call a method with arguments: only the time has such."""
        assert isinstance(node, nodes.Field | nodes.Variable | nodes.Chain)
        receiver, names = self._receiver(node, dot)
        for name in names[:-1]:
            receiver = self._field(receiver, name, node.line)
        if receiver.type == NOTHING:
            return receiver
        given = [self._argument(argument, ANY, dot) for argument in arguments]
        given += [final.expr] if final is not None else []
        last = jinja.Const(names[-1], lineno=self._emit.line)
        return self._emit.value(self._emit.filter("_field", receiver.expr, last, *given, line=node.line), ANY)

    def _field(self, receiver: Value, name: str, line: int) -> Value:
        kind = receiver.type
        if kind == NOTHING:
            return receiver
        known = FIELDS.get(kind, {})
        if name in known:
            return self._emit.value(
                jinja.Getattr(receiver.expr, name.lower(), "load", lineno=self._emit.line), known[name]
            )
        constant = jinja.Const(name, lineno=self._emit.line)
        if kind == MAP:
            return self._emit.value(self._emit.filter("_entry", receiver.expr, constant), ANY)
        return self._emit.value(self._emit.filter("_field", receiver.expr, constant, line=line), ANY)

    def _number(self, node: nodes.Number) -> Value:
        """Return a constant as Go types it by its looks."""
        text = node.text
        if node.imaginary is not None:
            return self._emit.constant(node.imaginary, COMPLEX)
        looks_float = any(sign in text for sign in ".eEpP") and text[0] != "'"
        if looks_float and (not re.match("0[xX]", text) or any(sign in text for sign in "pP")):
            return self._emit.constant(node.floating, FLOAT)
        if node.integer is None:
            return self._emit.fail(f"{text} overflows int", node.line)
        return self._emit.constant(node.integer, INT)

    def _function(
        self, name: str, arguments: Sequence[nodes.Expression], dot: Place, final: Value | None, line: int
    ) -> Value:
        signature = FUNCTIONS[name]
        fixed, count = len(signature.parameters), len(arguments) + (final is not None)
        if count < fixed or (count > fixed and signature.rest is None):
            want = f"want at least {fixed} got {len(arguments)}" if signature.rest else f"want {fixed} got {count}"
            return self._emit.fail(f"wrong number of args for {name}: {want}", line)
        if name in {"and", "or"}:
            return self._logic(name, arguments, dot, final)
        wanted = [*signature.parameters, *[signature.rest or ANY] * (count - fixed)]
        given = [self._typed(node, kind, dot) for node, kind in zip(arguments, wanted, strict=False)]
        if final is not None:
            given.append(Value(self._coerced(final, wanted[-1], line), final.type))
        special = SPECIAL.get(name)
        made = special(self._emit, name, given) if special else None
        if made is None:
            made = self._applied(name, [one.expr for one in given], _result(name, signature, given), line)
        return made

    def _applied(self, name: str, given: Sequence[jinja.Expr], kind: str, line: int) -> Value:
        if given:
            return self._emit.value(self._emit.filter(name, *given, line=line), kind)
        return self._emit.value(jinja.Call(self._emit.name(name), [], [], None, None, lineno=self._emit.line), kind)

    def _typed(self, node: nodes.Expression, wanted: str, dot: Place) -> Value:
        """Return an argument, and the type that it has itself."""
        if isinstance(node, nodes.Nil):
            if wanted in {ANY, VALUE}:
                return self._emit.nothing()
            if wanted in NILABLE:
                return Value(self._coerced(self._emit.nothing(), wanted, node.line), wanted)
            return self._emit.fail(f"cannot assign nil to {wanted}", node.line)
        if isinstance(node, nodes.Bool | nodes.String | nodes.Number) and wanted not in {ANY, VALUE}:
            return self._literal(node, wanted)
        value = self._operand(node, dot)
        return Value(self._coerced(value, wanted, node.line), value.type)

    def _argument(self, node: nodes.Expression, wanted: str, dot: Place) -> jinja.Expr:
        return self._typed(node, wanted, dot).expr

    def _literal(self, node: nodes.Bool | nodes.String | nodes.Number, wanted: str) -> Value:
        text = self._text_of(node)
        if wanted == STRING and isinstance(node, nodes.String):
            return self._emit.constant(node.value, STRING)
        if wanted == BOOL and isinstance(node, nodes.Bool):
            return self._emit.constant(node.value, BOOL)
        if wanted == INT and isinstance(node, nodes.Number) and node.integer is not None:
            return self._emit.constant(node.integer, INT)
        if wanted in NILABLE:
            return self._emit.fail(f"can't handle {text} for arg of type {wanted}", node.line)
        hint = "put it between double quotes" if wanted == STRING else ""
        if wanted == INT and isinstance(node, nodes.String):
            hint = "a number stands without quotes"
        return self._emit.fail(f"expected {'integer' if wanted == INT else wanted}; found {text}", node.line, hint)

    def _coerced(self, value: Value, wanted: str, line: int) -> jinja.Expr:
        """Return a value as an argument of a type: Go does not convert, it only refuses."""
        kind = value.type
        if wanted in {ANY, VALUE, kind} or {kind, wanted} == {PAIRS, PAIR_LIST}:
            return value.expr
        if kind == ANY:
            if wanted == STRING:
                return self._emit.filter("_expect_string", value.expr, line=line)
            return self._emit.filter("_expect", value.expr, jinja.Const(wanted, lineno=self._emit.line), line=line)
        if kind == NOTHING:
            if wanted in NILABLE:
                return self._emit.filter("_empty", jinja.Const(wanted, lineno=self._emit.line))
            return self._emit.fail(f"invalid value; expected {wanted}", line).expr
        return self._emit.fail(f"wrong type for value; expected {wanted}; got {kind}", line, convert(kind, wanted)).expr

    def _logic(self, name: str, arguments: Sequence[nodes.Expression], dot: Place, final: Value | None) -> Value:
        given = [self._typed(argument, VALUE, dot) for argument in arguments]
        if not given and final is None:
            return self._emit.fail(f"wrong number of args for {name}: want at least 1 got 0")
        given += [final] if final is not None else []
        kind = given[0].type
        for one in given[1:]:
            kind = join_types(kind, one.type)
        operator = jinja.And if name == "and" else jinja.Or
        expr = given[-1].expr
        for one in reversed(given[:-1]):
            expr = operator(one.expr, expr, lineno=self._emit.line)
        if final is not None and arguments and not isinstance(final.expr, jinja.Const | jinja.Name):
            # What comes through the pipe is known before the arguments are looked at.
            expr = jinja.And(self._emit.filter("_done", final.expr), expr, lineno=self._emit.line)
        return self._emit.value(expr, kind)


def _result(name: str, signature: Signature, given: Sequence[Value]) -> str:
    """Return the type of a function's result, more exactly where it is that of an argument."""
    if name in {"reverse", "slice"} and given:
        return given[0].type if given[0].type != NOTHING else ANY
    if name == "index":
        kind = given[0].type
        for _ in given[1:]:
            kind = ELEMENTS.get(kind, ANY)
        return kind
    return signature.result
