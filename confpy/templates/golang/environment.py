"""Jinja's environment for translated Go templates: the functions by confd's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jinja2

from confpy.templates.golang import printf, runtime, store
from confpy.templates.golang.signatures import FUNCTIONS as SIGNATURES
from confpy.templates.golang.times import Time
from confpy.templates.golang.values import MISSING, PAIRS, SERVICES, STRINGS, TIME, Pairs, Services, Strings
from confpy.templates.registry import FUNCTIONS

if TYPE_CHECKING:
    from confpy.templates.context import RenderContext

_MODULES = {"": runtime, "printf": printf}


def _pure() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions that neither ask the store nor the world, by their names in Go."""
    for row in FUNCTIONS:
        if row.runtime:
            module, _, name = row.runtime.rpartition(".")
            yield row.go_name, getattr(_MODULES[module], name)
        elif row.go and row.call is not None:
            yield row.go_name, row.call


PURE: Mapping[str, Callable[..., Any]] = {
    **dict(_pure()),
    # What the translator adds.
    "_done": lambda _value: True,
    "_each": runtime.each,
    "_empty": lambda wanted: runtime.expect(MISSING, wanted),
    "_entry": lambda entries, name: entries.get(name, MISSING),
    "_enumerate": enumerate,
    "_expect": runtime.expect,
    "_expect_string": runtime.expect_string,
    "_field": runtime.field,
    "_indexed": runtime.indexed,
    "_keep": runtime.keep,
    "_refuse": runtime.refuse,
    "_settle": runtime.settle,
    "_slots": runtime.slots,
}


def environment(context: RenderContext, *, sandbox: bool) -> jinja2.Environment:
    """Return the environment of a ``Renderer`` for Go templates, or of a ``Compiler``, which renders nothing in it."""
    kind: type[jinja2.Environment] = jinja2.Environment
    if sandbox:
        from jinja2.sandbox import SandboxedEnvironment  # loaded where it is asked for

        kind = SandboxedEnvironment
    made = kind(undefined=jinja2.StrictUndefined, autoescape=False, finalize=printf.printed, cache_size=0)
    names: dict[str, Callable[..., Any]] = {**PURE, **_context(context, made)}

    def at(line: int, name: str, *arguments: Any) -> Any:
        """Call a function that stands on another line than the statement that it is part of."""
        try:
            return made.filters[name](*arguments)
        except Exception as error:
            if not hasattr(error, "go_line"):
                error.go_line = line  # type: ignore[attr-defined]
            raise

    made.filters = {"format": made.filters["format"], "length": len, **names, "_at": at}
    made.globals |= names
    return made


def _context(context: RenderContext, made: jinja2.Environment) -> dict[str, Callable[..., Any]]:
    """Return the functions that ask the store or the world, with results of Go's types."""

    def include(name: str, *data: object) -> str:
        with context.entered(name):
            template = context.template(name, "included").within(made)
            return "".join(template.root_render_func(template.new_context({"data": data[0] if data else MISSING})))

    own: dict[str, Callable[..., Any]] = {
        "getenv": lambda name, *otherwise: context.getenv(name, *otherwise[:1]),
        "include": include,
        "lookupIfaceIPV4": lambda name: context.lookup_interface(name, "."),
        "lookupIfaceIPV6": lambda name: context.lookup_interface(name, ":"),
        "ls": lambda path: Strings(context.listed("ls", path, store.ls(context.view, path))),
        "lsdir": lambda path: Strings(context.listed("lsdir", path, store.lsdir(context.view, path))),
    }
    for row in FUNCTIONS:
        if row.go and row.name and row.call is None and row.go_name not in own:
            own[row.go_name] = _typed(getattr(context, row.name), _TYPES.get(SIGNATURES[row.go_name].result))
    return own


_TYPES: Mapping[str, Callable[[Any], Any]] = {STRINGS: Strings, PAIRS: Pairs, SERVICES: Services, TIME: Time}
"""What makes a result one of Go's types, where Python's is another."""


def _typed(function: Callable[..., Any], kind: Callable[[Any], Any] | None) -> Callable[..., Any]:
    return function if kind is None else lambda *arguments: kind(function(*arguments))
