"""The variables of a Go template in Jinja: where each is stored, how it is read, declared and assigned. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from jinja2 import nodes as jinja

from confpy.templates.golang import nodes
from confpy.templates.golang.emit import Emitter, Value, join_types
from confpy.templates.golang.naming import identifier
from confpy.templates.golang.usages import Usage
from confpy.templates.golang.values import ANY
from confpy.templates.registry import FUNCTIONS as ROWS

RESERVED = frozenset({
    "and", "as", "block", "break", "call", "caller", "context", "continue", "cycler", "data", "dict", "do", "elif",
    "else", "endfor", "endif", "extends", "False", "false", "filter", "for", "from", "if", "ignore", "import", "in",
    "include", "is", "joiner", "kwargs", "loop", "macro", "missing", "namespace", "None", "none", "not", "or",
    "range", "raw", "recursive", "required", "scoped", "self", "set", "super", "trans", "True", "true", "varargs",
    "with", "without",
    # What converted templates call beside the functions below.
    "fail", "go",
}) | {row.name for row in ROWS if row.same and row.name != row.go_name}  # fmt: skip
"""What means something to Jinja, or is the name of a macro's argument."""


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
class Known:
    """What earlier passes have found."""

    variables: dict[int, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    """Defined template → type of what it is called with."""
    given_up: bool = False


class Scope:
    """What is visible to the statement in hand, and the statements that it needs before itself."""

    def __init__(self, emit: Emitter, known: Known, usages: Mapping[int, Usage]) -> None:
        self._emit = emit
        self._known = known
        self.usages = usages
        self._stack: list[tuple[str, Place]] = []
        """The variables that are visible, the last one of a name first."""
        self._taken: list[str] = []
        """The names in use by what is visible."""
        self._floor = 0
        """Where the variables of the body in hand begin in the stack."""
        self._reserved: Collection[str] = RESERVED
        self._macros: Collection[str] = ()
        self.before: list[jinja.Node] = []
        """Statements that the one in hand needs before it."""

    def reserve(self, names: Collection[str], macros: Collection[str]) -> None:
        """Give these names to no variable; ``macros`` may grow."""
        self._reserved, self._macros = names, macros

    def begin(self, root: Place, taken: Collection[str] = (), floor: int = 0) -> None:
        """Begin a file or a defined template, whose data is ``root``."""
        self._stack, self._taken, self._floor = [("$", root)], [*taken], floor

    def mark(self) -> tuple[int, int]:
        """Return what is visible now, for ``forget``."""
        return len(self._stack), len(self._taken)

    def forget(self, mark: tuple[int, int]) -> None:
        """Take away what has become visible since."""
        del self._stack[mark[0] :], self._taken[mark[1] :]

    def enter(self) -> int:
        """Begin a body; returns what ``leave`` needs."""
        floor, self._floor = self._floor, len(self._stack)
        return floor

    def leave(self, floor: int) -> None:
        self._floor = floor

    def show(self, name: str, place: Place) -> None:
        """Make a place visible by the name of a variable."""
        self._stack.append((name, place))

    def take(self, name: str) -> None:
        """Give a name to nobody else while it is visible."""
        self._taken.append(name)

    def find(self, name: str) -> Place | None:
        return next((place for known, place in reversed(self._stack) if known == name), None)

    def fresh(self, wanted: str) -> str:
        """Return a name that nothing visible has, like the one that is wanted."""
        taken = {*self._taken, *self._macros}
        if wanted in self._reserved:
            wanted += "_"
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}{number}", number + 1
        return name

    def local(self, wanted: str, kind: str) -> Place:
        place = Place(kind, self.fresh(wanted))
        self._taken.append(place.name)
        return place

    def read(self, place: Place) -> Value:
        if not place.name:
            return self._emit.nothing()
        if place.space:
            expr: jinja.Expr = jinja.Getattr(self._emit.name(place.space), place.name, "load", lineno=self._emit.line)
        else:
            expr = self._emit.name(place.name)
        if place.slot:
            expr = jinja.Getattr(expr, "value", "load", lineno=self._emit.line)
        return self._emit.value(expr, place.type)

    def set(self, place: Place, value: Value) -> None:
        target: jinja.Expr = self._emit.name(place.name, "store")
        if place.space:
            target = jinja.NSRef(place.space, place.name, lineno=self._emit.line)
        self.before.append(jinja.Assign(target, value.expr, lineno=self._emit.line))

    def declare(self, variable: nodes.Variable, value: Value) -> Place:
        place = self.declared(variable, value.type)
        if place.space and place.space not in self._taken:
            self.open_space(place, value)
        else:
            self.set(place, value)
        self._stack.append((variable.name, place))
        return place

    def declared(self, variable: nodes.Variable, kind: str) -> Place:
        """Return the place of a new variable."""
        usage = self.usages[variable.pos]
        if usage.assigned:
            kind = self._known.variables.get(variable.pos, ANY if self._known.given_up else kind)
        name = identifier(variable.name)
        if usage.looped or usage.inline:
            return Place(kind, name, self.fresh("ns"), declared=variable.pos)
        earlier = [
            place for known, place in self._stack[self._floor :] if known == variable.name and place.name == name
        ]
        place = Place(kind, name) if earlier else self.local(name, kind)
        place.declared = variable.pos
        return place

    def open_space(self, place: Place, value: Value | None) -> None:
        keywords = [jinja.Keyword(place.name, value.expr, lineno=self._emit.line)] if value else []
        made = jinja.Call(self._emit.name("namespace"), [], keywords, None, None, lineno=self._emit.line)
        self.before.append(jinja.Assign(self._emit.name(place.space, "store"), made, lineno=self._emit.line))
        self._taken.append(place.space)

    def assign(self, variable: nodes.Variable, value: Value) -> None:
        place = self.find(variable.name)
        if place is None or place.declared < 0:
            failure = self._emit.fail(f"undefined variable: {variable.name}", hint="declare it with :=")
            self.before.append(self._emit.output([failure.expr]))
            return
        if join_types(place.type, value.type) != place.type:
            self._known.variables[place.declared] = ANY
        self.set(place, value)
