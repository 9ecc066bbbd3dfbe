"""The Jinja environment: options, names, and how a template in it becomes bytes or an error that says where."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

import jinja2

from confpy.config.resource import Resource
from confpy.errors import ConfpyError, TemplateError
from confpy.templates import functions
from confpy.templates.context import RenderContext
from confpy.templates.functions import InvalidArgument
from confpy.templates.go import Go
from confpy.templates.lookup import HIDDEN
from confpy.templates.registry import FUNCTIONS, RANDOM
from confpy.templates.results import (
    Compiled,
    Needs,
    Rendered,
    Suspicion,
    TemplateMissing,
    World,
    template_lookup,
    template_name,
)
from confpy.templates.runtime import PlainEnvironment, new_context

if TYPE_CHECKING:
    from jinja2.ext import Extension

    from confpy.keys.view import View

MOST_TEMPLATES = 64
"""Templates of resources that are kept from one render to the next."""


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
            template = self._made[name] = self._make(compiled, environment)
        return template

    def _make(self, compiled: Compiled, environment: jinja2.Environment) -> jinja2.Template:
        return compiled.within(environment)

    def forget(self) -> None:
        self._made.clear()


class _Absent(jinja2.TemplateNotFound):
    """A missing template in the one form that ``ignore missing`` knows."""

    def __init__(self, error: TemplateMissing) -> None:
        super().__init__(error.message)
        self.error = error


def environment(
    context: RenderContext, *, sandbox: bool, extensions: Sequence[type[Extension]] = ()
) -> jinja2.Environment:
    """Return the one environment of a ``Renderer``, or of a ``Compiler``, which renders nothing in it.

    ``extensions`` are what reads and compiles need, and renders do not.
    """
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
        extensions=extensions,
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
        context.begin(view, world, resource.delimiters, resource.watch_files, resource.item)
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
        context.begin(context.view, context.world, context.delimiters, context.files, context.current_item)
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
        from confpy.templates.explain import advise, message_of, place, suggest  # only for errors

        where = place(error.__traceback__)
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
            message = message_of(error, sources)
            if isinstance(error, jinja2.TemplatesNotFound):
                names = (str(one) if str(one) in sources else HIDDEN for one in error.templates)
                message = f"none of these templates is there: {', '.join(names)}"
            failure = TemplateError(message, hint=suggest(message, self._environment) or advise(message, sources))
        if where and "template" in failure.where:
            # It was found while another template was read.
            where = {"called_from": f"{where['template']}:{where['line']}"}
        return failure.at(**where)
