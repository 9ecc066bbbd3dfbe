"""Writes a Go template as the text of a Jinja template, with its layout, comments and trim markers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jinja2 import nodes as jinja

from confpy.convert.expressions import Expressions, Unconvertible
from confpy.templates.golang import nodes
from confpy.templates.golang.parser import parse
from confpy.templates.golang.signatures import FUNCTIONS
from confpy.templates.golang.translate import translate

_WHITE = " \t\r\n"
"""What Go's trim markers take; Jinja's take all white space."""


class Written(NamedTuple):
    """A converted template."""

    text: str
    unconverted: Sequence[Unconvertible]


@dataclass(slots=True)
class _Tag:
    """``{% … %}``, ``{{ … }}`` or ``{# … #}`` by its sign; without one, a Go tag that was dropped."""

    sign: str
    text: str
    left: bool
    right: bool


class _Signs:
    """What begins and ends the tags of Jinja, and what has to be escaped in texts for that."""

    def __init__(self, delimiters: Sequence[str]) -> None:
        left, right = delimiters or ("{{", "}}")
        self.around = {"%": ("{%", "%}"), "{": (left, right), "#": ("{#", "#}")}
        lefts = [left for left, _ in self.around.values()]
        whole = "|".join(map(re.escape, lefts))
        # With the tag behind it, what a left delimiter begins with would be one that begins too early.
        heads = {left[:length] for left in lefts for length in range(1, len(left))}
        cut = "|".join(re.escape(head) for head in sorted(heads, key=len, reverse=True))
        self.inside = re.compile(whole)
        self.before_tag = re.compile(rf"{whole}|(?:{cut})\Z")

    def tag(self, tag: _Tag) -> str:
        left, right = self.around[tag.sign]
        return f"{left}{'-' * tag.left} {tag.text} {'-' * tag.right}{right}"

    def escaped(self, text: str, *, before_tag: bool) -> str:
        """Return a text in which Jinja finds no tag."""
        signs = self.before_tag if before_tag else self.inside
        found = list(signs.finditer(text))
        if len(found) > _SEVERAL and "endraw" not in text:
            start, end = found[0].start(), found[-1].end()
            closed = text.find("}", end) + 1
            end = closed or end
            return f"{text[:start]}{{% raw %}}{text[start:end]}{{% endraw %}}{text[end:]}"
        left, right = self.around["{"]
        return signs.sub(lambda sign: f'{left} "{sign[0]}" {right}', text)


def write(source: str, name: str, delimiters: tuple[str, ...] = ()) -> Written:
    """Return a Go template in Jinja, expressions between the same delimiters.

    Raises ``GoSyntaxError``, and ``RecursionError`` where it is nested too deeply.
    """
    template = parse(source, name, FUNCTIONS, delimiters)
    return _Writer(template, translate(template), _Signs(delimiters)).file()


class _Writer:
    """Walks Go's statements and Jinja's side by side: copies the text, and writes new tags."""

    def __init__(self, template: nodes.Template, tree: jinja.Template, signs: _Signs) -> None:
        self._template = template
        self._signs = signs
        self._tree = tree
        self._expressions = Expressions(tree)
        self._pieces: list[str | _Tag] = []
        self._end = 0
        """Where the last tag of the source that was written ends."""
        macros = {node.name: node for node in tree.body if isinstance(node, jinja.Macro)}
        self._macros = {go.name: macros[name] for go, name in _calls(tree)}
        """Defined template → macro."""
        self._here = self._placed()

    def file(self) -> Written:
        main, definitions = self._template.main, self._template.definitions
        elsewhere = [name for name in self._macros if definitions[name] not in self._here]
        for name in elsewhere:
            self._macro_ahead(definitions[name], self._macros[name])
        self._end = main.tag.end if main.tag else 0
        end = main.end_tag.pos if main.end_tag else len(self._template.source)
        if elsewhere and self._template.source[self._end : self._end + 1] not in set(" \t\r\n\v\f"):
            self._break_line()
        body = [node for node in self._tree.body if not isinstance(node, jinja.Macro)]
        statements = list(main.body)
        if main.tag is None:
            statements += [one for one in self._template.order if not one.block]  # type: ignore[misc]
            statements.sort(key=_position)
        self._body(body, statements)
        self._text(end)
        return Written("".join(_joined(self._pieces, self._signs)), self._expressions.unconverted)

    # --- defined templates -------------------------------------------------------------------------------------------

    def _placed(self) -> list[nodes.Definition]:
        """Return the definitions that can stay where they are: before all that calls them, and not within others."""
        template, known = self._template, self._template.definitions
        calls = [one for one in nodes.statements(template.main.body) if isinstance(one, nodes.Call)]
        spans = [(one.tag.pos, one.end_tag.end) for one in template.main.body if isinstance(one, nodes.Branch)]
        spans += [(one.tag.pos, one.end_tag.end) for one in template.order if one.tag and one.end_tag]
        here = []
        for name in self._macros if template.main.tag is None else ():
            definition = known[name]
            if definition.tag is None:
                continue
            pos = definition.tag.pos
            callers = (call for call in calls if name in _reached(template, call.name))
            if not any(start < pos < end for start, end in spans) and all(pos <= call.tag.pos for call in callers):
                here.append(definition)
        return here

    def _macro_ahead(self, definition: nodes.Definition, macro: jinja.Macro) -> None:
        """Write a macro in front of all else."""
        tag, end = definition.tag, definition.end_tag
        if self._pieces:
            self._break_line()
        self._end = tag.end if tag else 0
        self._pieces.append(_Tag("%", self._signature(macro), left=False, right=bool(tag and tag.trims_right)))
        self._body(macro.body, definition.body)
        self._text(end.pos if end else len(self._template.source))
        self._pieces.append(_Tag("%", "endmacro", left=bool(end and end.trims_left), right=False))

    def _break_line(self) -> None:
        """Begin a new line, which is not printed, behind a tag."""
        last = self._pieces[-1]
        assert isinstance(last, _Tag)
        last.right = True
        self._pieces.append("\n")

    def _signature(self, macro: jinja.Macro) -> str:
        return f"macro {macro.name}({'data' if self._expressions.uses_data(macro.name) else ''})"

    def _macro(self, definition: nodes.Definition) -> None:
        """Write a macro in the place of its definition."""
        assert definition.tag
        assert definition.end_tag
        if definition not in self._here:
            self._drop(definition.tag)
            self._end = definition.end_tag.pos
            self._drop(definition.end_tag)
            return
        macro = self._macros[definition.name]
        self._tag(definition.tag, "%", self._signature(macro))
        self._body(macro.body, definition.body)
        self._tag(definition.end_tag, "%", "endmacro")

    # --- tags and text -----------------------------------------------------------------------------------------------

    def _text(self, until: int) -> None:
        self._pieces.append(self._template.source[self._end : until])
        self._end = until

    def _tag(self, tag: nodes.Tag, sign: str, text: str) -> None:
        """Write what a tag of the source becomes."""
        self._text(tag.pos)
        self._pieces.append(_Tag(sign, text, tag.trims_left, tag.trims_right))
        self._end = tag.end

    def _drop(self, tag: nodes.Tag) -> None:
        self._tag(tag, "", "")

    def _more(self, sign: str, text: str) -> None:
        """Write a further tag behind the last one."""
        last = self._pieces[-1]
        assert isinstance(last, _Tag)
        self._pieces.append(_Tag(sign, text, left=False, right=last.right))
        last.right = False

    # --- statements --------------------------------------------------------------------------------------------------

    def _body(self, body: Sequence[jinja.Node], statements: Iterable[nodes.Statement]) -> None:
        made: dict[int, list[jinja.Node]] = {}
        for node in _flat(body):
            go = getattr(node, "go", None)
            if go is None:
                self._more(*self._simple(node))
            else:
                made.setdefault(id(go), []).append(node)
        for statement in statements:
            match statement:
                case nodes.Comment():
                    self._tag(statement.tag, "#", _comment(statement.text))
                case nodes.Definition():
                    self._macro(statement)
                case nodes.Branch():
                    self._branch(statement, made[id(statement)])
                case nodes.Call(block=True):
                    self._block(statement, made[id(statement)])
                case nodes.Action() | nodes.Call() | nodes.Jump():
                    self._opened(statement.tag, [self._simple(node) for node in made.get(id(statement), [])])

    def _opened(self, tag: nodes.Tag, texts: Sequence[tuple[str, str]]) -> None:
        """Write the tags that one tag of the source becomes."""
        if not texts:
            self._drop(tag)
            return
        self._tag(tag, *texts[0])
        for sign, text in texts[1:]:
            self._more(sign, text)

    def _simple(self, node: jinja.Node) -> tuple[str, str]:
        """Return the sign and the text of a statement that has no body, or of a part of an output."""
        match node:
            case jinja.Break():
                return "%", "break"
            case jinja.Continue():
                return "%", "continue"
            case jinja.Assign():
                return "%", self._expressions.assignment(node)
            case jinja.Expr():
                return "{", self._expressions.printed(node)
        raise TypeError(type(node).__name__)

    def _block(self, call: nodes.Call, made: Sequence[jinja.Node]) -> None:
        definition = next(one for one in self._template.order if one.tag and one.tag.pos == call.tag.pos)
        assert definition.end_tag
        if definition in self._here:
            self._macro(definition)
            for node in made:
                self._more(*self._simple(node))
            return
        self._opened(call.tag, [self._simple(node) for node in made])
        last = self._pieces[-1]
        assert isinstance(last, _Tag)
        last.right, self._end = definition.end_tag.trims_right, definition.end_tag.end

    def _branch(self, branch: nodes.Branch, made: list[jinja.Node]) -> None:
        at = next(index for index, node in enumerate(made) if isinstance(node, jinja.If | jinja.For))
        before = [self._simple(node) for node in made[:at]]
        node = made[at]
        if isinstance(node, jinja.For):
            following = made[at + 1] if made[at + 1 :] else None
            assert following is None or isinstance(following, jinja.If)
            self._loop(node, branch, before, following)
        else:
            assert isinstance(node, jinja.If)
            self._opened(branch.tag, [*before, ("%", f"if {self._expressions.test(node.test)}")])
            self._opened(branch.end_tag, [("%", "endif")] * self._choice(node, branch))

    def _choice(self, node: jinja.If, branch: nodes.Branch) -> int:
        """Write what follows an ``if`` up to its end; return how many there are to end."""
        self._body(node.body, branch.body)
        for other in node.elif_:
            branch = other.go  # type: ignore[attr-defined]
            self._tag(branch.tag, "%", f"elif {self._expressions.test(other.test)}")
            self._body(other.body, branch.body)
        chained = branch.orelse[0] if branch.orelse else None
        if isinstance(chained, nodes.Branch) and chained.chained:
            *before, following = _flat(node.else_)
            assert isinstance(following, jinja.If)
            test = ("%", f"if {self._expressions.test(following.test)}")
            self._opened(chained.tag, [("%", "else"), *map(self._simple, before), test])
            return self._choice(following, chained) + 1
        if branch.orelse is not None:
            assert branch.else_tag
            self._tag(branch.else_tag, "%", "else")
            self._body(node.else_, branch.orelse)
        return 1

    def _loop(
        self, node: jinja.For, branch: nodes.Branch, before: list[tuple[str, str]], following: jinja.If | None
    ) -> None:
        target, items, key = self._expressions.loop(node)
        self._opened(branch.tag, [*before, ("%", f"for {target} in {items}")])
        counters = self._expressions.counters
        outer = set(counters)
        counters.clear()
        if key and any(_names(inner, key) for inner in node.find_all(jinja.For)):
            self._more("%", f"set {key} = loop.index0")
        elif key:
            counters.add(key)
        self._body(node.body, branch.body)
        counters.clear()
        counters |= outer
        if following is not None:
            assert branch.else_tag
            self._tag(branch.else_tag, "%", "endfor")
            self._more("%", f"if {self._expressions.test(following.test)}")
            self._body(following.body, branch.orelse or ())
            self._tag(branch.end_tag, "%", "endif")
            return
        if branch.orelse is not None:
            assert branch.else_tag
            self._tag(branch.else_tag, "%", "else")
            self._body(node.else_, branch.orelse)
        self._tag(branch.end_tag, "%", "endfor")


def _position(statement: nodes.Statement | nodes.Definition) -> int:
    if isinstance(statement, nodes.Text):
        return statement.pos
    return statement.tag.pos if statement.tag else 0


def _flat(body: Iterable[jinja.Node]) -> Iterator[jinja.Node]:
    """Yield the statements of a body; of outputs the parts, but for texts, which are copied from the source."""
    for node in body:
        if isinstance(node, jinja.Output):
            yield from (part for part in node.nodes if not isinstance(part, jinja.TemplateData))
        else:
            yield node


def _calls(tree: jinja.Template) -> Iterator[tuple[nodes.Call, str]]:
    """Yield what calls a defined template, and the macro's name."""
    for call in tree.find_all(jinja.Call):
        go = getattr(call, "go", None)
        if isinstance(go, nodes.Call) and isinstance(call.node, jinja.Name):
            yield go, call.node.name


def _reached(template: nodes.Template, name: str) -> set[str]:
    """Return the defined templates that a call of one brings to run."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in template.definitions and name not in reached:
            reached.add(name)
            body = template.definitions[name].body
            waiting += [one.name for one in nodes.statements(body) if isinstance(one, nodes.Call)]
    return reached


def _names(node: jinja.Node, name: str) -> bool:
    return any(one.name == name and one.ctx == "load" for one in node.find_all(jinja.Name))


def _comment(text: str) -> str:
    """Return a comment with one space at each end, unless it has lines of its own there."""
    return text.replace("#}", "# }").strip(" ")


# --- text between tags -----------------------------------------------------------------------------------------------


def _joined(pieces: Sequence[str | _Tag], signs: _Signs) -> Iterator[str]:
    """Yield texts and tags with what Jinja makes the same of: trim markers, and signs of its own in the text."""
    opening: _Tag | None = None
    run: list[str | _Tag] = []
    for piece in [*pieces, None]:
        if piece is not None and not (isinstance(piece, _Tag) and piece.sign):
            run.append(piece)
            continue
        closing = piece if isinstance(piece, _Tag) else None
        text = _between(opening, run, closing)
        if opening:
            yield signs.tag(opening)
        yield signs.escaped(text, before_tag=closing is not None)
        opening, run = closing, []


def _between(before: _Tag | None, run: Sequence[str | _Tag], after: _Tag | None) -> str:
    """Return the text between two tags; where Jinja would trim another, trimmed, and the tags without their marks."""
    ends = [before, *run, after]
    raw = wanted = ""
    for last, piece, following in zip(ends, ends[1:], ends[2:], strict=False):
        if isinstance(piece, str):
            raw += piece
            left = piece.lstrip(_WHITE) if isinstance(last, _Tag) and last.right else piece
            wanted += left.rstrip(_WHITE) if isinstance(following, _Tag) and following.left else left
    trimmed = raw.lstrip() if before and before.right else raw
    trimmed = trimmed.rstrip() if after and after.left else trimmed
    if trimmed == wanted:
        return raw
    if before:
        before.right = False
    if after:
        after.left = False
    return wanted


_SEVERAL = 2
"""So many signs are written one by one; more as one raw text."""
