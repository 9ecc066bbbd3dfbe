"""A Go template as a tree: what the parser makes and the translator reads. Data only.

``pos`` and ``end`` are offsets of characters in the source, ``line`` counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from confpy.value import Value


class Tag(Value):
    """One ``{{ … }}`` as it stands in the source."""

    pos: int
    end: int
    line: int
    trims_left: bool
    """``{{-``: the white space before it is not part of the text."""
    trims_right: bool


# --- expressions -----------------------------------------------------------------------------------------------------


class Bool(Value):
    """``true`` or ``false``."""

    pos: int
    end: int
    line: int
    value: bool


class String(Value):
    """A quoted or raw string."""

    pos: int
    end: int
    line: int
    value: str
    raw: bool
    """It was written between backquotes."""


class Number(Value):
    """A constant; it has a value for each kind of number that can hold it."""

    pos: int
    end: int
    line: int
    text: str
    integer: int | None = None
    """A signed number of 64 bits."""
    floating: float | None = None
    imaginary: complex | None = None
    """Set only where it is written as a complex number: then that is what it is."""


class Nil(Value):
    """``nil``: only an argument may be it."""

    pos: int
    end: int
    line: int


class Dot(Value):
    """``.``: what a template, ``range`` or ``with`` is about."""

    pos: int
    end: int
    line: int


class Field(Value):
    """``.a.b``: fields of the dot."""

    pos: int
    end: int
    line: int
    names: tuple[str, ...]


class Variable(Value):
    """``$x.a.b``."""

    pos: int
    end: int
    line: int
    name: str
    """With the dollar sign."""
    fields: tuple[str, ...] = ()


class Function(Value):
    """The name of a function, alone or as the first word of a command."""

    pos: int
    end: int
    line: int
    name: str


class Chain(Value):
    """``(…).a.b``, also behind a function's name."""

    pos: int
    end: int
    line: int
    operand: Expression
    fields: tuple[str, ...]


class Command(Value):
    """Operands one after the other: a function with its arguments, or a single value."""

    pos: int
    end: int
    line: int
    operands: tuple[Expression, ...]


class Pipeline(Value):
    """Commands, each one's value the last argument of the next; also what stands between parentheses."""

    pos: int
    end: int
    line: int
    commands: tuple[Command, ...]
    declared: tuple[Variable, ...] = ()
    """The variables before ``:=`` or ``=``: two only in ``range``."""
    assigns: bool = False
    """It was ``=``."""


Expression: TypeAlias = Bool | String | Number | Nil | Dot | Field | Variable | Function | Chain | Pipeline


# --- statements ------------------------------------------------------------------------------------------------------


class Text(Value):
    """What stands between actions, without what trim markers took."""

    pos: int
    line: int
    text: str


class Comment(Value):
    """A comment, which prints nothing."""

    tag: Tag
    text: str
    """Without ``/*`` and ``*/``."""


class Action(Value):
    """Prints a value, or sets a variable."""

    tag: Tag
    pipeline: Pipeline


class Branch(Value):
    """``if``, ``with`` or ``range``."""

    tag: Tag
    keyword: str
    pipeline: Pipeline
    body: tuple[Statement, ...]
    orelse: tuple[Statement, ...] | None
    """One ``if`` whose ``chained`` is set, for ``else if``; None without ``else``."""
    else_tag: Tag | None
    end_tag: Tag
    chained: bool = False
    """It is the ``if`` of an ``else if`` and shares the ``end`` of the one before."""


class Call(Value):
    """``template``, or the ``block`` that also defines what it calls."""

    tag: Tag
    name: str
    pipeline: Pipeline | None
    block: bool = False


class Jump(Value):
    """What leaves a loop, or goes on with its next turn."""

    tag: Tag
    keyword: str
    """``break`` or ``continue``."""


Statement: TypeAlias = Text | Comment | Action | Branch | Call | Jump


class Definition(Value):
    """The body of a ``define`` or ``block``; of the file itself, too."""

    name: str
    tag: Tag | None
    """None for the file."""
    end_tag: Tag | None
    body: tuple[Statement, ...]
    block: bool = False


class Template(Value):
    """A file."""

    name: str
    """Its base name, by which ``template`` finds it."""
    source: str
    main: Definition
    """What is rendered."""
    definitions: dict[str, Definition]
    """All that ``template`` finds, by name."""
    order: tuple[Definition, ...] = ()
    """The ``define`` and ``block`` actions as they stand in the file."""


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the statements of a body, each before those within it."""
    waiting = [iter(body)]
    while waiting:
        statement = next(waiting[-1], None)
        if statement is None:
            waiting.pop()
            continue
        yield statement
        if isinstance(statement, Branch):
            waiting += [iter(statement.orelse or ()), iter(statement.body)]


def commands_within(body: Iterable[Statement]) -> Iterator[Command]:
    """Yield the commands of a body, those between parentheses too."""
    for statement in statements(body):
        if isinstance(statement, Action | Call | Branch) and statement.pipeline:
            yield from commands_of(statement.pipeline)


def commands_of(pipeline: Pipeline) -> Iterator[Command]:
    """Yield the commands of a pipeline, those between parentheses too."""
    for command in pipeline.commands:
        yield command
        for operand in command.operands:
            inner = innermost(operand)
            if isinstance(inner, Pipeline):
                yield from commands_of(inner)


def innermost(operand: Expression) -> Expression:
    """Return what a chain of fields begins with."""
    while isinstance(operand, Chain):
        operand = operand.operand
    return operand


def commands(template: Template) -> Iterator[Command]:
    """Yield the commands of a file and of all that it defines."""
    for definition in (template.main, *template.order):
        yield from commands_within(definition.body)
