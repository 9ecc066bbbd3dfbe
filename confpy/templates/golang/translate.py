"""A Go template's tree as Jinja's: what a person would write where types are known, calls of the runtime elsewhere.

The tree is compiled as it is; every node has the line of the Go file. Who prints it finds in ``go_type`` what Go would
call the type of an expression, and in ``go`` the Go statement that a statement, or a part of an ``Output``, is made of:
its place, its trim markers, its text. The types of variables and of the data of defined templates are found by
repetition: a pass that meets a second type for one of them begins again with any type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from jinja2 import nodes as jinja

from confpy.templates.golang import nodes
from confpy.templates.golang.emit import Emitter, Value, join_types
from confpy.templates.golang.expressions import Expressions
from confpy.templates.golang.naming import free_name, identifier, item_name, suggest_name
from confpy.templates.golang.scope import RESERVED, Known, Place, Scope
from confpy.templates.golang.signatures import CHANGES_IN_PLACE
from confpy.templates.golang.usages import Usage, calls, functions, mentions, survey
from confpy.templates.golang.values import ANY, ELEMENTS, INT, LISTS, MAP, NOTHING, PAIR, STRING

_PASSES = 8


def translate(template: nodes.Template, data: str = NOTHING) -> jinja.Template:
    """Return Jinja's tree of a file that is rendered with data of a type; its data is the variable ``data``."""
    known = Known()
    for number in range(_PASSES + 1):
        known.given_up = number >= _PASSES - 1
        before = dict(known.variables), dict(known.data)
        tree = _Translator(template, known, data).file()
        if (known.variables, known.data) == before:
            break
    return tree


class _Translator:
    """One pass: its statements and defined templates."""

    def __init__(self, template: nodes.Template, known: Known, data: str) -> None:
        self._template = template
        self._data = data
        self._known = known
        usages: dict[int, Usage] = {}
        for definition in (template.main, *template.definitions.values()):
            survey(definition.body, usages)
        self._emit = Emitter()
        self._scope = Scope(self._emit, known, usages)
        self._expressions = Expressions(template.source, self._emit, self._scope, known)
        self._called: list[str] = []
        called = {one.name for command in nodes.commands(template) for one in functions(command)}
        self._macros: dict[str, str] = {}
        """Defined template → the macro's name."""
        # Where nothing is defined, nothing has an argument.
        reserved = (RESERVED | called) - (set() if template.order or data else {"data"})
        self._scope.reserve(reserved, self._macros.values())
        for name in template.definitions:
            word = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "part"
            self._macros[name] = self._scope.fresh(f"part_{word}" if word[0].isdigit() else word)

    def file(self) -> jinja.Template:
        root = Place(self._data, "data" if self._data else "")
        self._scope.begin(root)
        body = self._statements(self._template.main.body, root)
        macros = list(map(self._macro, self._called))  # which grows meanwhile
        return jinja.Template([*macros, *body], lineno=1)

    def _macro(self, name: str) -> jinja.Macro:
        data = Place(self._known.data.get(name, ANY), "data")
        self._scope.begin(data, ["data"], 1)
        definition = self._template.definitions[name]
        line = definition.tag.line if definition.tag else 1
        body = self._statements(definition.body, data)
        return jinja.Macro(self._macros[name], [jinja.Name("data", "param", lineno=line)], [], body, lineno=line)

    def _call(self, call: nodes.Call, dot: Place) -> jinja.Node:
        value = self._expressions.pipeline(call.pipeline, dot) if call.pipeline else self._emit.nothing()
        if call.name not in self._template.definitions:
            return self._emit.output([self._emit.fail(f'template "{call.name}" not defined').expr])
        if call.name not in self._called:
            self._called.append(call.name)
        known = self._known.data
        known[call.name] = ANY if self._known.given_up else join_types(known.get(call.name, value.type), value.type)
        settled = self._emit.settled(value)
        macro = jinja.Name(self._macros[call.name], "load", lineno=self._emit.line)
        return self._emit.output([jinja.Call(macro, [settled.expr], [], None, None, lineno=self._emit.line)])

    def _statements(self, body: Iterable[nodes.Statement], dot: Place) -> list[jinja.Node]:
        out: list[jinja.Node] = []
        for statement in body:
            self._emit.line = statement.line if isinstance(statement, nodes.Text) else statement.tag.line
            outer, self._scope.before = self._scope.before, []
            made = self._statement(statement, dot)
            for node in (*self._scope.before, *made):
                _note(node, statement)
                if out and isinstance(node, jinja.Output) and isinstance(out[-1], jinja.Output):
                    out[-1].nodes.extend(node.nodes)
                else:
                    out.append(node)
            self._scope.before = outer
        return out

    def _statement(self, statement: nodes.Statement, dot: Place) -> list[jinja.Node]:
        if isinstance(statement, nodes.Text):
            return [self._emit.output([jinja.TemplateData(statement.text, lineno=statement.line)])]
        if isinstance(statement, nodes.Comment):
            return []
        if isinstance(statement, nodes.Action):
            value = self._expressions.evaluated(statement.pipeline, dot)
            return [] if statement.pipeline.declared else [self._emit.output([value.expr])]
        if isinstance(statement, nodes.Call):
            return [self._call(statement, dot)]
        if isinstance(statement, nodes.Jump):
            kind = jinja.Break if statement.keyword == "break" else jinja.Continue
            return [kind(lineno=self._emit.line)]
        visible = self._scope.mark()
        made = {"if": self._if, "with": self._with, "range": self._range}[statement.keyword](statement, dot)
        self._scope.forget(visible)
        return made

    def _body(self, body: Iterable[nodes.Statement], dot: Place) -> list[jinja.Node]:
        """Translate statements; the variables that they declare end with them."""
        line, visible, floor = self._emit.line, self._scope.mark(), self._scope.enter()
        made = self._statements(body, dot)
        self._scope.forget(visible)
        self._emit.line = line
        self._scope.leave(floor)
        return made

    def _if(self, branch: nodes.Branch, dot: Place) -> list[jinja.Node]:
        first = node = jinja.If(
            self._expressions.evaluated(branch.pipeline, dot).expr,
            self._body(branch.body, dot),
            [],
            [],
            lineno=self._emit.line,
        )
        while branch.orelse is not None:
            chained = branch.orelse[0] if branch.orelse else None
            if not (isinstance(chained, nodes.Branch) and chained.chained):
                node.else_ = self._body(branch.orelse, dot)
                break
            branch = chained
            self._emit.line = branch.tag.line
            outer, self._scope.before = self._scope.before, []
            test = self._expressions.evaluated(branch.pipeline, dot).expr
            before, self._scope.before = self._scope.before, outer
            following = jinja.If(test, self._body(branch.body, dot), [], [], lineno=self._emit.line)
            _note(following, branch)
            if before:
                node.else_ = [*before, following]
                node = following
            else:
                node.elif_.append(following)
        return [first]

    def _with(self, branch: nodes.Branch, dot: Place) -> list[jinja.Node]:
        pipeline = branch.pipeline
        inner = self._held(pipeline, dot)
        if inner is None:
            value = self._emit.settled(self._expressions.pipeline(pipeline, dot))
            inner = self._scope.local(
                free_name(suggest_name(pipeline, "value", self._scope.usages), "value", branch), value.type
            )
            self._scope.set(inner, value)
        for variable in pipeline.declared:
            if pipeline.assigns:
                self._scope.assign(variable, self._scope.read(inner))
            elif self._scope.usages[variable.pos].assigned:
                self._scope.declare(variable, self._scope.read(inner))
            else:
                self._scope.show(variable.name, inner)
        test = self._scope.read(inner).expr
        body = self._body(branch.body, inner)
        orelse = self._body(branch.orelse, dot) if branch.orelse is not None else []
        return [jinja.If(test, body, [], orelse, lineno=self._emit.line)]

    def _held(self, pipeline: nodes.Pipeline, dot: Place) -> Place | None:
        """Return the place that holds a pipeline's value already, and does not change."""
        if pipeline.declared or len(pipeline.commands) != 1 or len(pipeline.commands[0].operands) != 1:
            return None
        operand = pipeline.commands[0].operands[0]
        if isinstance(operand, nodes.Dot):
            return dot if dot.name else None
        if isinstance(operand, nodes.Variable) and not operand.fields:
            place = self._scope.find(operand.name)
            if place is not None and place.name and not place.space and place.type != NOTHING:
                usage = self._scope.usages.get(place.declared)
                return place if usage is None or not usage.assigned else None
        return None

    def _range(self, branch: nodes.Branch, dot: Place) -> list[jinja.Node]:
        pipeline, declared = branch.pipeline, branch.pipeline.declared
        value = self._emit.settled(self._expressions.pipeline(pipeline, dot))
        in_else = branch.orelse is not None and any(mentions(branch.orelse, one.name) for one in declared)
        # Jinja takes a loop that was left, or went on, in its first turn for one without an item.
        jumps = branch.orelse is not None and any(isinstance(one, nodes.Jump) for one in nodes.statements(branch.body))
        if pipeline.assigns or in_else or jumps:
            # Without an item, the variables hold what was ranged over.
            whole = self._scope.local("items", value.type)
            self._scope.set(whole, value)
            value = self._scope.read(whole)
            for variable in declared if pipeline.assigns else ():
                self._scope.assign(variable, value)
        visible = self._scope.mark()
        slotted = value.type in {*LISTS, ANY} and calls(branch.body, CHANGES_IN_PLACE)
        item = ELEMENTS.get(value.type, ANY)
        name = free_name(item_name(pipeline, self._scope.usages), "pair" if item == PAIR else "item", branch)
        element = Place(item, self._scope.fresh(name), slot=slotted)
        self._scope.take(element.name)
        target: jinja.Expr = self._emit.name(element.name, "store")
        key = None
        if len(declared) == 2:
            key = Place(STRING if value.type == MAP else ANY if value.type == ANY else INT)
            key.name = self._scope.fresh(identifier(declared[0].name))
            self._scope.take(key.name)
            target = jinja.Tuple([self._emit.name(key.name, "store"), target], "store", lineno=self._emit.line)
        iterated = self._iterated(value, key is not None, slotted)
        outer, self._scope.before = self._scope.before, []
        for variable, place in zip(declared, [key, element] if key else [element], strict=False):
            assert place is not None
            if pipeline.assigns:
                self._scope.assign(variable, self._scope.read(place))
            elif self._scope.usages[variable.pos].assigned:
                self._scope.declare(variable, self._scope.read(place))
            else:
                self._scope.show(variable.name, place)
        before, self._scope.before = self._scope.before, outer
        body = [*before, *self._body(branch.body, element)]
        self._scope.forget(visible)
        orelse: list[jinja.Node] = []
        if branch.orelse is not None:
            for variable in () if pipeline.assigns or not in_else else declared:
                self._scope.show(variable.name, whole)
            orelse = self._body(branch.orelse, dot)
        loop = jinja.For(target, iterated, body, [] if jumps else orelse, None, False, lineno=self._emit.line)
        if not jumps:
            return [loop]
        return [loop, jinja.If(jinja.Not(value.expr, lineno=self._emit.line), orelse, [], [], lineno=self._emit.line)]

    def _iterated(self, value: Value, keyed: bool, slotted: bool) -> jinja.Expr:
        kind = value.type
        if kind == NOTHING:
            return jinja.List([], lineno=self._emit.line)
        if kind in LISTS and not slotted:
            return self._emit.filter("_enumerate", value.expr) if keyed else value.expr
        if kind in {*LISTS, MAP, ANY}:
            items = self._emit.filter("_slots" if slotted else "_indexed" if keyed else "_each", value.expr)
            return self._emit.filter("_enumerate", items) if slotted and keyed else items
        hint = "range over seq 0 n, or over a list" if kind == INT else ""
        return self._emit.fail(f"range can't iterate over a value of type {kind}", hint=hint).expr


def _note(node: jinja.Node, statement: nodes.Statement) -> None:
    """Remember what a node was made of."""
    for one in node.nodes if isinstance(node, jinja.Output) else [node]:
        one.go = statement  # type: ignore[attr-defined]
