"""Go's template text as a tree (https://pkg.go.dev/text/template, as of Go 1.19: confd 0.16 is built with it). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from posixpath import basename

from confpy.frozen import replace
from confpy.templates.golang import literals, nodes
from confpy.templates.golang.lexer import GoSyntaxError, Kind, Lexer, Token, tag
from confpy.templates.golang.signatures import FOREIGN
from confpy.templates.results import BRACES

__all__ = ["GoSyntaxError", "parse"]

DEEPEST = 100
"""Actions and parentheses that may stand in each other."""

_OPERANDS = {
    Kind.BOOL, Kind.CHARACTER, Kind.COMPLEX, Kind.DOT, Kind.FIELD, Kind.WORD, Kind.NUMBER, Kind.NIL, Kind.RAW,
    Kind.STRING, Kind.VARIABLE, Kind.OPEN,
}  # fmt: skip
_CLOSING = {Kind.RIGHT: "", Kind.CLOSE: ")"}


def parse(source: str, name: str, functions: Collection[str], delimiters: tuple[str, ...] = ()) -> nodes.Template:
    """Return the tree of a file; raises ``GoSyntaxError``. Only what stands in ``functions`` may be called."""
    return _Parser(source, basename(name), functions, delimiters).file()


class _Stop(Exception):  # not an error: the ``end`` or ``else`` of the list that is being read
    def __init__(self, keyword: str, left: Token) -> None:
        super().__init__(keyword)
        self.keyword = keyword
        self.left = left


class _Reader:
    """The tokens of a file, of which some may be put back; and errors at the line that Go names."""

    def __init__(self, source: str, tokens: Iterable[Token]) -> None:
        self._source = source
        self._tokens = iter(tokens)
        self._ahead: list[Token] = []
        """Tokens that are read but not used, the next one last."""
        self._latest = Token(Kind.EOF, "EOF", 0, 1)
        """The last token that the lexer made: what Go names the line of."""

    def next(self) -> Token:
        if self._ahead:
            return self._ahead.pop()
        # The lexer ends with EOF or an error, which stays where it is.
        self._latest = next(self._tokens, self._latest)
        return self._latest

    def push(self, token: Token) -> None:
        self._ahead.append(token)

    def peek(self) -> Token:
        token = self.next()
        self.push(token)
        return token

    def next_word(self) -> Token:
        token = self.next()
        while token.kind is Kind.SPACE:
            token = self.next()
        return token

    def peek_word(self) -> Token:
        token = self.next_word()
        self.push(token)
        return token

    def error(self, message: str, token: Token | None = None, hint: str = "") -> GoSyntaxError:
        at = token if token is not None and token.line == self._latest.line else self._latest
        column = at.pos - self._source.rfind("\n", 0, at.pos)
        return GoSyntaxError(message, self._latest.line, column, hint)

    def unexpected(self, token: Token, where: str, hint: str = "") -> GoSyntaxError:
        if token.kind is Kind.ERROR:
            return self.error(token.text, token)
        return self.error(f"unexpected {token} in {where}", token, hint)


class _Parser:
    def __init__(self, source: str, name: str, functions: Collection[str], delimiters: tuple[str, ...]) -> None:
        self._source = source
        self._name = name
        self._functions = functions
        self._lexer = Lexer(source, delimiters)
        self._reader = _Reader(source, self._lexer)
        self._variables = ["$"]
        self._ranges = 0
        self._depth = 0
        self._found: dict[str, nodes.Definition] = {}
        self._order: list[nodes.Definition] = []

    def _right(self, where: str) -> Token:
        token = self._reader.next_word()
        if token.kind is not Kind.RIGHT:
            raise self._reader.unexpected(token, where)
        return token

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._reader.error(f"nested too deeply: more than {DEEPEST} levels")

    # --- lists -------------------------------------------------------------------------------------------------------

    def file(self) -> nodes.Template:
        body: list[nodes.Statement] = []
        while self._reader.peek().kind is not Kind.EOF:
            left = self._reader.next()
            if left.kind is Kind.LEFT:
                word = self._reader.next_word()
                if word.kind is Kind.KEYWORD and word.text == "define":
                    self._define(left)
                    continue
                self._reader.push(word)
            self._reader.push(left)
            try:
                body.append(self._statement())
            except _Stop as stop:
                raise self._reader.error(f"unexpected {{{{{stop.keyword}}}}}", stop.left) from None
        main = nodes.Definition(self._name, None, None, tuple(body))
        self._add(main)
        return nodes.Template(self._name, self._source, self._found[self._name], self._found, tuple(self._order))

    def _list(self) -> tuple[tuple[nodes.Statement, ...], _Stop]:
        """Return statements up to an ``end`` or ``else``, and that."""
        body: list[nodes.Statement] = []
        while self._reader.peek_word().kind is not Kind.EOF:
            try:
                body.append(self._statement())
            except _Stop as stop:
                return tuple(body), stop
        raise self._reader.error("unexpected EOF", hint="an {{end}} is missing")

    def _statement(self) -> nodes.Statement:
        token = self._reader.next_word()
        if token.kind is Kind.TEXT:
            return nodes.Text(token.pos, token.line, token.text)
        if token.kind is Kind.COMMENT:
            return nodes.Comment(self._lexer.comment_tag(token), token.text[2:-2])
        if token.kind is not Kind.LEFT:
            raise self._reader.unexpected(token, "input")
        return self._action(token)

    def _define(self, left: Token) -> None:
        name = self._string(self._reader.next_word(), "define clause")
        right = self._right("define clause")
        self._body_of(name, tag(left, right), "define clause", block=False)

    def _body_of(self, name: str, opening: nodes.Tag, where: str, *, block: bool) -> None:
        outer = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        self._deeper()
        body, stop = self._list()
        if stop.keyword != "end":
            raise self._reader.error(f"unexpected {{{{else}}}} in {where}", stop.left)
        self._depth -= 1
        self._variables, self._ranges = outer
        definition = nodes.Definition(name, opening, tag(stop.left, self._right("end")), body, block)
        self._order.append(definition)
        self._add(definition)

    def _add(self, definition: nodes.Definition) -> None:
        known = self._found.get(definition.name)
        if known is None or _blank(known.body):
            self._found[definition.name] = definition
        elif not _blank(definition.body):
            raise self._reader.error(f'multiple definition of template "{definition.name}"')

    # --- actions -----------------------------------------------------------------------------------------------------

    def _action(self, left: Token) -> nodes.Statement:
        word = self._reader.next_word()
        if word.kind is not Kind.KEYWORD or word.text == "define":
            self._reader.push(word)
            pipeline, right = self._pipeline("command", Kind.RIGHT)
            return nodes.Action(tag(left, right), pipeline)
        keyword = word.text
        if keyword == "end":
            self._reader.push(self._right("end"))
            raise _Stop("end", left)
        if keyword == "else":
            following = self._reader.peek_word()
            if not (following.kind is Kind.KEYWORD and following.text in {"if", "with"}):
                self._reader.push(self._right("else"))
            raise _Stop("else", left)
        if keyword in {"break", "continue"}:
            right = self._right(f"{{{{{keyword}}}}}")
            if not self._ranges:
                raise self._reader.error(f"{{{{{keyword}}}}} outside {{{{range}}}}", word)
            return nodes.Jump(tag(left, right), keyword)
        if keyword == "template":
            return self._template(left)
        if keyword == "block":
            return self._block(left)
        return self._branch(left, keyword)

    def _template(self, left: Token) -> nodes.Call:
        name = self._string(self._reader.next_word(), "template clause")
        word = self._reader.next_word()
        if word.kind is Kind.RIGHT:
            return nodes.Call(tag(left, word), name, None)
        self._reader.push(word)
        pipeline, right = self._pipeline("template clause", Kind.RIGHT)
        return nodes.Call(tag(left, right), name, pipeline)

    def _block(self, left: Token) -> nodes.Call:
        name = self._string(self._reader.next_word(), "block clause")
        pipeline, right = self._pipeline("block clause", Kind.RIGHT)
        opening = tag(left, right)
        self._body_of(name, opening, "block clause", block=True)
        return nodes.Call(opening, name, pipeline, block=True)

    def _string(self, token: Token, where: str) -> str:
        if token.kind not in {Kind.STRING, Kind.RAW}:
            raise self._reader.unexpected(token, where)
        return self._constant(token)

    def _branch(self, left: Token, keyword: str) -> nodes.Branch:
        """Read ``if``, ``with`` or ``range`` up to its ``end``; a chain of ``else if`` without recursion."""
        visible = len(self._variables)
        self._deeper()
        opened: list[tuple[nodes.Tag, nodes.Pipeline, tuple[nodes.Statement, ...], nodes.Tag]] = []
        while True:
            pipeline, right = self._pipeline(keyword, Kind.RIGHT)
            opening = tag(left, right)
            self._ranges += keyword == "range"
            body, stop = self._list()
            self._ranges -= keyword == "range"
            if stop.keyword == "end":
                end = tag(stop.left, self._right("end"))
                branch = nodes.Branch(opening, keyword, pipeline, body, None, None, end, bool(opened))
                break
            following = self._reader.peek_word()
            if following.kind is Kind.KEYWORD:
                if following.text != "if" or keyword != "if":
                    hint = "write {{else}}{{" + following.text + " …}} … {{end}}{{end}}"
                    raise self._reader.unexpected(following, "else", hint)
                self._reader.next_word()
                left = stop.left
                opened.append((opening, pipeline, body, nodes.Tag(left.pos, left.pos, left.line, left.trims, False)))
                continue
            otherwise = tag(stop.left, self._right("else"))
            orelse, last = self._list()
            if last.keyword != "end":
                raise self._reader.error("expected end; found {{else}}", last.left)
            end = tag(last.left, self._right("end"))
            branch = nodes.Branch(opening, keyword, pipeline, body, orelse, otherwise, end, bool(opened))
            break
        while opened:
            opening, pipeline, body, otherwise = opened.pop()
            branch = nodes.Branch(opening, "if", pipeline, body, (branch,), otherwise, branch.end_tag, bool(opened))
        self._depth -= 1
        del self._variables[visible:]
        return branch

    # --- expressions -------------------------------------------------------------------------------------------------

    def _pipeline(self, where: str, end: Kind) -> tuple[nodes.Pipeline, Token]:
        """Read a pipeline and the token that ends it."""
        first = self._reader.peek_word()
        declared, assigns = self._declarations(where)
        commands: list[nodes.Command] = []
        while True:
            token = self._reader.next_word()
            if token.kind is end:
                break
            if token.kind not in _OPERANDS:
                raise self._reader.unexpected(token, where)
            self._reader.push(token)
            commands.append(self._command())
        if not commands:
            raise self._reader.error(f"missing value for {where}", token)
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.operands[0], nodes.Bool | nodes.Dot | nodes.Nil | nodes.Number | nodes.String):
                raise self._reader.error(f"non executable command in pipeline stage {stage}")
        pipeline = nodes.Pipeline(
            first.pos, token.pos + len(_CLOSING[end]), first.line, tuple(commands), tuple(declared), assigns
        )
        return pipeline, token

    def _declarations(self, where: str) -> tuple[list[nodes.Variable], bool]:
        declared: list[nodes.Variable] = []
        while self._reader.peek_word().kind is Kind.VARIABLE:
            variable = self._reader.next_word()
            after = self._reader.peek()
            following = self._reader.peek_word()
            comma = following.kind is Kind.OTHER and following.text == ","
            if following.kind not in {Kind.ASSIGN, Kind.DECLARE} and not comma:
                if after.kind is Kind.SPACE:
                    self._reader.push(after)
                self._reader.push(variable)
                break
            self._reader.next_word()
            name = nodes.Variable(variable.pos, variable.pos + len(variable.text), variable.line, variable.text)
            declared.append(name)
            self._variables.append(variable.text)
            if not comma:
                return declared, following.kind is Kind.ASSIGN
            if where != "range" or len(declared) > 1:
                raise self._reader.error(f"too many declarations in {where}", variable)
            if self._reader.peek_word().kind not in {Kind.VARIABLE, Kind.RIGHT, Kind.CLOSE}:
                raise self._reader.error("range can only initialize variables")
        return declared, False

    def _command(self) -> nodes.Command:
        start = self._reader.peek_word()
        operands: list[nodes.Expression] = []
        while True:
            self._reader.peek_word()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._reader.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in {Kind.RIGHT, Kind.CLOSE}:
                self._reader.push(token)
            elif token.kind is not Kind.PIPE:
                raise self._reader.unexpected(token, "operand")
            break
        if not operands:
            raise self._reader.error("empty command", token)
        return nodes.Command(start.pos, operands[-1].end, start.line, tuple(operands))

    def _operand(self) -> nodes.Expression | None:
        term = self._term()
        if term is None or self._reader.peek().kind is not Kind.FIELD:
            return term
        first = last = self._reader.next()
        names = [first.text[1:]]
        while self._reader.peek().kind is Kind.FIELD:
            last = self._reader.next()
            names.append(last.text[1:])
        end = last.pos + len(last.text)
        if isinstance(term, nodes.Field):
            return nodes.Field(term.pos, end, term.line, (*term.names, *names))
        if isinstance(term, nodes.Variable):
            return nodes.Variable(term.pos, end, term.line, term.name, tuple(names))
        if isinstance(term, nodes.Bool | nodes.String | nodes.Number | nodes.Nil | nodes.Dot):
            raise self._reader.error(f'unexpected . after term "{self._source[term.pos : term.end]}"', first)
        return nodes.Chain(term.pos, end, term.line, term, tuple(names))

    def _term(self) -> nodes.Expression | None:
        token = self._reader.next_word()
        kind, text = token.kind, token.text
        place = token.pos, token.pos + len(text), token.line
        if kind is Kind.WORD:
            if text not in self._functions:
                raise self._reader.error(f'function "{text}" not defined', token, self._advise(text))
            return nodes.Function(*place, text)
        if kind is Kind.DOT:
            return nodes.Dot(*place)
        if kind is Kind.NIL:
            return nodes.Nil(*place)
        if kind is Kind.VARIABLE:
            if text not in self._variables:
                hint = f"declare it with :=; {BRACES}"
                raise self._reader.error(f'undefined variable "{text}"', token, hint)
            return nodes.Variable(*place, text)
        if kind is Kind.FIELD:
            return nodes.Field(*place, (text[1:],))
        if kind is Kind.BOOL:
            return nodes.Bool(*place, text == "true")
        if kind in {Kind.CHARACTER, Kind.COMPLEX, Kind.NUMBER}:
            return self._number(token)
        if kind is Kind.OPEN:
            self._deeper()
            inner, _ = self._pipeline("parenthesized pipeline", Kind.CLOSE)
            self._depth -= 1
            return replace(inner, pos=token.pos)
        if kind in {Kind.STRING, Kind.RAW}:
            return nodes.String(*place, self._constant(token), kind is Kind.RAW)
        self._reader.push(token)
        return None

    def _constant(self, token: Token) -> str:
        try:
            return literals.unquote(token.text)
        except literals.Malformed as malformed:
            raise self._reader.error(str(malformed), token) from None

    def _number(self, token: Token) -> nodes.Number:
        try:
            if token.kind is Kind.CHARACTER:
                value = literals.character(token.text)
                return nodes.Number(token.pos, token.pos + len(token.text), token.line, token.text, value, float(value))
            return literals.number(token.pos, token.line, token.text)
        except literals.Malformed as malformed:
            hint = "strings stand between double quotes" if token.kind is Kind.CHARACTER else ""
            raise self._reader.error(str(malformed), token, hint) from None

    def _advise(self, name: str) -> str:
        if name in FOREIGN:
            return FOREIGN[name]
        from difflib import get_close_matches  # only for errors

        close = get_close_matches(name, self._functions, 1)
        return f"did you mean {close[0]}?" if close else BRACES


def _blank(body: tuple[nodes.Statement, ...]) -> bool:
    """Say whether a body is nothing but white space and comments."""
    return all(
        isinstance(item, nodes.Comment) or (isinstance(item, nodes.Text) and not item.text.strip()) for item in body
    )
