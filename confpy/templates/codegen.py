"""The code that a Jinja template becomes: as Jinja writes it, with the two most common steps in line.

A template that lists backends prints texts and reads ``key`` and ``value`` of pairs, thousands of times a render. For
these no function is called; for all else the code does what Jinja's does.
"""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

_NAME = "t_value"
"""A local name that no template's can be: Jinja begins those with ``l_``. Each use of it follows its assignment."""
_PAIR = "Pair_"


class InlineCodeGenerator(CodeGenerator):
    """Writes code that tests for the common type first. Not for a sandbox, which looks at each attribute."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802 - Jinja calls it so
        self.writeline(f"from confpy.keys.view import Pair as {_PAIR}")
        super().visit_Template(node, frame)

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802 - Jinja calls it so
        if node.attr not in ("key", "value"):
            super().visit_Getattr(node, frame)
            return
        self.write(f"({_NAME}.{node.attr} if type({_NAME} := ")
        self.visit(node.node, frame)
        self.write(f") is {_PAIR} else environment.getattr({_NAME}, {node.attr!r}))")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if self._is_plain(frame, finalize):
            self.write(f"({_NAME} if type({_NAME} := ")
        else:
            super()._output_child_pre(node, frame, finalize)

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if self._is_plain(frame, finalize):
            self.write(f") is str else str({finalize.src}{_NAME})))")
        else:
            super()._output_child_post(node, frame, finalize)

    @staticmethod
    def _is_plain(frame: Frame, finalize: Any) -> bool:
        context = frame.eval_ctx
        return not (context.volatile or context.autoescape) and finalize.src == "environment.finalize("
