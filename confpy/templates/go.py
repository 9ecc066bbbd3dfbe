"""The name ``go`` in Jinja: what ``confpy convert`` writes where only Go's types will do. Loaded when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confpy.templates.context import RenderContext


class Go:
    """``go.NAME`` is the function NAME of Go templates."""

    def __init__(self, context: RenderContext) -> None:
        self.__context = context
        self.__functions: dict[str, Callable[..., Any]] | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.__functions is None:
            from confpy.templates.golang.calls import functions  # where there is a converted template

            self.__functions = functions(self.__context)
        if name not in self.__functions:
            raise AttributeError(name)
        return self.__functions[name]
