"""What templates ask the store for, as far as that stands in them word for word. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from jinja2 import nodes as jinja

from confpy.config.positions import Position, position
from confpy.frozen import frozen
from confpy.templates.golang import nodes as golang
from confpy.templates.golang.keypaths import key_paths
from confpy.templates.registry import FUNCTIONS

ASKING = frozenset({"exists", "get", "gets", "getv", "getvs", "ls", "lsdir"})
"""Functions whose first argument is a path or a pattern of keys."""
_NAMES = {name: row.name for row in FUNCTIONS if row.name in ASKING for name in row.names}


@frozen
class Question:
    """One call of such a function."""

    function: str
    text: str
    """What it is given, or what that begins with."""
    whole: bool
    """It is all that it is given."""
    place: Position


def of_jinja(tree: jinja.Template, source: str) -> Iterator[Question]:
    """Yield the questions of a template in Jinja."""
    for naming in tree.find_all((jinja.Include, jinja.Import, jinja.FromImport, jinja.Extends)):
        if not isinstance(getattr(naming, "template", None), jinja.Const):
            # What the template that it names asks for is not known.
            yield Question("getv", "", whole=False, place=Position(naming.lineno, 1))
    constants = _constants(tree)
    lines = source.split("\n")
    for node in tree.find_all((jinja.Call, jinja.Filter, jinja.Test)):
        asked: jinja.Node | None
        if isinstance(node, jinja.Call):
            name = node.node.name if isinstance(node.node, jinja.Name) else ""
            asked = node.args[0] if node.args else None
        elif isinstance(node, jinja.Filter | jinja.Test):
            name, asked = node.name, node.node
        else:
            continue
        if name not in _NAMES:
            continue
        text, whole = _text(asked, constants)
        yield Question(_NAMES[name], text, whole, _place(lines, node.lineno, text, name))


def _place(lines: list[str], line: int, text: str, name: str) -> Position:
    """Return the place of a text in a line, or of the function that it is given to."""
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    for wanted in (f'"{text}', f"'{text}", name):
        if text or wanted == name:
            column = written.find(wanted)
            if column >= 0:
                return Position(line, column + 1)
    return Position(line, 1)


def _constants(tree: jinja.Template) -> Mapping[str, str]:
    """Return the variables that are set once, to a text."""
    stored = Counter(node.name for node in tree.find_all(jinja.Name) if node.ctx in {"store", "param"})
    return {
        node.target.name: node.node.value
        for node in tree.find_all(jinja.Assign)
        if isinstance(node.target, jinja.Name)
        and stored[node.target.name] == 1
        and isinstance(node.node, jinja.Const)
        and isinstance(node.node.value, str)
    }


def _text(node: jinja.Node | None, constants: Mapping[str, str]) -> tuple[str, bool]:
    """Return what a text is, or begins with, and whether that is all of it."""
    if isinstance(node, jinja.Const) and isinstance(node.value, str):
        return node.value, True
    if isinstance(node, jinja.TemplateData):
        return node.data, True
    if isinstance(node, jinja.Name) and node.name in constants:
        return constants[node.name], True
    parts: list[jinja.Expr] = []
    if isinstance(node, jinja.Concat):
        parts = node.nodes
    elif isinstance(node, jinja.Add):
        parts = [node.left, node.right]
    text = ""
    for part in parts:
        more, whole = _text(part, constants)
        text += more
        if not whole:
            return text, False
    if parts:
        return text, True
    if isinstance(node, jinja.Mod) and isinstance(node.left, jinja.Const) and isinstance(node.left.value, str):
        return node.left.value.partition("%")[0], False
    if (
        isinstance(node, jinja.Call)
        and isinstance(node.node, jinja.Name)
        and node.node.name in {"printf", "format"}
        and node.args
    ):
        head, whole = _text(node.args[0], constants)
        return head.partition("%")[0], whole and "%" not in head
    return "", False


def of_go(tree: golang.Template, source: str) -> Iterator[Question]:
    """Yield the questions of a template in Go's language."""
    for asked in key_paths(tree):
        yield Question(asked.function, asked.text, asked.whole, position(source, asked.pos))
