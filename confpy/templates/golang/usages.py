"""What becomes of the variables of a Go template, and what its parts mention: found before it is translated. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from confpy.templates.golang import nodes


@dataclass(slots=True)
class Usage:
    """What becomes of a declared variable."""

    assigned: bool = False
    looped: bool = False
    """It is assigned in a loop that stands within its scope."""
    inline: bool = False
    """It is declared between parentheses."""


def survey(body: Iterable[nodes.Statement], usages: dict[int, Usage]) -> None:
    """Find out what becomes of the variables that are declared in a definition."""
    visible: list[tuple[str, Usage, int]] = []

    def meet(pipeline: nodes.Pipeline, loops: int, *, inline: bool = False) -> None:
        for inner in _within(pipeline):
            meet(inner, loops, inline=True)
        for variable in pipeline.declared:
            if not pipeline.assigns:
                usage = usages[variable.pos] = Usage(inline=inline)
                visible.append((variable.name, usage, loops))
                continue
            for name, usage, depth in reversed(visible):
                if name == variable.name:
                    usage.assigned = True
                    usage.looped |= loops > depth
                    usage.inline |= inline
                    break

    def walk(statements: Iterable[nodes.Statement], loops: int) -> None:
        for statement in statements:
            if isinstance(statement, nodes.Action | nodes.Call) and statement.pipeline:
                meet(statement.pipeline, loops)
            branch = statement if isinstance(statement, nodes.Branch) else None
            mark = len(visible)
            while branch is not None:
                deeper = loops + (branch.keyword == "range")
                # The variables of a loop live in its body, and are set there by a loop that assigns.
                meet(branch.pipeline, deeper)
                inside = len(visible)
                walk(branch.body, deeper)
                del visible[inside:]
                chained = branch.orelse[0] if branch.orelse else None
                if isinstance(chained, nodes.Branch) and chained.chained:
                    branch = chained
                    continue
                if branch.orelse:
                    walk(branch.orelse, loops)
                break
            if isinstance(statement, nodes.Branch):
                del visible[mark:]

    walk(body, 0)


def _within(pipeline: nodes.Pipeline) -> Iterator[nodes.Pipeline]:
    """Yield the pipelines that stand between parentheses in a pipeline, not those in these."""
    for command in pipeline.commands:
        for operand in map(nodes.innermost, command.operands):
            if isinstance(operand, nodes.Pipeline):
                yield operand


def functions(command: nodes.Command) -> Iterator[nodes.Function]:
    operands = map(nodes.innermost, command.operands)
    return (one for one in operands if isinstance(one, nodes.Function))


def mentions(body: Iterable[nodes.Statement], variable: str) -> bool:
    operands = (nodes.innermost(operand) for command in nodes.commands_within(body) for operand in command.operands)
    return any(isinstance(one, nodes.Variable) and one.name == variable for one in operands)


def calls(body: Iterable[nodes.Statement], names: Collection[str]) -> bool:
    operands = (nodes.innermost(operand) for command in nodes.commands_within(body) for operand in command.operands)
    return any(isinstance(one, nodes.Function) and one.name in names for one in operands)
