"""A Go template as a tree: what the parser makes and the translator reads. Data only.

``pos`` and ``end`` are offsets of characters in the source, ``line`` counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from confpy.frozen import frozen


@frozen
class Tag:
    """One ``{{ … }}`` as it stands in the source."""

    pos: int
    end: int
    line: int
    trims_left: bool
    """``{{-``: the white space before it is not part of the text."""
    trims_right: bool


# --- expressions -----------------------------------------------------------------------------------------------------


@frozen
class Bool:
    """``true`` or ``false``."""

    pos: int
    end: int
    line: int
    value: bool


@frozen
class String:
    """A quoted or raw string."""

    pos: int
    end: int
    line: int
    value: str
    raw: bool
    """It was written between backquotes."""


@frozen
class Number:
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


@frozen
class Nil:
    """``nil``: only an argument may be it."""

    pos: int
    end: int
    line: int


@frozen
class Dot:
    """``.``: what a template, ``range`` or ``with`` is about."""

    pos: int
    end: int
    line: int


@frozen
class Field:
    """``.a.b``: fields of the dot."""

    pos: int
    end: int
    line: int
    names: tuple[str, ...]


@frozen
class Variable:
    """``$x.a.b``."""

    pos: int
    end: int
    line: int
    name: str
    """With the dollar sign."""
    fields: tuple[str, ...] = ()


@frozen
class Function:
    """The name of a function, alone or as the first word of a command."""

    pos: int
    end: int
    line: int
    name: str


@frozen
class Chain:
    """``(…).a.b``, also behind a function's name."""

    pos: int
    end: int
    line: int
    operand: Expression
    fields: tuple[str, ...]


@frozen
class Command:
    """Operands one after the other: a function with its arguments, or a single value."""

    pos: int
    end: int
    line: int
    operands: tuple[Expression, ...]


@frozen
class Pipeline:
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


@frozen
class Text:
    """What stands between actions, without what trim markers took."""

    pos: int
    line: int
    text: str


@frozen
class Comment:
    """A comment, which prints nothing."""

    tag: Tag
    text: str
    """Without ``/*`` and ``*/``."""


@frozen
class Action:
    """Prints a value, or sets a variable."""

    tag: Tag
    pipeline: Pipeline


@frozen
class Branch:
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


@frozen
class Call:
    """``template``, or the ``block`` that also defines what it calls."""

    tag: Tag
    name: str
    pipeline: Pipeline | None
    block: bool = False


@frozen
class Jump:
    """What leaves a loop, or goes on with its next turn."""

    tag: Tag
    keyword: str
    """``break`` or ``continue``."""


Statement: TypeAlias = Text | Comment | Action | Branch | Call | Jump


@frozen
class Definition:
    """The body of a ``define`` or ``block``; of the file itself, too."""

    name: str
    tag: Tag | None
    """None for the file."""
    end_tag: Tag | None
    body: tuple[Statement, ...]
    block: bool = False


@frozen
class Template:
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
