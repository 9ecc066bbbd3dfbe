"""Functions of Go that Jinja has an expression of its own for. Pure.

Each takes the name and the arguments, and returns the expression, or None where only Go's own function will do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from jinja2 import nodes as jinja

from confpy.templates.golang.emit import Emitter, Value
from confpy.templates.golang.values import BOOL, FLOAT, INT, LISTS, MAP, STRING

_ORDERED = frozenset({STRING, INT, FLOAT})
_OPERATORS = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "lteq", "gt": "gt", "ge": "gteq"}
# What Go and Python format alike.
_FORMAT = re.compile(r"(%(?:%|[-+0]*[0-9]{0,3}d|-?(?:[1-9][0-9]{0,2})?(?:\.[0-9]{1,3})?s|v))")
_FITTING = {"d": {INT}, "s": {STRING}, "v": {INT, STRING}}


def _compare(emit: Emitter, name: str, given: Sequence[Value]) -> Value | None:
    kinds = {one.type for one in given}
    if len(given) < 2 or len(kinds) > 1 or not kinds <= (_ORDERED | ({BOOL} if name in {"eq", "ne"} else set())):
        return None
    first, *others = (one.expr for one in given)
    if len(others) == 1:
        operand = jinja.Operand(_OPERATORS[name], others[0], lineno=emit.line)
    else:
        operand = jinja.Operand("in", jinja.Tuple(others, "load", lineno=emit.line), lineno=emit.line)
    return emit.value(jinja.Compare(first, [operand], lineno=emit.line), BOOL)


def _not(emit: Emitter, _name: str, given: Sequence[Value]) -> Value:
    return emit.value(jinja.Not(given[0].expr, lineno=emit.line), BOOL)


def _len(emit: Emitter, _name: str, given: Sequence[Value]) -> Value | None:
    if given[0].type not in {*LISTS, MAP}:
        return None
    return emit.value(emit.filter("length", given[0].expr), INT)


def _printf(emit: Emitter, _name: str, given: Sequence[Value]) -> Value | None:
    """Format with Jinja's own means where they do the same as Go's."""
    template, kinds = given[0].expr, [one.type for one in given[1:]]
    if not isinstance(template, jinja.Const) or not isinstance(template.value, str):
        return None
    parts = _FORMAT.split(template.value)
    texts, verbs = parts[::2], parts[1::2]
    fits = [_FITTING[verb[-1]] for verb in verbs if verb != "%%"]
    if "%" in "".join(texts) or len(fits) != len(kinds) or not all(map(set.__contains__, fits, kinds)):
        return None
    if any(verb not in {"%s", "%d", "%v", "%%"} for verb in verbs):
        plain = "".join(text + verb.replace("v", "s") for text, verb in zip(texts, [*verbs, ""], strict=True))
        shape = jinja.Const(plain, lineno=emit.line)
        return emit.value(emit.filter("format", shape, *(one.expr for one in given[1:])), STRING)
    pieces: list[jinja.Expr] = []
    values = iter(given[1:])
    literal = ""
    for text, verb in zip(texts, [*verbs, ""], strict=True):
        literal += text + ("%" if verb == "%%" else "")
        if verb and verb != "%%":
            pieces += [jinja.Const(literal, lineno=emit.line)] if literal else []
            pieces.append(next(values).expr)
            literal = ""
    pieces += [jinja.Const(literal, lineno=emit.line)] if literal or not pieces else []
    if len(pieces) == 1 and (isinstance(pieces[0], jinja.Const) or kinds == [STRING]):
        return emit.value(pieces[0], STRING)
    return emit.value(jinja.Concat(pieces, lineno=emit.line), STRING)


SPECIAL: dict[str, Callable[[Emitter, str, Sequence[Value]], Value | None]] = {
    **dict.fromkeys(_OPERATORS, _compare),
    "not": _not,
    "len": _len,
    "printf": _printf,
}
