"""Writes the expressions of a translated Go template as a person would write them in Jinja. Pure.

If the types are known, and Jinja does what Go does, they become plain Jinja; else ``go.NAME``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from posixpath import normpath
from typing import NamedTuple

from jinja2 import nodes as jinja

from confpy.templates.golang import printf
from confpy.templates.golang.signatures import CHANGES_IN_PLACE, FUNCTIONS
from confpy.templates.golang.values import (
    ANY,
    ANYS,
    BOOL,
    ELEMENTS,
    INT,
    INTS,
    MAP,
    PAIR_LIST,
    PAIRS,
    SERVICES,
    STRING,
    STRINGS,
    TIME,
    UINT8,
    UINT16,
)
from confpy.templates.registry import FUNCTIONS as ROWS

# Jinja's precedence: an operand of a lower one is put in parentheses.
_CHOICE, _OR, _AND, _NOT, _COMPARE, _SUM, _CONCAT, _PRODUCT, _UNARY, _POSTFIX = range(10)

_SAME = {row.go_name: row.name for row in ROWS if row.same}
"""Functions that do the same in both languages for arguments of their types."""
_SIGNS = {"add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _PRODUCT)}
_ORDER = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lteq": "<=", "gteq": ">="}
_LISTS = frozenset({STRINGS, INTS, PAIRS, PAIR_LIST, SERVICES})
_LISTING = frozenset(name for name in _SAME if FUNCTIONS[name].result in _LISTS or name in CHANGES_IN_PLACE)
"""Functions that return a new list."""
_PRINTED = frozenset({STRING, INT, BOOL, UINT8, UINT16, MAP, ANYS, TIME, ANY})
"""The types whose values Jinja prints as Go does."""
_CHECKS = frozenset({"_settle", "_expect", "_expect_string", "_each"})
_SAFE = (jinja.Const, jinja.Name)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Unconvertible(NamedTuple):
    """An expression that could not be converted."""

    line: int
    message: str
    hint: str = ""


class Expressions:
    """Writes the expressions of one file, and collects what it could not convert."""

    def __init__(self, tree: jinja.Template) -> None:
        self.unconverted: list[Unconvertible] = []
        self.counters: set[str] = set()
        """Names that stand for the index of the current loop."""
        self._assigned: dict[str, list[jinja.Node]] = defaultdict(list)
        for node in tree.find_all(jinja.Assign):
            if isinstance(node.target, jinja.Name):
                self._assigned[node.target.name].append(node.node)
        self._loose = set(_untyped(tree))
        self._with_data = {macro.name for macro in tree.find_all(jinja.Macro) if "data" in _loaded(macro)}
        # An argument may fail, even if the macro does not use it.
        for call in tree.find_all(jinja.Call):
            if isinstance(call.node, jinja.Name) and not all(isinstance(one, _SAFE) for one in call.args):
                self._with_data.add(call.node.name)
        self._in_place = any(self._changes(node) for node in tree.find_all(jinja.Filter))
        """A named list is changed in place: then every list is one of Go's."""

    def write(self, expr: jinja.Node, least: int = 0) -> str:
        """Return an expression, in parentheses if its precedence is below ``least``."""
        text, level = self._written(expr)
        return f"({text})" if level < least else text

    def printed(self, expr: jinja.Node) -> str:
        """Return the content of ``{{ }}``."""
        kind = kind_of(expr)
        if isinstance(expr, jinja.Const) and kind not in {STRING, INT, BOOL, None}:
            return quoted(printf.printed(expr.value))
        return self.value(expr)

    def value(self, expr: jinja.Node) -> str:
        """Return an expression whose value is printed, or stored where its type is unknown."""
        text = self.write(expr)
        return text if self._is_printed(expr) else f"go.value({text})"

    def assignment(self, node: jinja.Assign) -> str:
        if isinstance(node.target, jinja.NSRef):
            name = f"{node.target.name}.{node.target.attr}"
        else:
            assert isinstance(node.target, jinja.Name)
            name = node.target.name
        return f"set {name} = {self._stored(name, node.node)}"

    def loop(self, node: jinja.For) -> tuple[str, str, str]:
        """Return the variables of a loop, what it iterates over, and the name of its counter, or an empty one."""
        target, items, key = node.target, node.iter, ""
        if isinstance(target, jinja.Tuple):
            first, target = target.items
            assert isinstance(first, jinja.Name)
            key = first.name
        assert isinstance(target, jinja.Name)
        if isinstance(items, jinja.Filter) and items.name == "_indexed":
            return f"{key}, {target.name}", f"go.items({self.write(items.node or items)})", ""
        if isinstance(items, jinja.Filter) and items.name == "_enumerate":
            items = items.node or items
        text = self.value(items) if kind_of(items) == ANY else self.write(items, _OR)
        return target.name, text, key

    def uses_data(self, macro: str) -> bool:
        return macro in self._with_data

    def _stored(self, name: str, expr: jinja.Node) -> str:
        """Return the value for a name; with its Go type if the name may hold values of others."""
        return self.value(expr) if name in self._loose or kind_of(expr) == ANY else self.write(expr)

    def test(self, expr: jinja.Node) -> str:
        """Return the condition of an ``if``."""
        counter = self._counted(expr)
        if counter is not None:
            return "loop.first" if counter else "not loop.first"
        return self.write(expr)

    def _counted(self, expr: jinja.Node) -> bool | None:
        """Return whether a test is for the first turn of a loop (False: for the others); None: for neither."""
        if isinstance(expr, jinja.Name) and expr.name in self.counters:
            return False
        if isinstance(expr, jinja.Not):
            inner = self._counted(expr.node)
            return None if inner is None else not inner
        if isinstance(expr, jinja.Compare) and self._counted(expr.expr) is False:
            (operand,) = expr.ops
            if isinstance(operand.expr, jinja.Const) and operand.expr.value == 0:
                return {"eq": True, "ne": False, "gt": False}.get(operand.op)
        return None

    def _choice(self, tests: Sequence[jinja.Node], yes: jinja.Node, no: jinja.Node) -> tuple[str, int]:
        test = " and ".join(self.write(one, _NOT) for one in tests) if tests[1:] else self.test(tests[0])
        return f"{self.write(yes, _OR)} if {test} else {self.write(no)}", _CHOICE

    def _is_printed(self, expr: jinja.Node) -> bool:
        if isinstance(expr, jinja.Or) and (choice := _choice_of(expr)) is not None:
            return self._is_printed(choice[1]) and self._is_printed(choice[2])
        if isinstance(expr, jinja.And | jinja.Or):
            return self._is_printed(expr.left) and self._is_printed(expr.right)
        if isinstance(expr, jinja.Const) and expr.value is None:
            return False
        if isinstance(expr, jinja.Filter) and expr.name in _CHECKS:
            return self._is_printed(_arguments(expr)[0])
        if isinstance(expr, jinja.Filter) and expr.name in {"reverse", "default", "ternary"} and kind_of(expr) == ANY:
            return all(map(self._is_printed, _arguments(expr)))
        return kind_of(expr) in _PRINTED or kind_of(expr) is None

    def _changes(self, node: jinja.Filter) -> bool:
        name, arguments, _ = call_of(node)
        return name == "_slots" or (
            name in CHANGES_IN_PLACE and kind_of(arguments[0]) in {STRINGS, PAIRS, PAIR_LIST, ANY}
            and not self._is_new(arguments[0])
        )  # fmt: skip

    def _is_new(self, expr: jinja.Node) -> bool:
        return isinstance(expr, jinja.Filter) and call_of(expr)[0] in _LISTING

    # --- each kind of node -------------------------------------------------------------------------------------------

    def _written(self, expr: jinja.Node) -> tuple[str, int]:
        match expr:
            case jinja.Const():
                return self._constant(expr)
            case jinja.Name():
                return ("loop.index0" if expr.name in self.counters else expr.name), _POSTFIX
            case jinja.Getattr():
                return f"{self.write(expr.node, _POSTFIX)}.{expr.attr}", _POSTFIX
            case jinja.Concat():
                return " ~ ".join(self.write(node, _PRODUCT) for node in expr.nodes), _CONCAT
            case jinja.Not():
                counter = self._counted(expr)
                if counter is not None:
                    return ("loop.first", _POSTFIX) if counter else ("not loop.first", _NOT)
                return f"not {self.write(expr.node, _NOT)}", _NOT
            case jinja.And() if isinstance(expr.left, jinja.Filter) and expr.left.name == "_done":
                return self._written(expr.right)
            case jinja.And():
                return f"{self.write(expr.left, _NOT)} and {self.write(expr.right, _AND)}", _AND
            case jinja.Or() if (choice := _choice_of(expr)) is not None:
                return self._choice(*choice)
            case jinja.Or():
                return f"{self.write(expr.left, _AND)} or {self.write(expr.right, _OR)}", _OR
            case jinja.Compare():
                return self._comparison(expr)
            case jinja.List():
                return f"[{self._listed(expr.items)}]", _POSTFIX
            case jinja.Call(node=jinja.Name(name=name), args=[]) if name in FUNCTIONS:
                return self._call(name, [], expr.lineno, kind_of(expr))
            case jinja.Call(node=jinja.Name(name="namespace")):
                keywords = [f"{one.key}={self._stored(one.key, one.value)}" for one in expr.kwargs]
                return f"namespace({', '.join(keywords)})", _POSTFIX
            case jinja.Call(node=jinja.Name(name=macro)):
                given = self._stored(f"{macro}()", expr.args[0]) if self.uses_data(macro) else ""
                return f"{macro}({given})", _POSTFIX
            case jinja.Filter():
                name, arguments, line = call_of(expr)
                return self._call(name, arguments, line, kind_of(expr))
        raise TypeError(type(expr).__name__)

    def _constant(self, expr: jinja.Const) -> tuple[str, int]:
        value = expr.value
        if isinstance(value, str):
            return quoted(value), _POSTFIX
        if isinstance(value, bool) or value is None:
            return str(value).lower(), _POSTFIX
        if isinstance(value, complex):
            return self._fail(expr.lineno, "Jinja has no complex numbers", "write the text that is meant")
        return repr(value), _UNARY if value < 0 else _POSTFIX

    def _comparison(self, expr: jinja.Compare) -> tuple[str, int]:
        (operand,) = expr.ops
        if operand.op == "in":
            assert isinstance(operand.expr, jinja.Tuple)
            return f"{self.write(expr.expr, _SUM)} in ({self._listed(operand.expr.items)})", _COMPARE
        return f"{self.write(expr.expr, _SUM)} {_ORDER[operand.op]} {self.write(operand.expr, _SUM)}", _COMPARE

    def _listed(self, items: Sequence[jinja.Node]) -> str:
        return ", ".join(map(self.write, items))

    def _fail(self, line: int, message: str, hint: str = "") -> tuple[str, int]:
        self.unconverted.append(Unconvertible(line, message, hint))
        return f"fail({quoted(message)})", _POSTFIX

    # --- calls -------------------------------------------------------------------------------------------------------

    def _call(self, name: str, arguments: Sequence[jinja.Node], line: int, kind: str | None) -> tuple[str, int]:
        first = arguments[0] if arguments else jinja.Const(None)
        if name in _CHECKS:
            return self._written(first)
        if name == "_refuse":
            words = [one.value for one in arguments if isinstance(one, jinja.Const)]
            return self._fail(line, *words)
        if name in {"_entry", "_field"}:
            return self._field(first, arguments[1], arguments[2:])
        if name == "_empty":
            return ("{}" if getattr(first, "value", "") == MAP else "[]"), _POSTFIX
        if name == "_slots":
            return f"go.slots({self.write(first)})", _POSTFIX
        if name == "_keep":
            return f"go.keep({self._listed(arguments)})", _POSTFIX
        if name == "include":
            return self._fail(line, "another template cannot be included with data", "make it a macro and import it")
        if name in {"format", "length"}:
            rest = f"({self._listed(arguments[1:])})" if arguments[1:] else ""
            return f"{self.write(first, _POSTFIX)} | {name}{rest}", _POSTFIX
        return (
            self._operator(name, arguments)
            or self._plain(name, arguments, kind)
            or (f"go.{name}({', '.join(map(self._typed, arguments))})", _POSTFIX)
        )

    def _typed(self, expr: jinja.Node) -> str:
        """Return an argument for a Go function; one kind of list has no type of its own in Jinja."""
        if kind_of(expr) == PAIR_LIST and self._is_new(expr):
            assert isinstance(expr, jinja.Filter)
            name, arguments, _ = call_of(expr)
            return f"go.{name}({self._listed(arguments)})"
        return self.write(expr)

    def _field(self, receiver: jinja.Node, name: jinja.Node, given: Sequence[jinja.Node]) -> tuple[str, int]:
        assert isinstance(name, jinja.Const)
        kind = kind_of(receiver)
        if kind not in {ANY, MAP, TIME, PAIRS, None}:
            return self._fail(receiver.lineno, f"can't evaluate field {name.value} in type {kind}")
        text = self.write(receiver, _POSTFIX)
        if kind == PAIRS or not self._is_printed(receiver):
            text = f"go.value({text})"
        text += f".{name.value}" if _WORD.fullmatch(name.value) else f"[{quoted(name.value)}]"
        return (f"{text}({self._listed(given)})" if given else text), _POSTFIX

    def _operator(self, name: str, arguments: Sequence[jinja.Node]) -> tuple[str, int] | None:
        """Return a call as an operator, if there is one that does the same."""
        kinds = [kind_of(one) for one in arguments]
        if name in _SIGNS and not any(map(_is_checked, arguments)) and not any(map(_is_large, arguments)):
            sign, level = _SIGNS[name]
            left, right = arguments
            return f"{self.write(left, level)} {sign} {self.write(right, level + 1)}", level
        if name in _ORDER and len(arguments) > 1 and set(kinds) == {ANY, STRING}:
            if any(kind == ANY and not self._is_printed(one) for kind, one in zip(kinds, arguments, strict=True)):
                return None
            if len(arguments) > 2:
                return f"{self.write(arguments[0], _SUM)} in ({self._listed(arguments[1:])})", _COMPARE
            return f"{self.write(arguments[0], _SUM)} {_ORDER[name]} {self.write(arguments[1], _SUM)}", _COMPARE
        if name == "empty":
            return f"not {self.write(arguments[0], _NOT)}", _NOT
        if name == "ternary" and not any(map(_is_checked, arguments)):
            yes, no, condition = arguments
            return self._choice([condition], yes, no)
        if name == "default":
            otherwise, value = arguments
            return f"{self.write(value, _POSTFIX)} | default({self.write(otherwise)}, true)", _POSTFIX
        if name == "print" and _are_joined(kinds):
            if len(arguments) == 1:
                return self._written(arguments[0])
            return " ~ ".join(self.write(one, _PRODUCT) for one in arguments), _CONCAT
        if name == "index" and len(arguments) > 1:
            return self._index(arguments)
        return None

    def _index(self, arguments: Sequence[jinja.Node]) -> tuple[str, int] | None:
        kind = kind_of(arguments[0])
        text = self.write(arguments[0], _POSTFIX)
        for position in arguments[1:]:
            counted = isinstance(position, jinja.Const) and type(position.value) is int and position.value >= 0
            held = len(arguments) == 2 and kind in {MAP, ANY, ANYS} and (counted or kind_of(position) == STRING)
            if not (held or (counted and kind in _LISTS)):
                return None
            text += f"[{self.write(position)}]"
            kind = ELEMENTS.get(str(kind), ANY)
        return text, _POSTFIX

    def _plain(self, name: str, arguments: Sequence[jinja.Node], kind: str | None) -> tuple[str, int] | None:
        """Return the call of a function or filter of Jinja's, where it does the same."""
        if any(map(_is_checked, arguments)) or (self._in_place and name in _LISTING | CHANGES_IN_PLACE):
            return None
        first = arguments[0] if arguments else None
        if name == "join":
            return f"{self.write(arguments[0], _POSTFIX)} | join({self.write(arguments[1])})", _POSTFIX
        if name == "reverse" and kind in {PAIRS, INTS}:
            return self._written(arguments[0])  # which reverse does not know
        if name == "reverse" and kind not in {STRINGS, PAIR_LIST}:
            return None
        if name in {"ls", "lsdir"} and not self._is_path(first):
            return None
        if name in {"getv", "getenv"} and (len(arguments) > 2 or any(map(_may_be_no_text, arguments[1:]))):
            return None
        if name == "replace" and _value(arguments[3]) == -1 and not any(map(_may_be_no_text, arguments)):
            text = self.write(arguments[0], _POSTFIX)
            return f"{text} | replace({self._listed(arguments[1:3])})", _POSTFIX
        if name not in _SAME or (name == "div" and any(map(_is_large, arguments))):
            return None
        return f"{_SAME[name]}({self._listed(arguments)})", _POSTFIX

    def _is_path(self, expr: jinja.Node | None, seen: frozenset[str] = frozenset()) -> bool:
        """Return whether a path is below the root and, as far as is known, spelled like a key."""
        if isinstance(expr, jinja.Name):
            assigned = self._assigned[expr.name] if expr.name not in seen else []
            return bool(assigned) and all(self._is_path(one, seen | {expr.name}) for one in assigned)
        if isinstance(expr, jinja.Const):
            path = str(expr.value)
            return path[:1] == "/" and path[1:2] not in {"", "/"} and normpath(path) == path.removesuffix("/")
        first = expr.nodes[0] if isinstance(expr, jinja.Concat) else expr
        if isinstance(first, jinja.Filter) and call_of(first)[0] in {"format", "print"}:
            first = next(iter(call_of(first)[1]), first)
        return isinstance(first, jinja.Const) and bool(re.match("/[^/%]", str(first.value)))


def _choice_of(expr: jinja.Or) -> tuple[Sequence[jinja.Node], jinja.Node, jinja.Node] | None:
    """Return the tests and both values of ``A and B or C``, if B is never false; else None."""
    tests: list[jinja.Node] = []
    yes: jinja.Node = expr.left
    while isinstance(yes, jinja.And):
        if isinstance(yes.left, jinja.Filter) and yes.left.name == "_done":
            return None
        tests.append(yes.left)
        yes = yes.right
    return (tests, yes, expr.right) if tests and isinstance(yes, jinja.Const) and yes.value else None


def _are_joined(kinds: Sequence[str | None]) -> bool:
    """Return whether Go's ``print`` only joins operands of these types: it puts a space between two non-strings."""
    return STRING in kinds and {STRING, INT}.issuperset(kinds) and all(STRING in pair for pair in pairwise(kinds))


def kind_of(expr: jinja.Node) -> str | None:
    """Return the Go type of an expression; None if it has none."""
    if isinstance(expr, jinja.Filter) and expr.name in {"_expect", "_expect_string"}:
        return kind_of(_arguments(expr)[0])
    if isinstance(expr, jinja.Or) and (choice := _choice_of(expr)) is not None:
        _, yes, no = choice
        if kind_of(yes) == kind_of(no):
            return kind_of(yes)
    return getattr(expr, "go_type", None)


def call_of(expr: jinja.Filter) -> tuple[str, Sequence[jinja.Node], int]:
    """Return the called function, its arguments, and the line."""
    if expr.name == "_at":
        assert isinstance(expr.node, jinja.Const)
        assert isinstance(expr.args[0], jinja.Const)
        return expr.args[0].value, expr.args[1:], expr.node.value
    return expr.name, _arguments(expr), expr.lineno


def _arguments(expr: jinja.Filter) -> Sequence[jinja.Node]:
    assert expr.node
    return [expr.node, *expr.args]


def _loaded(node: jinja.Node) -> set[str]:
    return {name.name for name in node.find_all(jinja.Name) if name.ctx == "load"}


def _untyped(tree: jinja.Template) -> Iterator[str]:
    """Yield the names whose type is known only at run time; for a macro's data, the macro's name."""
    for node in tree.find_all((jinja.Name, jinja.Getattr)):
        if kind_of(node) == ANY and isinstance(node, jinja.Name):
            yield node.name
        elif kind_of(node) == ANY and isinstance(node, jinja.Getattr) and isinstance(node.node, jinja.Name):
            yield f"{node.node.name}.{node.attr}"
            yield node.attr
    for macro in tree.find_all(jinja.Macro):
        if any(name.name == "data" and kind_of(name) == ANY for name in macro.find_all(jinja.Name)):
            yield f"{macro.name}()"


def _value(expr: jinja.Node) -> object:
    return expr.value if isinstance(expr, jinja.Const) else None


def _is_large(expr: jinja.Node) -> bool:
    """Return whether a constant is so large that a result may overflow in Go."""
    return isinstance(expr, jinja.Const) and abs(expr.value) > 2**31


def _check_of(expr: jinja.Node) -> str:
    return call_of(expr)[0] if isinstance(expr, jinja.Filter) else ""


def _is_checked(expr: jinja.Node) -> bool:
    """Return whether the type of an argument, no string, is known only at run time."""
    return _check_of(expr) == "_expect"


def _may_be_no_text(expr: jinja.Node) -> bool:
    return _check_of(expr) == "_expect_string"


def quoted(text: str) -> str:
    """Return a Jinja string constant."""
    sign = "'" if '"' in text and "'" not in text else '"'

    def shown(character: str) -> str:
        if character in {"\\", sign}:
            return "\\" + character
        if character in _ESCAPES:
            return _ESCAPES[character]
        # The stand-in for a carriage return while Jinja reads must not become an escape.
        if character.isprintable() or character == "\u1680":
            return character
        return f"\\U{ord(character):08x}" if character > "\uffff" else f"\\u{ord(character):04x}"

    return sign + "".join(map(shown, text)) + sign


_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
