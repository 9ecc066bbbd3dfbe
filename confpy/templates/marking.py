"""Renders templates that were changed to note where each part of the output stands, and what it depends on. Pure.

The template's tree is changed before it is compiled: each part of the output, each condition, loop and assignment goes
through a filter of ``LineTrace``. The arguments of a filter are computed from left to right, so that one filter notes
where an expression begins, and another what was looked at until it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from confpy.config.resource import Resource
from confpy.keys.view import View
from confpy.templates import engine, jinja
from confpy.templates.context import RenderContext
from confpy.templates.lines import Line, LineTrace, Spot
from confpy.templates.results import NO_FILE, Compiled, World, template_lookup
from confpy.templates.runtime import new_context
from confpy.templates.trace import tracing

Naming = TypeVar("Naming", nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


_TAG = "{%"


class LineRenderer:
    """Renders with tracing: the result is that of a ``Renderer``, line by line."""

    def __init__(self, *, sandbox: bool = False) -> None:
        """``sandbox``: as a ``Renderer`` takes it."""
        self._sandbox = sandbox
        self.fault: Spot | None = None
        """Where the last render failed, if it did."""

    def render(self, resource: Resource, view: View, world: World) -> tuple[Line, ...]:
        """Render; raises ``Needs``, and whatever the template raises, which a ``Renderer`` explains."""
        context = RenderContext()
        context.begin(view, world, resource.delimiters, resource.watch_files, resource.item)
        trace = LineTrace(view)
        self.fault = None
        compiled = context.source(template_lookup(resource.src, resource.engine, resource.delimiters))
        template = _Marker(context, trace, sandbox=self._sandbox).template(compiled)
        try:
            return tuple(trace.lines(trace.concat(template.root_render_func(new_context(template)))))
        except Exception:
            self.fault = trace.at_work()
            raise


class _Marker:
    """Makes templates of both languages that trace."""

    def __init__(self, context: RenderContext, trace: LineTrace, *, sandbox: bool) -> None:
        self._context = context
        self._trace = trace
        self._sandbox = sandbox
        self._environments: dict[str, jinja2.Environment] = {}

    def template(self, compiled: Compiled, *, included: bool = False) -> jinja2.Template:
        """Return a template; ``included``: it is one in Go's language that another one includes."""
        environment = self._environment(compiled.engine)
        if compiled.engine == "go":
            tree = _go_tree(compiled, self._context.delimiters, included=included)
            tree.set_environment(environment)
        else:
            if self._context.delimiters:
                environment.variable_start_string, environment.variable_end_string = self._context.delimiters
            tree = environment.parse(compiled.source, compiled.name, compiled.file)
        columns = _Columns(compiled.source, environment.variable_start_string)
        marked = _Marking(self._trace, compiled, columns).visit(tree)
        code = environment.compile(marked, compiled.name, NO_FILE)
        template = environment.template_class.from_code(environment, code, environment.globals)
        template.name, template.filename = compiled.name, compiled.file
        return template

    def _environment(self, language: str) -> jinja2.Environment:
        made = self._environments.get(language)
        if made is not None:
            return made
        context, trace = self._context, self._trace
        if language == "go":
            from confpy.templates.golang.environment import environment as go_environment  # where there is one

            made = go_environment(context, sandbox=self._sandbox)
            made.filters["include"] = made.globals["include"] = self._include
        else:
            made = engine.environment(context, sandbox=self._sandbox, extensions=jinja.EXTENSIONS)
            made.loader = _Loader(context, self.template)
        assert made.finalize is not None
        trace.printed[language] = made.finalize
        tracing(made, context, trace)
        made.finalize = None
        # What compares a key of the store with a constant is not one.
        made.optimized = False
        made.concat = trace.concat  # type: ignore[assignment,method-assign]
        made.filters |= _filters(trace, language)
        self._environments[language] = made
        return made

    def _include(self, name: Any, *data: object) -> Any:
        """Go's ``include``: the parts of what is included stay those of its own lines."""
        plain = self._trace.unwrap(name)
        with self._context.entered(plain):
            template = self.template(self._context.template(plain, "included"), included=True)
            given = {"data": data[0] if data else _missing()}
            return self._trace.concat(template.root_render_func(template.new_context(given)))


class _Loader(engine.FactLoader):
    """Takes the templates that others name from the facts, and marks them."""

    def __init__(self, context: RenderContext, mark: Callable[[Compiled], jinja2.Template]) -> None:
        super().__init__(context)
        self._mark = mark

    def _make(self, compiled: Compiled, environment: jinja2.Environment) -> jinja2.Template:  # noqa: ARG002 - its own
        return self._mark(compiled)


def _missing() -> object:
    from confpy.templates.golang.values import MISSING

    return MISSING


def _go_tree(compiled: Compiled, delimiters: tuple[str, ...], *, included: bool) -> nodes.Template:
    from confpy.templates.golang.parser import parse
    from confpy.templates.golang.signatures import FUNCTIONS
    from confpy.templates.golang.translate import translate
    from confpy.templates.golang.values import ANY, NOTHING

    return translate(parse(compiled.source, compiled.name, FUNCTIONS, delimiters), ANY if included else NOTHING)


def _filters(trace: LineTrace, language: str) -> dict[str, Callable[..., Any]]:
    """Return what a marked template calls. With a context, so that Jinja does not call them while it compiles."""

    @pass_context
    def begin(_: object, number: int) -> int:
        return trace.begin(number)

    @pass_context
    def piece(_: object, number: int, value: Any) -> Any:
        return trace.piece(number, value, language)

    @pass_context
    def decided(_: object, number: int, value: Any) -> Any:
        return trace.decided(number, value)

    @pass_context
    def assigned(_: object, number: int, value: Any) -> Any:
        return trace.assigned(number, value)

    @pass_context
    def chosen(_: object, value: Any, *guards: int) -> Any:
        return trace.chosen(value, guards)

    @pass_context
    def turn(_: object, number: int, *values: Any) -> None:
        trace.turn(number, values)

    @pass_context
    def plain(_: object, value: Any) -> Any:
        return trace.unwrap(value)

    return {
        "_begin": begin, "_piece": piece, "_decided": decided, "_assigned": assigned, "_chosen": chosen, "_turn": turn,
        "_plain": plain,
    }  # fmt: skip


class _Columns:
    """Where on their lines expressions begin. Jinja's nodes know their lines alone."""

    def __init__(self, source: str, sign: str) -> None:
        self._lines = source.split("\n")
        self._sign = sign
        self._seen: dict[int, int] = {}

    def next(self, line: int) -> int:
        """Return the column of the next expression of a line, from 1; 0 where it is not known."""
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        at = text.find(self._sign, self._seen.get(line, 0))
        self._seen[line] = at + 1
        return at + 1

    def of_tag(self, line: int) -> int:
        """Return the column of the only statement of a line; 0 where there are several."""
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return text.find(_TAG) + 1 if text.count(_TAG) == 1 else 0


class _Marking(NodeTransformer):
    """Changes the tree of one template."""

    def __init__(self, trace: LineTrace, compiled: Compiled, columns: _Columns) -> None:
        self._trace = trace
        self._compiled = compiled
        self._columns = columns
        self._guards: tuple[int, ...] = ()

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802 - Jinja's name
        node.nodes = [self._piece(part) for part in node.nodes]
        return node

    def visit_If(self, node: nodes.If) -> list[nodes.Node]:  # noqa: N802 - Jinja's name
        outer = self._guards
        targets = {_spelled(one.target): one.target for one in node.find_all(nodes.Assign) if _spelled(one.target)}
        for branch in (node, *node.elif_):
            number = self._guard(branch)
            branch.test = _through("_decided", number, self.visit(branch.test))
            self._guards += (number,)
            branch.body = self._all(branch.body)
        node.else_ = self._all(node.else_)
        guards = [nodes.Const(number, lineno=node.lineno) for number in self._guards[len(outer) :]]
        self._guards = outer
        # What is assigned, or not, in one of the branches depends on the conditions from there on.
        after = [
            nodes.Assign(one, _filter("_chosen", _loaded(one), *guards), lineno=node.lineno) for one in targets.values()
        ]
        return [node, *after]

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's name
        outer, number = self._guards, self._guard(node)
        node.iter = _through("_decided", number, self.visit(node.iter))
        if node.test is not None:
            node.test = self.visit(node.test)
        self._guards += (number,)
        turn = _filter("_turn", nodes.Const(number, lineno=node.lineno), *_names(node.target))
        node.body = [nodes.ExprStmt(turn, lineno=node.lineno), *self._all(node.body)]
        node.else_ = self._all(node.else_)
        self._guards = outer
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:  # noqa: N802 - Jinja's name
        node.node = _through("_assigned", self._guard(node), self.visit(node.node))
        return node

    def visit_Include(self, node: nodes.Include) -> nodes.Node:  # noqa: N802 - Jinja's name
        return self._named(node)

    def visit_Import(self, node: nodes.Import) -> nodes.Node:  # noqa: N802 - Jinja's name
        return self._named(node)

    def visit_FromImport(self, node: nodes.FromImport) -> nodes.Node:  # noqa: N802 - Jinja's name
        return self._named(node)

    def visit_Extends(self, node: nodes.Extends) -> nodes.Node:  # noqa: N802 - Jinja's name
        return self._named(node)

    def _named(self, node: Naming) -> Naming:
        """Let Jinja take the name of another template from a plain value."""
        if not isinstance(node.template, nodes.Const | nodes.List | nodes.Tuple):
            node.template = _filter("_plain", self.visit(node.template))
        return node

    def _all(self, body: Sequence[nodes.Node]) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for node in body:
            one = self.visit(node)
            made += one if isinstance(one, list) else [one]
        return made

    def _piece(self, part: nodes.Expr) -> nodes.Expr:
        if isinstance(part, nodes.TemplateData):
            return _through("_piece", self._spot(part, 0, part.data), part)
        column = self._go_column(part) or self._columns.next(part.lineno)
        return _through("_piece", self._spot(part, column), self.visit(part))

    def _guard(self, node: nodes.Node) -> int:
        """Return the number of a condition, a loop or an assignment."""
        return self._spot(node, self._go_column(node) or self._columns.of_tag(node.lineno))

    def _spot(self, node: nodes.Node, column: int, data: str | None = None) -> int:
        self._trace.spots.append(Spot(self._compiled.name, node.lineno, column, self._guards, data))
        return len(self._trace.spots) - 1

    def _go_column(self, node: nodes.Node) -> int:
        """Return the column of what a node was made of; 0 for a node of Jinja."""
        tag = getattr(getattr(node, "go", None), "tag", None)
        return tag.pos - self._compiled.source.rfind("\n", 0, tag.pos) if tag is not None else 0


def _through(name: str, number: int, expression: nodes.Expr) -> nodes.Expr:
    line = expression.lineno
    return _filter(name, _filter("_begin", nodes.Const(number, lineno=line)), expression)


def _filter(name: str, first: nodes.Expr, *others: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(first, name, list(others), [], None, None, lineno=first.lineno)


def _spelled(target: nodes.Node) -> str:
    """Return what is assigned to, where it can be read: a variable, or one of a namespace."""
    if isinstance(target, nodes.Name):
        return target.name
    return f"{target.name}.{target.attr}" if isinstance(target, nodes.NSRef) else ""


def _loaded(target: nodes.Node) -> nodes.Expr:
    """Return the expression that reads what was assigned to."""
    line = target.lineno
    assert isinstance(target, nodes.Name | nodes.NSRef)
    name = nodes.Name(target.name, "load", lineno=line)
    return name if isinstance(target, nodes.Name) else nodes.Getattr(name, target.attr, "load", lineno=line)


def _names(target: nodes.Node) -> Iterator[nodes.Expr]:
    for name in [target] if isinstance(target, nodes.Name) else target.find_all(nodes.Name):
        yield nodes.Name(name.name, "load", lineno=target.lineno)
