"""Which language a template is in, by its name or its text, and its compilation. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import jinja2

from confpy.errors import TemplateError
from confpy.templates import engine, jinja
from confpy.templates.codegen import InlineCodeGenerator
from confpy.templates.context import RenderContext
from confpy.templates.lookup import Lookup
from confpy.templates.results import BRACES, JINJA_NAMES, CompileResult

if TYPE_CHECKING:
    from confpy.templates.golang import nodes
    from confpy.templates.golang.parser import GoSyntaxError

_STATEMENT = re.compile(r"\{%.*?%\}", re.DOTALL)


class _Signs(NamedTuple):
    """What tells the two languages from each other, between the delimiters of a template."""

    left: str
    call: re.Pattern[str]
    """``{{ getv("/key", "default") }}``: Go parts arguments by spaces."""
    expression: re.Pattern[str]
    go: re.Pattern[str]
    """What only Go's templates say: ``{{getv "/key"}}``, ``{{range …}}``, ``{{end}}``, ``{{.Value}}``, ``{{$x}}``."""


@lru_cache(maxsize=16)
def _signs(delimiters: tuple[str, ...]) -> _Signs:
    left, right = delimiters or ("{{", "}}")
    begin, end = re.escape(left), re.escape(right)
    return _Signs(
        left,
        re.compile(rf"{begin}(?:(?!{end}).)*?\w\((?:(?!{end}).)*?,", re.DOTALL),
        re.compile(rf"{begin}-?\s*(?!(?:else|end|break|continue)\b)(?:\w+\(|[A-Za-z_][\w.]*\s*(?:\||-?{end}))"),
        re.compile(rf"""{begin}-?\s*(?:(?:range|if|else|end|with|define|template)\b|[.$]|\w+\s+["`.$(])"""),
    )


class Compiler:
    """Compiles templates of both languages. For several threads: what they make at the same time is the same."""

    def __init__(self, *, sandbox: bool) -> None:
        self._sandbox = sandbox
        self._context = RenderContext()
        self._jinja: jinja2.Environment | None = None
        self._go: jinja2.Environment | None = None

    def compile(self, source: str, lookup: Lookup, file: str) -> CompileResult:
        """Return what a template's text is compiled to; raises ``TemplateError``."""
        if _is_jinja(lookup):
            return self._compile_jinja(source, lookup, file)
        from confpy.templates.golang.parser import GoSyntaxError, parse  # where there is one
        from confpy.templates.golang.signatures import FUNCTIONS

        try:
            tree = parse(source, lookup.name, FUNCTIONS, lookup.delimiters)
        except GoSyntaxError as refused:
            failure = refused
        else:
            made = self._rather_jinja(source, lookup, file)
            if made is None:
                from confpy.templates.golang.compile import compile_tree

                made = compile_tree(tree, lookup, self._go_environment())
            return made
        made = None
        if lookup.engine == "auto" and (_STATEMENT.search(source) or _signs(lookup.delimiters).call.search(source)):
            made = self._try_jinja(source, lookup, file)
        if made is None:
            raise _explain(failure, source, lookup)
        return made

    def go_tree(self, source: str, lookup: Lookup, file: str) -> nodes.Template | None:
        """Return the tree of a template in Go's language, None of one in Jinja or that cannot be read."""
        from confpy.templates.golang.parser import GoSyntaxError, parse
        from confpy.templates.golang.signatures import FUNCTIONS

        try:
            tree = None if _is_jinja(lookup) else parse(source, lookup.name, FUNCTIONS, lookup.delimiters)
        except (GoSyntaxError, RecursionError):
            return None
        return None if tree is None or self._rather_jinja(source, lookup, file) else tree

    def _rather_jinja(self, source: str, lookup: Lookup, file: str) -> CompileResult | None:
        """Return what a text that Go reads is compiled to where it is meant as Jinja."""
        if lookup.engine == "auto" and _STATEMENT.search(source) and not lookup.name.endswith(".tmpl"):
            return self._try_jinja(source, lookup, file)
        return None

    def _compile_jinja(self, source: str, lookup: Lookup, file: str) -> CompileResult:
        if self._jinja is None:
            self._jinja = engine.environment(self._context, sandbox=self._sandbox, extensions=jinja.EXTENSIONS)
            if not self._sandbox:
                self._jinja.code_generator_class = InlineCodeGenerator
        made = self._jinja
        if lookup.delimiters:
            made = jinja.with_delimiters(made, lookup.delimiters)
        try:
            return jinja.compile_source(source, lookup, file, made)
        except TemplateError as refused:
            if not refused.hint and _signs(lookup.delimiters).go.search(source):
                as_jinja = 'this looks like a Go template, as confd has them; here it is Jinja: {{ getv("/key") }}'
                refused.hint = f"{as_jinja}; {BRACES}"
            raise

    def _try_jinja(self, source: str, lookup: Lookup, file: str) -> CompileResult | None:
        try:
            return self._compile_jinja(source, lookup, file)
        except TemplateError:
            return None

    def _go_environment(self) -> jinja2.Environment:
        if self._go is None:
            from confpy.templates.golang.environment import environment

            self._go = environment(self._context, sandbox=self._sandbox)
        return self._go


def _is_jinja(lookup: Lookup) -> bool:
    return lookup.engine == "jinja" or (lookup.engine == "auto" and lookup.name.endswith(JINJA_NAMES))


def _explain(refused: GoSyntaxError, source: str, lookup: Lookup) -> TemplateError:
    name, signs = lookup.name, _signs(lookup.delimiters)
    line = source.split("\n")[refused.line - 1]
    hint = refused.hint
    if signs.expression.match(line, max(line.rfind(signs.left, 0, refused.column), 0)):
        others = f"; {BRACES}" if hint == BRACES else ""
        hint = 'if this is Jinja, say so: engine = "jinja", or a name that ends in .j2' + others
    return TemplateError(refused.message, hint=hint, template=name, line=refused.line, column=refused.column)
