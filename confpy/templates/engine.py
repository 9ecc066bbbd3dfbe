"""The Jinja environment: options, names, and how a template in it becomes bytes or an error that says where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.lexer import Token

from confpy.config.resource import Resource
from confpy.errors import ConfpyError, TemplateError
from confpy.keys.view import Pair
from confpy.templates import functions
from confpy.templates.context import RenderContext
from confpy.templates.functions import InvalidArgument
from confpy.templates.go import Go
from confpy.templates.lookup import Lookup
from confpy.templates.registry import FUNCTIONS, known_lookups
from confpy.templates.results import (
    BRACES,
    NO_FILE,
    Compiled,
    CompileResult,
    Needs,
    Rendered,
    Service,
    Suspicion,
    TemplateMissing,
    World,
    template_lookup,
    template_name,
)
from confpy.templates.runtime import PlainEnvironment, new_context

if TYPE_CHECKING:
    from confpy.keys.view import View

MOST_TEMPLATES = 64
"""Templates of resources that are kept from one render to the next."""

# Random output would change the target, and reload its program, at every pass.
RANDOM = {"random": "filters", "lipsum": "globals"}

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


class FactLoader(jinja2.BaseLoader):
    """Takes the templates that others name from the facts.

    A template lives for one render: Jinja keeps what an imported one computed, which the next render must not see.
    """

    def __init__(self, context: RenderContext) -> None:
        self._context = context
        self._made: dict[str, jinja2.Template] = {}

    def load(self, environment: jinja2.Environment, name: str, globals: Any = None) -> jinja2.Template:  # noqa: A002, ARG002
        template = self._made.get(name)
        if template is None:
            try:
                compiled = self._context.template(name)
            except TemplateMissing as missing:
                raise _Absent(missing) from None
            template = self._made[name] = compiled.within(environment)
        return template

    def forget(self) -> None:
        self._made.clear()


class _Absent(jinja2.TemplateNotFound):
    """A missing template in the one form that ``ignore missing`` knows."""

    def __init__(self, error: TemplateMissing) -> None:
        super().__init__(error.message)
        self.error = error


def environment(context: RenderContext, *, sandbox: bool) -> jinja2.Environment:
    """Return the one environment of a ``Renderer``, or of a ``Resolver``, which only compiles in it."""
    kind: type[jinja2.Environment] = PlainEnvironment
    if sandbox:
        from jinja2.sandbox import SandboxedEnvironment  # loaded where it is asked for

        kind = SandboxedEnvironment
    made = kind(
        loader=FactLoader(context),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=functions.printed,
        cache_size=0,
        extensions=[LineEnds, "jinja2.ext.do", "jinja2.ext.loopcontrols"],
    )
    names = {name: row.call or getattr(context, row.name) for row in FUNCTIONS for name in row.names}
    made.filters = {**names, **made.filters}
    made.tests |= {name: names[name] for row in FUNCTIONS if row.test for name in row.names}
    made.globals |= {**names, "go": Go(context)}
    for name, table in RANDOM.items():
        del getattr(made, table)[name]
    return made


class Engine:
    """Renders, in one environment, for one thread."""

    def __init__(self, *, sandbox: bool) -> None:
        self._context = RenderContext()
        self._environment = environment(self._context, sandbox=sandbox)
        self._sandbox = sandbox
        self._go: jinja2.Environment | None = None
        self._templates: dict[int, jinja2.Template] = {}
        """The ``id`` of code → the template of resources that was made of it."""
        self._codes: list[CodeType] = []
        """That code, which so stays alive."""

    def render(self, resource: Resource, view: View, world: World) -> Rendered:
        """Render; raises ``Needs`` or ``TemplateError``."""
        context = self._context
        context.begin(view, world, resource.delimiters, resource.watch_files)
        try:
            compiled = context.source(template_lookup(resource.src, resource.engine, resource.delimiters))
            template = self._template(compiled)
            # Not template.render(): it dresses up the traceback, which is read as it is below.
            text = "".join(template.root_render_func(new_context(template)))
            content = text.encode("utf-8", "surrogateescape")
            suspicions, outside = self._suspect()
            return Rendered(content, frozenset(context.asked), context.timely, context.left_out, suspicions, outside)
        except Needs as needs:
            failure: Exception = Needs(needs.lookups)
        except Exception as error:  # noqa: BLE001 - whatever a template does wrong is an error of the template
            failure = self._explain(error)
            asked = frozenset(context.asked)
            if "key" not in failure.where and not isinstance(error, RecursionError):
                key = self._key_at_fault(resource, failure) or context.key_of(getattr(error, "value", None))
                failure.at(**({"key": key} if key else {}))
            failure.at(resource=resource.name, template=template_name(resource.src))
            if isinstance(failure, TemplateError):
                failure.asked = asked
        finally:
            context.end()
            loader = self._environment.loader
            assert isinstance(loader, FactLoader)
            loader.forget()
        # Raised out here, it does not carry the first error along, whose frames hold the values of keys.
        raise failure

    def _template(self, compiled: Compiled) -> jinja2.Template:
        """Return the template of a resource. Nobody imports it: Jinja keeps nothing of a render in it."""
        code = compiled.code
        template = self._templates.get(id(code))
        if template is None:
            if len(self._templates) >= MOST_TEMPLATES:
                self._templates.clear()
                self._codes.clear()
            template = compiled.within(self._go_environment() if compiled.engine == "go" else self._environment)
            self._templates[id(code)] = template
            self._codes.append(code)
        template.name, template.filename = compiled.name, compiled.file
        return template

    def _go_environment(self) -> jinja2.Environment:
        if self._go is None:
            self._go = self._make_environment("go")
        return self._go

    def _suspect(self) -> tuple[tuple[Suspicion, ...], tuple[str, ...]]:
        """Return the questions that brought nothing by their form, and the lists where all lie outside of the keys."""
        context = self._context
        view = context.view
        questions = [*context.unanswered]
        for function, keys in context.absent.items():
            if keys:
                checked = view.checked.get(function, ())
                questions += [(function, key) for key in keys if key not in checked]
        if not questions:
            return (), ()
        from confpy.templates.suspicions import all_outside, suspicions  # only where there are such questions

        sources = [template.source for template in context.templates.values()]
        outside = () if context.lists else all_outside(questions, view, sources)
        return suspicions(questions, view, sources), outside

    def _key_at_fault(self, resource: Resource, failure: ConfpyError) -> str:
        """Render once more, with values that know their keys; returns those of the value that failed, else nothing."""
        from confpy.templates.trace import at_fault, tracing  # only for errors

        context = self._context
        context.begin(context.view, context.world, context.delimiters, context.files)
        try:
            compiled = context.source(template_lookup(resource.src, resource.engine, resource.delimiters))
            made = self._make_environment(compiled.engine)
            tracing(made, context)
            template = compiled.within(made)
            for _ in template.root_render_func(new_context(template)):
                pass
        except Needs:
            return ""
        except Exception as error:  # noqa: BLE001 - the same as before, or none that is of use
            again = self._explain(error)
            same = (again.message, again.where) == (failure.message, failure.where)
            return at_fault(error) if same else ""
        return ""

    def _make_environment(self, engine: str) -> jinja2.Environment:
        if engine == "go":
            from confpy.templates.golang.environment import environment as go_environment  # where there is one

            return go_environment(self._context, sandbox=self._sandbox)
        return environment(self._context, sandbox=self._sandbox)

    def _explain(self, error: Exception) -> ConfpyError:
        where = _place(error.__traceback__)
        if hasattr(error, "go_line"):
            where["line"] = error.go_line
        if isinstance(error, _Absent):
            error = error.error
        if isinstance(error, InvalidArgument):
            failure: ConfpyError = TemplateError(error.reason, hint=error.hint)
        elif isinstance(error, ConfpyError):
            # A copy: each resource that meets a fact that is an error reports it with places of its own.
            failure = error.copy(type(error))
        else:
            sources = "\n".join(template.source for template in self._context.templates.values())
            message = _message(error, sources)
            failure = TemplateError(message, hint=suggest(message, self._environment) or _advise(message, sources))
        if where and "template" in failure.where:
            # It was found while another template was read.
            where = {"called_from": f"{where['template']}:{where['line']}"}
        return failure.at(**where)


def _place(traceback: TracebackType | None) -> dict[str, str | int]:
    """Return the line that failed, and where the template that it stands in was called from."""
    lines: list[tuple[str, int]] = []
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, jinja2.Template):
            lines.append((template.name or "", template.get_corresponding_lineno(traceback.tb_lineno)))
        traceback = traceback.tb_next
    if not lines:
        return {}
    (outer, outer_line), (inner, inner_line) = lines[0], lines[-1]
    place: dict[str, str | int] = {"template": inner, "line": inner_line}
    return place if inner == outer else place | {"called_from": f"{outer}:{outer_line}"}


_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
# Their texts name types, attributes and arguments.
_TELLING = (TypeError, AttributeError, ZeroDivisionError, OverflowError)
# "Asking.getv() missing 1 required …": where we keep a function is nothing to its caller.
_CLASS = re.compile(r"^(?:\w+\.)+(?=\w+\(\))")


def _message(error: Exception, sources: str) -> str:
    """Say what Jinja or Python found, without what could be a value: words of the templates' own are none."""
    if isinstance(error, _TELLING):
        return _CLASS.sub("", str(error))
    if isinstance(error, RecursionError):
        return "it includes, imports or calls itself without end"
    if isinstance(error, UnicodeError):
        return "a text in it is no Unicode: half of a surrogate pair"
    if isinstance(error, jinja2.TemplateError):

        def shown(quoted: re.Match[str]) -> str:
            word = quoted[1] or quoted[2] or ""
            return quoted[0] if word in sources or word.endswith(" object") else "'…'"

        return _OURS.sub("'", _QUOTED.sub(shown, error.message or type(error).__name__))
    return f"{type(error).__name__} (its text is not shown, as it may hold a value)"


_OURS = re.compile(r"'confpy\.[\w.]+\.(?=\w+ object')")
_ATTRIBUTE = re.compile(r"'(?P<kind>\w+) object' has no attribute '(?P<name>\w+)'")


def _advise(message: str, sources: str) -> str:
    """Return a hint for an attribute that a value does not have, or a name of another program; else nothing."""
    found = _ATTRIBUTE.match(message)
    if found is None:
        unknown = _UNKNOWN.match(message)
        if unknown is None or not unknown["undefined"]:
            return ""
        return BRACES if re.search(rf"\{{\{{-?\s*{unknown['name']}\b", sources) else ""
    kind, name = found["kind"], found["name"]
    fields = {"Pair": Pair._fields, "Service": Service._fields}.get(kind, ())
    if name.lower() in fields:
        return f"write .{name.lower()}"
    if fields:
        return "it has " + ", ".join(f".{one}" for one in fields)
    if kind in {"str", "list"} and name.lower() in Pair._fields:
        what = "a text" if kind == "str" else "a list"
        return f"this is {what}; pairs come one by one: for key, value in gets(...)"
    return ""


_UNKNOWN = re.compile(r"^(?:(?P<kind>No (?:filter|test) named) )?'(?P<name>\w+)'(?P<undefined> is undefined)?")


def suggest(message: str, environment: jinja2.Environment) -> str:
    """Return a hint for a message about a name that nobody knows, else nothing."""
    unknown = _UNKNOWN.match(message)
    if unknown is None or not (unknown["kind"] or unknown["undefined"]):
        return ""
    if unknown["name"] in RANDOM:
        return "random output would reload at every pass; shuffle(list, seed) keeps its order"
    from difflib import get_close_matches  # only for errors

    kind = unknown["kind"] or ""
    known = environment.filters if "filter" in kind else environment.tests if "test" in kind else environment.globals
    close = get_close_matches(unknown["name"], known, 1)
    return f"did you mean {close[0]}?" if close else ""


# --- compiling, on workers -------------------------------------------------------------------------------------------


def with_delimiters(environment: jinja2.Environment, delimiters: tuple[str, ...]) -> jinja2.Environment:
    """Return the same environment for templates whose expressions stand between other delimiters."""
    left, right = delimiters
    return environment.overlay(variable_start_string=left, variable_end_string=right)


def compile_source(source: str, lookup: Lookup, file: str, environment: jinja2.Environment) -> CompileResult:
    """Return a template's code and the lookups that stand in it word for word; raises ``TemplateError``."""
    name = lookup.name
    try:
        tree = environment.parse(source, name, file)
        needs = frozenset(_needs(tree, lookup.delimiters))
        # Jinja writes it into the error of a macro that an imported template does not have.
        names_itself = tree.find(nodes.FromImport) is not None
        code = environment.compile(tree, name if names_itself else "", NO_FILE)
        return CompileResult("jinja", code, needs, names_itself=names_itself)
    except jinja2.TemplateSyntaxError as error:
        message = error.message or "syntax error"
        failure = TemplateError(message, hint=suggest(message, environment), template=name, line=error.lineno)
    except RecursionError:
        failure = TemplateError("nested too deeply", template=name)
    raise failure


def _needs(tree: nodes.Template, delimiters: tuple[str, ...]) -> Iterator[Lookup]:
    for reference in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        named = getattr(reference, "template", None)
        for constant in named.items if isinstance(named, nodes.List | nodes.Tuple) else [named]:
            if isinstance(constant, nodes.Const) and isinstance(constant.value, str):
                yield template_lookup(constant.value, "jinja", delimiters)
    for call in tree.find_all(nodes.Call):
        constants = [argument.value for argument in call.args if isinstance(argument, nodes.Const)]
        words = [value for value in constants if isinstance(value, str)]
        if not isinstance(call.node, nodes.Name) or len(words) != len(call.args):
            continue
        yield from known_lookups(call.node.name, words)
