"""A Go template's tree as Jinja's: what a person would write where types are known, calls of the runtime elsewhere.

The tree is compiled as it is; every node has the line of the Go file. Who prints it finds in ``go_type`` what Go would
call the type of an expression, and in ``go`` the Go statement that a statement, or a part of an ``Output``, is made of:
its place, its trim markers, its text. The types of variables and of the data of defined templates are found by
repetition: a pass that meets a second type for one of them begins again with any type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from unicodedata import normalize

from jinja2 import nodes as jinja

from confpy.templates.golang import nodes
from confpy.templates.golang.signatures import CHANGES_IN_PLACE, FUNCTIONS, Signature
from confpy.templates.golang.values import (
    ANY,
    ANYS,
    BOOL,
    COMPLEX,
    ELEMENTS,
    FIELDS,
    FLOAT,
    INT,
    INTS,
    MAP,
    NOTHING,
    PAIR,
    PAIR_LIST,
    PAIRS,
    SERVICES,
    STRING,
    STRINGS,
    VALUE,
    convert,
)
from confpy.templates.registry import FUNCTIONS as ROWS

_PASSES = 8
_LISTS = frozenset({STRINGS, INTS, ANYS, PAIRS, PAIR_LIST, SERVICES})
_NILABLE = _LISTS | {MAP}
_ORDERED = frozenset({STRING, INT, FLOAT})
_OPERATORS = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "lteq", "gt": "gt", "ge": "gteq"}

_RESERVED = frozenset({
    "and", "as", "block", "break", "call", "caller", "context", "continue", "cycler", "data", "dict", "do", "elif",
    "else", "endfor", "endif", "extends", "False", "false", "filter", "for", "from", "if", "ignore", "import", "in",
    "include", "is", "joiner", "kwargs", "loop", "macro", "missing", "namespace", "None", "none", "not", "or",
    "range", "raw", "recursive", "required", "scoped", "self", "set", "super", "trans", "True", "true", "varargs",
    "with", "without",
    # What converted templates call beside the functions below.
    "fail", "go",
}) | {row.name for row in ROWS if row.same and row.name != row.go_name}  # fmt: skip
"""What means something to Jinja, or is the name of a macro's argument."""


class Value(NamedTuple):
    """An expression, and the type that Go would find."""

    expr: jinja.Expr
    type: str


@dataclass(slots=True)
class Place:
    """Where a variable, or the dot, is stored."""

    type: str
    name: str = ""
    """Jinja's name; empty for the data of the file, which is no value."""
    space: str = ""
    """The namespace that it lives in, because it is set in a loop and seen behind it."""
    slot: bool = False
    """It refers to a position in a list that changes under a loop."""
    declared: int = -1
    """The offset of its declaration; -1 for a dot."""


@dataclass(slots=True)
class _Usage:
    """What becomes of a declared variable."""

    assigned: bool = False
    looped: bool = False
    """It is assigned in a loop that stands within its scope."""
    inline: bool = False
    """It is declared between parentheses."""


@dataclass(slots=True)
class _Known:
    """What earlier passes have found."""

    variables: dict[int, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    """Defined template → type of what it is called with."""
    given_up: bool = False


def translate(template: nodes.Template, data: str = NOTHING) -> jinja.Template:
    """Return Jinja's tree of a file that is rendered with data of a type; its data is the variable ``data``."""
    known = _Known()
    for number in range(_PASSES + 1):
        known.given_up = number >= _PASSES - 1
        before = dict(known.variables), dict(known.data)
        tree = _Translator(template, known, data).file()
        if (known.variables, known.data) == before:
            break
    return tree


class _Translator:
    """One pass."""

    def __init__(self, template: nodes.Template, known: _Known, data: str) -> None:
        self._template = template
        self._data = data
        self._known = known
        self._usages: dict[int, _Usage] = {}
        for definition in (template.main, *template.definitions.values()):
            _survey(definition.body, self._usages)
        self._macros: dict[str, str] = {}
        """Defined template → the macro's name."""
        self._called: list[str] = []
        self._stack: list[tuple[str, Place]] = []
        """The variables that are visible, the last one of a name first."""
        self._taken: list[str] = []
        """The names in use by what is visible."""
        self._floor = 0
        """Where the variables of the body in hand begin in the stack."""
        self._line = 1
        """The line of the statement in hand."""
        self._before: list[jinja.Node] = []
        """Statements that the one in hand needs to stand before it."""
        called = {one.name for command in nodes.commands(template) for one in _functions(command)}
        # Where nothing is defined, nothing has an argument.
        self._reserved = (_RESERVED | called) - (set() if template.order or data else {"data"})
        for name in template.definitions:
            word = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "part"
            self._macros[name] = self._fresh(f"part_{word}" if word[0].isdigit() else word)

    def file(self) -> jinja.Template:
        root = Place(self._data, "data" if self._data else "")
        self._stack = [("$", root)]
        body = self._statements(self._template.main.body, root)
        macros = list(map(self._macro, self._called))  # which grows meanwhile
        return jinja.Template([*macros, *body], lineno=1)

    # --- defined templates -------------------------------------------------------------------------------------------

    def _macro(self, name: str) -> jinja.Macro:
        data = Place(self._known.data.get(name, ANY), "data")
        self._stack, self._taken, self._floor = [("$", data)], ["data"], 1
        definition = self._template.definitions[name]
        line = definition.tag.line if definition.tag else 1
        body = self._statements(definition.body, data)
        return jinja.Macro(self._macros[name], [jinja.Name("data", "param", lineno=line)], [], body, lineno=line)

    def _call(self, call: nodes.Call, dot: Place) -> jinja.Node:
        value = self._pipeline(call.pipeline, dot) if call.pipeline else self._nothing()
        if call.name not in self._template.definitions:
            return self._output([self._fail(f'template "{call.name}" not defined').expr])
        if call.name not in self._called:
            self._called.append(call.name)
        known = self._known.data
        known[call.name] = ANY if self._known.given_up else _join(known.get(call.name, value.type), value.type)
        settled = self._settled(value)
        macro = jinja.Name(self._macros[call.name], "load", lineno=self._line)
        return self._output([jinja.Call(macro, [settled.expr], [], None, None, lineno=self._line)])

    # --- statements --------------------------------------------------------------------------------------------------

    def _statements(self, body: Iterable[nodes.Statement], dot: Place) -> list[jinja.Node]:
        out: list[jinja.Node] = []
        for statement in body:
            self._line = statement.line if isinstance(statement, nodes.Text) else statement.tag.line
            outer, self._before = self._before, []
            made = self._statement(statement, dot)
            for node in (*self._before, *made):
                _note(node, statement)
                if out and isinstance(node, jinja.Output) and isinstance(out[-1], jinja.Output):
                    out[-1].nodes.extend(node.nodes)
                else:
                    out.append(node)
            self._before = outer
        return out

    def _statement(self, statement: nodes.Statement, dot: Place) -> list[jinja.Node]:
        if isinstance(statement, nodes.Text):
            return [self._output([jinja.TemplateData(statement.text, lineno=statement.line)])]
        if isinstance(statement, nodes.Comment):
            return []
        if isinstance(statement, nodes.Action):
            value = self._evaluated(statement.pipeline, dot)
            return [] if statement.pipeline.declared else [self._output([value.expr])]
        if isinstance(statement, nodes.Call):
            return [self._call(statement, dot)]
        if isinstance(statement, nodes.Jump):
            kind = jinja.Break if statement.keyword == "break" else jinja.Continue
            return [kind(lineno=self._line)]
        visible = len(self._stack), len(self._taken)
        made = {"if": self._if, "with": self._with, "range": self._range}[statement.keyword](statement, dot)
        self._forget(visible)
        return made

    def _output(self, parts: list[jinja.Expr]) -> jinja.Output:
        return jinja.Output(parts, lineno=self._line)

    def _forget(self, visible: tuple[int, int]) -> None:
        del self._stack[visible[0] :], self._taken[visible[1] :]

    def _body(self, body: Iterable[nodes.Statement], dot: Place) -> list[jinja.Node]:
        """Translate statements; the variables that they declare end with them."""
        line, floor, visible = self._line, self._floor, (len(self._stack), len(self._taken))
        self._floor = len(self._stack)
        made = self._statements(body, dot)
        self._forget(visible)
        self._line, self._floor = line, floor
        return made

    def _if(self, branch: nodes.Branch, dot: Place) -> list[jinja.Node]:
        first = node = jinja.If(
            self._evaluated(branch.pipeline, dot).expr, self._body(branch.body, dot), [], [], lineno=self._line
        )
        while branch.orelse is not None:
            chained = branch.orelse[0] if branch.orelse else None
            if not (isinstance(chained, nodes.Branch) and chained.chained):
                node.else_ = self._body(branch.orelse, dot)
                break
            branch = chained
            self._line = branch.tag.line
            outer, self._before = self._before, []
            test = self._evaluated(branch.pipeline, dot).expr
            before, self._before = self._before, outer
            following = jinja.If(test, self._body(branch.body, dot), [], [], lineno=self._line)
            _note(following, branch)
            if before:
                node.else_ = [*before, following]
                node = following
            else:
                node.elif_.append(following)
        return [first]

    def _with(self, branch: nodes.Branch, dot: Place) -> list[jinja.Node]:
        pipeline = branch.pipeline
        inner = self._kept(pipeline, dot)
        if inner is None:
            value = self._settled(self._pipeline(pipeline, dot))
            inner = self._local(self._free(self._suggest(pipeline, "value"), "value", branch), value.type)
            self._set(inner, value)
        for variable in pipeline.declared:
            if pipeline.assigns:
                self._assign(variable, self._read(inner))
            elif self._usages[variable.pos].assigned:
                self._declare(variable, self._read(inner))
            else:
                self._stack.append((variable.name, inner))
        test = self._read(inner).expr
        body = self._body(branch.body, inner)
        orelse = self._body(branch.orelse, dot) if branch.orelse is not None else []
        return [jinja.If(test, body, [], orelse, lineno=self._line)]

    def _kept(self, pipeline: nodes.Pipeline, dot: Place) -> Place | None:
        """Return the place that holds a pipeline's value already, and does not change."""
        if pipeline.declared or len(pipeline.commands) != 1 or len(pipeline.commands[0].operands) != 1:
            return None
        operand = pipeline.commands[0].operands[0]
        if isinstance(operand, nodes.Dot):
            return dot if dot.name else None
        if isinstance(operand, nodes.Variable) and not operand.fields:
            place = self._find(operand.name)
            if place is not None and place.name and not place.space and place.type != NOTHING:
                usage = self._usages.get(place.declared)
                return place if usage is None or not usage.assigned else None
        return None

    def _range(self, branch: nodes.Branch, dot: Place) -> list[jinja.Node]:
        pipeline, declared = branch.pipeline, branch.pipeline.declared
        value = self._settled(self._pipeline(pipeline, dot))
        in_else = branch.orelse is not None and any(_mentions(branch.orelse, one.name) for one in declared)
        # Jinja takes a loop that was left, or went on, in its first turn for one without an item.
        jumps = branch.orelse is not None and any(isinstance(one, nodes.Jump) for one in nodes.statements(branch.body))
        if pipeline.assigns or in_else or jumps:
            # Without an item, the variables hold what was ranged over.
            whole = self._local("items", value.type)
            self._set(whole, value)
            value = self._read(whole)
            for variable in declared if pipeline.assigns else ():
                self._assign(variable, value)
        visible = len(self._stack), len(self._taken)
        slotted = value.type in {*_LISTS, ANY} and _calls(branch.body, CHANGES_IN_PLACE)
        item = ELEMENTS.get(value.type, ANY)
        name = self._free(self._item_name(pipeline), "pair" if item == PAIR else "item", branch)
        element = Place(item, self._fresh(name), slot=slotted)
        self._taken.append(element.name)
        target: jinja.Expr = self._name(element.name, "store")
        key = None
        if len(declared) == 2:
            key = Place(STRING if value.type == MAP else ANY if value.type == ANY else INT)
            key.name = self._fresh(_identifier(declared[0].name))
            self._taken.append(key.name)
            target = jinja.Tuple([self._name(key.name, "store"), target], "store", lineno=self._line)
        iterated = self._iterated(value, key is not None, slotted)
        outer, self._before = self._before, []
        for variable, place in zip(declared, [key, element] if key else [element], strict=False):
            assert place is not None
            if pipeline.assigns:
                self._assign(variable, self._read(place))
            elif self._usages[variable.pos].assigned:
                self._declare(variable, self._read(place))
            else:
                self._stack.append((variable.name, place))
        before, self._before = self._before, outer
        body = [*before, *self._body(branch.body, element)]
        self._forget(visible)
        orelse: list[jinja.Node] = []
        if branch.orelse is not None:
            for variable in () if pipeline.assigns or not in_else else declared:
                self._stack.append((variable.name, whole))
            orelse = self._body(branch.orelse, dot)
        loop = jinja.For(target, iterated, body, [] if jumps else orelse, None, False, lineno=self._line)
        if not jumps:
            return [loop]
        return [loop, jinja.If(jinja.Not(value.expr, lineno=self._line), orelse, [], [], lineno=self._line)]

    def _iterated(self, value: Value, keyed: bool, slotted: bool) -> jinja.Expr:
        kind = value.type
        if kind == NOTHING:
            return jinja.List([], lineno=self._line)
        if kind in _LISTS and not slotted:
            return self._filter("_enumerate", value.expr) if keyed else value.expr
        if kind in {*_LISTS, MAP, ANY}:
            items = self._filter("_slots" if slotted else "_indexed" if keyed else "_each", value.expr)
            return self._filter("_enumerate", items) if slotted and keyed else items
        hint = "range over seq 0 n, or over a list" if kind == INT else ""
        return self._fail(f"range can't iterate over a value of type {kind}", hint=hint).expr

    # --- variables ---------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Place | None:
        return next((place for known, place in reversed(self._stack) if known == name), None)

    def _fresh(self, wanted: str) -> str:
        """Return a name that nothing visible has, like the one that is wanted."""
        taken = {*self._taken, *self._macros.values()}
        if wanted in self._reserved:
            wanted += "_"
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}{number}", number + 1
        return name

    def _local(self, wanted: str, kind: str) -> Place:
        place = Place(kind, self._fresh(wanted))
        self._taken.append(place.name)
        return place

    def _name(self, name: str, ctx: str = "load") -> jinja.Name:
        return jinja.Name(name, ctx, lineno=self._line)

    def _read(self, place: Place) -> Value:
        if not place.name:
            return self._nothing()
        if place.space:
            expr: jinja.Expr = jinja.Getattr(self._name(place.space), place.name, "load", lineno=self._line)
        else:
            expr = self._name(place.name)
        if place.slot:
            expr = jinja.Getattr(expr, "value", "load", lineno=self._line)
        return self._value(expr, place.type)

    def _set(self, place: Place, value: Value) -> None:
        target: jinja.Expr = self._name(place.name, "store")
        if place.space:
            target = jinja.NSRef(place.space, place.name, lineno=self._line)
        self._before.append(jinja.Assign(target, value.expr, lineno=self._line))

    def _declare(self, variable: nodes.Variable, value: Value) -> Place:
        place = self._declared(variable, value.type)
        if place.space and place.space not in self._taken:
            self._open_space(place, value)
        else:
            self._set(place, value)
        self._stack.append((variable.name, place))
        return place

    def _declared(self, variable: nodes.Variable, kind: str) -> Place:
        """Return the place of a new variable."""
        usage = self._usages[variable.pos]
        if usage.assigned:
            kind = self._known.variables.get(variable.pos, ANY if self._known.given_up else kind)
        name = _identifier(variable.name)
        if usage.looped or usage.inline:
            return Place(kind, name, self._fresh("ns"), declared=variable.pos)
        before = [place for known, place in self._stack[self._floor :] if known == variable.name and place.name == name]
        place = Place(kind, name) if before else self._local(name, kind)
        place.declared = variable.pos
        return place

    def _open_space(self, place: Place, value: Value | None) -> None:
        keywords = [jinja.Keyword(place.name, value.expr, lineno=self._line)] if value else []
        made = jinja.Call(self._name("namespace"), [], keywords, None, None, lineno=self._line)
        self._before.append(jinja.Assign(self._name(place.space, "store"), made, lineno=self._line))
        self._taken.append(place.space)

    def _assign(self, variable: nodes.Variable, value: Value) -> None:
        place = self._find(variable.name)
        if place is None or place.declared < 0:
            failure = self._fail(f"undefined variable: {variable.name}", hint="declare it with :=")
            self._before.append(self._output([failure.expr]))
            return
        if _join(place.type, value.type) != place.type:
            self._known.variables[place.declared] = ANY
        self._set(place, value)

    def _evaluated(self, pipeline: nodes.Pipeline, dot: Place) -> Value:
        """Return the value of a statement's pipeline, after it has set its variable."""
        value = self._pipeline(pipeline, dot)
        for variable in pipeline.declared:
            value = self._settled(value)
            if pipeline.assigns:
                self._assign(variable, value)
                place = self._find(variable.name)
            else:
                place = self._declare(variable, value)
            value = self._read(place) if place else value
        return value

    # --- expressions -------------------------------------------------------------------------------------------------

    def _value(self, expr: jinja.Expr, kind: str) -> Value:
        expr.go_type = kind  # type: ignore[attr-defined]
        return Value(expr, kind)

    def _constant(self, value: object, kind: str) -> Value:
        return self._value(jinja.Const(value, lineno=self._line), kind)

    def _nothing(self) -> Value:
        return self._constant(None, NOTHING)

    def _filter(self, name: str, first: jinja.Expr, *others: jinja.Expr, line: int = 0) -> jinja.Expr:
        """Call a function of the environment: as a filter it costs no look-up."""
        arguments = [first, *others]
        if line and line != self._line:
            # Python knows one line for each statement.
            arguments = [jinja.Const(line, lineno=self._line), jinja.Const(name, lineno=self._line), *arguments]
            name = "_at"
        return jinja.Filter(arguments[0], name, arguments[1:], [], None, None, lineno=self._line)

    def _fail(self, message: str, line: int = 0, hint: str = "") -> Value:
        others = [jinja.Const(hint, lineno=self._line)] if hint else []
        return self._value(self._filter("_refuse", jinja.Const(message, lineno=self._line), *others, line=line), ANY)

    def _settled(self, value: Value) -> Value:
        """Return what a pipeline ends in: there null is no value."""
        return self._value(self._filter("_settle", value.expr), ANY) if value.type == ANY else value

    def _text_of(self, node: nodes.Expression | nodes.Command) -> str:
        return self._template.source[node.pos : node.end]

    def _pipeline(self, pipeline: nodes.Pipeline, dot: Place) -> Value:
        """Return the value of a pipeline; who asks sets its variables."""
        value = None
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        assert value is not None
        return value

    def _inner(self, pipeline: nodes.Pipeline, dot: Place) -> Value:
        """Return the value of a pipeline between parentheses, which may set a variable on its way."""
        value = self._pipeline(pipeline, dot)
        for variable in pipeline.declared:
            value = self._settled(value)
            place = self._find(variable.name)
            if not pipeline.assigns:
                place = self._declared(variable, value.type)
                self._open_space(place, None)
                self._stack.append((variable.name, place))
            if place is None or not place.space:
                return self._fail(f"undefined variable: {variable.name}", pipeline.line)
            if _join(place.type, value.type) != place.type:
                self._known.variables[place.declared] = ANY
            name = jinja.Const(place.name, lineno=self._line)
            value = self._value(self._filter("_keep", value.expr, self._name(place.space), name), value.type)
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
            return self._fail(f"can't give argument to non-function {self._text_of(first)}", first.line, hint)
        if isinstance(first, nodes.Nil):
            return self._fail("nil is not a command", first.line)
        return self._operand(first, dot)

    def _operand(self, node: nodes.Expression, dot: Place) -> Value:
        if isinstance(node, nodes.Bool):
            return self._constant(node.value, BOOL)
        if isinstance(node, nodes.String):
            return self._constant(node.value, STRING)
        if isinstance(node, nodes.Number):
            return self._number(node)
        if isinstance(node, nodes.Nil):
            return self._nothing()
        if isinstance(node, nodes.Dot):
            return self._read(dot)
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
            return self._read(dot), node.names
        if isinstance(node, nodes.Variable):
            place = self._find(node.name)
            if place is None:
                return self._fail(f"undefined variable: {node.name}", node.line), node.fields
            return self._read(place), node.fields
        if isinstance(node.operand, nodes.Nil):
            return self._fail("indirection through explicit nil", node.line), node.fields
        return self._settled(self._operand(node.operand, dot)), node.fields

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
        last = jinja.Const(names[-1], lineno=self._line)
        return self._value(self._filter("_field", receiver.expr, last, *given, line=node.line), ANY)

    def _field(self, receiver: Value, name: str, line: int) -> Value:
        kind = receiver.type
        if kind == NOTHING:
            return receiver
        known = FIELDS.get(kind, {})
        if name in known:
            return self._value(jinja.Getattr(receiver.expr, name.lower(), "load", lineno=self._line), known[name])
        constant = jinja.Const(name, lineno=self._line)
        if kind == MAP:
            return self._value(self._filter("_entry", receiver.expr, constant), ANY)
        return self._value(self._filter("_field", receiver.expr, constant, line=line), ANY)

    def _number(self, node: nodes.Number) -> Value:
        """Return a constant as Go types it by its looks."""
        text = node.text
        if node.imaginary is not None:
            return self._constant(node.imaginary, COMPLEX)
        looks_float = any(sign in text for sign in ".eEpP") and text[0] != "'"
        if looks_float and (not re.match("0[xX]", text) or any(sign in text for sign in "pP")):
            return self._constant(node.floating, FLOAT)
        if node.integer is None:
            return self._fail(f"{text} overflows int", node.line)
        return self._constant(node.integer, INT)

    # --- functions ---------------------------------------------------------------------------------------------------

    def _function(
        self, name: str, arguments: Sequence[nodes.Expression], dot: Place, final: Value | None, line: int
    ) -> Value:
        signature = FUNCTIONS[name]
        fixed, count = len(signature.parameters), len(arguments) + (final is not None)
        if count < fixed or (count > fixed and signature.rest is None):
            want = f"want at least {fixed} got {len(arguments)}" if signature.rest else f"want {fixed} got {count}"
            return self._fail(f"wrong number of args for {name}: {want}", line)
        if name in {"and", "or"}:
            return self._logic(name, arguments, dot, final)
        wanted = [*signature.parameters, *[signature.rest or ANY] * (count - fixed)]
        given = [self._typed(node, kind, dot) for node, kind in zip(arguments, wanted, strict=False)]
        if final is not None:
            given.append(Value(self._coerced(final, wanted[-1], line), final.type))
        special = _SPECIAL.get(name)
        made = special(self, name, given, line) if special else None
        if made is None:
            made = self._applied(name, [one.expr for one in given], _result(name, signature, given), line)
        return made

    def _applied(self, name: str, given: Sequence[jinja.Expr], kind: str, line: int) -> Value:
        if given:
            return self._value(self._filter(name, *given, line=line), kind)
        return self._value(jinja.Call(self._name(name), [], [], None, None, lineno=self._line), kind)

    def _typed(self, node: nodes.Expression, wanted: str, dot: Place) -> Value:
        """Return an argument, and the type that it has itself."""
        if isinstance(node, nodes.Nil):
            if wanted in {ANY, VALUE}:
                return self._nothing()
            if wanted in _NILABLE:
                return Value(self._coerced(self._nothing(), wanted, node.line), wanted)
            return self._fail(f"cannot assign nil to {wanted}", node.line)
        if isinstance(node, nodes.Bool | nodes.String | nodes.Number) and wanted not in {ANY, VALUE}:
            return self._literal(node, wanted)
        value = self._operand(node, dot)
        return Value(self._coerced(value, wanted, node.line), value.type)

    def _argument(self, node: nodes.Expression, wanted: str, dot: Place) -> jinja.Expr:
        return self._typed(node, wanted, dot).expr

    def _literal(self, node: nodes.Bool | nodes.String | nodes.Number, wanted: str) -> Value:
        text = self._text_of(node)
        if wanted == STRING and isinstance(node, nodes.String):
            return self._constant(node.value, STRING)
        if wanted == BOOL and isinstance(node, nodes.Bool):
            return self._constant(node.value, BOOL)
        if wanted == INT and isinstance(node, nodes.Number) and node.integer is not None:
            return self._constant(node.integer, INT)
        if wanted in _NILABLE:
            return self._fail(f"can't handle {text} for arg of type {wanted}", node.line)
        hint = "put it between double quotes" if wanted == STRING else ""
        if wanted == INT and isinstance(node, nodes.String):
            hint = "a number stands without quotes"
        return self._fail(f"expected {'integer' if wanted == INT else wanted}; found {text}", node.line, hint)

    def _coerced(self, value: Value, wanted: str, line: int) -> jinja.Expr:
        """Return a value as an argument of a type: Go does not convert, it only refuses."""
        kind = value.type
        if wanted in {ANY, VALUE, kind} or {kind, wanted} == {PAIRS, PAIR_LIST}:
            return value.expr
        if kind == ANY:
            if wanted == STRING:
                return self._filter("_expect_string", value.expr, line=line)
            return self._filter("_expect", value.expr, jinja.Const(wanted, lineno=self._line), line=line)
        if kind == NOTHING:
            if wanted in _NILABLE:
                return self._filter("_empty", jinja.Const(wanted, lineno=self._line))
            return self._fail(f"invalid value; expected {wanted}", line).expr
        return self._fail(f"wrong type for value; expected {wanted}; got {kind}", line, convert(kind, wanted)).expr

    def _logic(self, name: str, arguments: Sequence[nodes.Expression], dot: Place, final: Value | None) -> Value:
        given = [self._typed(argument, VALUE, dot) for argument in arguments]
        if not given and final is None:
            return self._fail(f"wrong number of args for {name}: want at least 1 got 0")
        given += [final] if final is not None else []
        kind = given[0].type
        for one in given[1:]:
            kind = _join(kind, one.type)
        operator = jinja.And if name == "and" else jinja.Or
        expr = given[-1].expr
        for one in reversed(given[:-1]):
            expr = operator(one.expr, expr, lineno=self._line)
        if final is not None and arguments and not isinstance(final.expr, jinja.Const | jinja.Name):
            # What comes through the pipe is known before the arguments are looked at.
            expr = jinja.And(self._filter("_done", final.expr), expr, lineno=self._line)
        return self._value(expr, kind)

    def _compare(self, name: str, given: list[Value], line: int) -> Value | None:
        kinds = {one.type for one in given}
        if len(given) < 2 or len(kinds) > 1 or not kinds <= (_ORDERED | ({BOOL} if name in {"eq", "ne"} else set())):
            return None
        del line
        first, *others = (one.expr for one in given)
        if len(others) == 1:
            operand = jinja.Operand(_OPERATORS[name], others[0], lineno=self._line)
        else:
            operand = jinja.Operand("in", jinja.Tuple(others, "load", lineno=self._line), lineno=self._line)
        return self._value(jinja.Compare(first, [operand], lineno=self._line), BOOL)

    def _not(self, _name: str, given: list[Value], _line: int) -> Value:
        return self._value(jinja.Not(given[0].expr, lineno=self._line), BOOL)

    def _len(self, _name: str, given: list[Value], _line: int) -> Value | None:
        if given[0].type not in {*_LISTS, MAP}:
            return None
        return self._value(self._filter("length", given[0].expr), INT)

    def _printf(self, _name: str, given: list[Value], _line: int) -> Value | None:
        """Format with Jinja's own means where they do the same as Go's."""
        template, kinds = given[0].expr, [one.type for one in given[1:]]
        if not isinstance(template, jinja.Const) or not isinstance(template.value, str):
            return None
        parts = _FORMAT.split(template.value)
        texts, verbs = parts[::2], parts[1::2]
        fits = [_FITTING[verb[-1]] for verb in verbs if verb != "%%"]
        if "%" in "".join(texts) or len(fits) != len(kinds) or not all(map(set.__contains__, fits, kinds)):
            return None
        if any(verb not in {"%s", "%d", "%v", "%%"} for verb in verbs):
            plain = "".join(text + verb.replace("v", "s") for text, verb in zip(texts, [*verbs, ""], strict=True))
            shape = jinja.Const(plain, lineno=self._line)
            return self._value(self._filter("format", shape, *(one.expr for one in given[1:])), STRING)
        pieces: list[jinja.Expr] = []
        values = iter(given[1:])
        literal = ""
        for text, verb in zip(texts, [*verbs, ""], strict=True):
            literal += text + ("%" if verb == "%%" else "")
            if verb and verb != "%%":
                pieces += [jinja.Const(literal, lineno=self._line)] if literal else []
                pieces.append(next(values).expr)
                literal = ""
        pieces += [jinja.Const(literal, lineno=self._line)] if literal or not pieces else []
        if len(pieces) == 1 and (isinstance(pieces[0], jinja.Const) or kinds == [STRING]):
            return self._value(pieces[0], STRING)
        return self._value(jinja.Concat(pieces, lineno=self._line), STRING)

    # --- names -------------------------------------------------------------------------------------------------------

    def _item_name(self, pipeline: nodes.Pipeline) -> str:
        """Return the name for what a loop is about: its variable's, or one drawn from what is ranged over."""
        if pipeline.declared and not pipeline.assigns and not self._usages[pipeline.declared[-1].pos].assigned:
            return _identifier(pipeline.declared[-1].name)
        return _singular(self._suggest(pipeline, "item"))

    def _free(self, wanted: str, otherwise: str, branch: nodes.Branch) -> str:
        """Return a name for what has none in Go, unless a variable of the branch's body is called so."""
        if branch.pipeline.declared:
            return wanted
        variables = (
            variable.name
            for one in nodes.statements(branch.body)
            if isinstance(one, nodes.Action | nodes.Branch)
            for variable in one.pipeline.declared
        )
        return otherwise if wanted in map(_identifier, variables) else wanted

    def _suggest(self, pipeline: nodes.Pipeline, otherwise: str) -> str:
        """Return a name for the value of a pipeline."""
        if pipeline.declared and not pipeline.assigns and not self._usages[pipeline.declared[-1].pos].assigned:
            return _identifier(pipeline.declared[-1].name)
        first = pipeline.commands[0].operands[0]
        while isinstance(first, nodes.Pipeline):
            pipeline = first
            first = first.commands[0].operands[0]
        if isinstance(first, nodes.Field):
            return _identifier(first.names[-1])
        if isinstance(first, nodes.Variable | nodes.Chain) and first.fields:
            return _identifier(first.fields[-1])
        if isinstance(first, nodes.Variable):
            return _identifier(first.name)
        path = next((one for one in pipeline.commands[0].operands if isinstance(one, nodes.String)), None)
        segments = re.findall(r"[A-Za-z_]\w*", path.value, re.ASCII) if path else []
        if isinstance(first, nodes.Function) and segments and first.name in {"get", "getv", "gets", "getvs", "getenv"}:
            return _identifier(segments[-1].lower())
        names = {
            "ls": "names",
            "lsdir": "names",
            "seq": "numbers",
            "gets": "pairs",
            "getvs": "values",
            "split": "parts",
        }
        return names.get(first.name, otherwise) if isinstance(first, nodes.Function) else otherwise


_SPECIAL: dict[str, Callable[[_Translator, str, list[Value], int], Value | None]] = {
    **dict.fromkeys(_OPERATORS, _Translator._compare),  # noqa: SLF001 - a table of its methods
    "not": _Translator._not,  # noqa: SLF001
    "len": _Translator._len,  # noqa: SLF001
    "printf": _Translator._printf,  # noqa: SLF001
}

# What Go and Python format alike.
_FORMAT = re.compile(r"(%(?:%|[-+0]*[0-9]{0,3}d|-?(?:[1-9][0-9]{0,2})?(?:\.[0-9]{1,3})?s|v))")
_FITTING = {"d": {INT}, "s": {STRING}, "v": {INT, STRING}}


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


def _note(node: jinja.Node, statement: nodes.Statement) -> None:
    """Remember what a node was made of."""
    for one in node.nodes if isinstance(node, jinja.Output) else [node]:
        one.go = statement  # type: ignore[attr-defined]


def _join(kind: str, other: str) -> str:
    return kind if kind == other else ANY


def _identifier(name: str) -> str:
    """Return a name of Jinja for one of Go: Python reads some letters alike that Go does not."""
    word = name.lstrip("$")
    if not word.isidentifier() or normalize("NFKC", word) != word or word.startswith("_"):
        word = "v_" + re.sub(r"[^0-9A-Za-z]", "", word)
    return word


def _singular(name: str) -> str:
    for ending, one in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("ses", "s"), ("s", "")):
        if name.endswith(ending) and len(name) > len(ending) + 1 and not name.endswith("ss"):
            return name[: -len(ending)] + one
    return name


# --- surveys ---------------------------------------------------------------------------------------------------------


def _survey(body: Iterable[nodes.Statement], usages: dict[int, _Usage]) -> None:
    """Find out what becomes of the variables that are declared in a definition."""
    visible: list[tuple[str, _Usage, int]] = []

    def meet(pipeline: nodes.Pipeline, loops: int, *, inline: bool = False) -> None:
        for inner in _within(pipeline):
            meet(inner, loops, inline=True)
        for variable in pipeline.declared:
            if not pipeline.assigns:
                usage = usages[variable.pos] = _Usage(inline=inline)
                visible.append((variable.name, usage, loops))
                continue
            for name, usage, depth in reversed(visible):
                if name == variable.name:
                    usage.assigned = True
                    usage.looped |= loops > depth
                    usage.inline |= inline
                    break

    def walk(statements: Iterable[nodes.Statement], loops: int) -> None:
        for statement in statements:
            if isinstance(statement, nodes.Action | nodes.Call) and statement.pipeline:
                meet(statement.pipeline, loops)
            branch = statement if isinstance(statement, nodes.Branch) else None
            mark = len(visible)
            while branch is not None:
                deeper = loops + (branch.keyword == "range")
                # The variables of a loop live in its body, and are set there by a loop that assigns.
                meet(branch.pipeline, deeper)
                inside = len(visible)
                walk(branch.body, deeper)
                del visible[inside:]
                chained = branch.orelse[0] if branch.orelse else None
                if isinstance(chained, nodes.Branch) and chained.chained:
                    branch = chained
                    continue
                if branch.orelse:
                    walk(branch.orelse, loops)
                break
            if isinstance(statement, nodes.Branch):
                del visible[mark:]

    walk(body, 0)


def _within(pipeline: nodes.Pipeline) -> Iterator[nodes.Pipeline]:
    """Yield the pipelines that stand between parentheses in a pipeline, not those in these."""
    for command in pipeline.commands:
        for operand in map(nodes.innermost, command.operands):
            if isinstance(operand, nodes.Pipeline):
                yield operand


def _functions(command: nodes.Command) -> Iterator[nodes.Function]:
    operands = map(nodes.innermost, command.operands)
    return (one for one in operands if isinstance(one, nodes.Function))


def _mentions(body: Iterable[nodes.Statement], variable: str) -> bool:
    operands = (nodes.innermost(operand) for command in nodes.commands_within(body) for operand in command.operands)
    return any(isinstance(one, nodes.Variable) and one.name == variable for one in operands)


def _calls(body: Iterable[nodes.Statement], names: Collection[str]) -> bool:
    operands = (nodes.innermost(operand) for command in nodes.commands_within(body) for operand in command.operands)
    return any(isinstance(one, nodes.Function) and one.name in names for one in operands)
