"""The templates of resources: whether they compile, what they ask for, and what they name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from jinja2 import TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables

from confpy.check.findings import UNKNOWN, Finding, Findings, Level
from confpy.check.questions import Question, of_go, of_jinja
from confpy.check.resources import CheckedResource
from confpy.config.positions import Position, position
from confpy.config.resource import Loaded, Resource
from confpy.errors import TemplateError, UsageError
from confpy.frozen import frozen
from confpy.keys.prefixes import ROOT, normalise
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores.tree import Stores
from confpy.templates import engine, jinja
from confpy.templates.compiler import Compiler
from confpy.templates.context import RenderContext
from confpy.templates.explain import suggest
from confpy.templates.keymatch import match_keys
from confpy.templates.lookup import Lookup
from confpy.templates.resolve import read_source
from confpy.templates.results import TemplateMissing, template_lookup
from confpy.templates.suspicions import OUTSIDE, is_outside, suspicions

COUNTER = re.compile(r"\bloop\.(rev)?index0?\b")
_LOOP = re.compile(r"\{[%{]-?\s*(?:for|range)\b.*")
_SLOTS = re.compile(r"\bslots\b")
_SERVER = re.compile(r"^[ \t]*server[ \t]+(?P<name>(?:\{\{(?:(?!\}\}).)*\}\}|[^\s{]|\{(?!\{))++)[ \t]+\S")
_RANGE = re.compile(r"\brange\s+(\$\w+)\s*,\s*\$\w+\s*:=\s*\(?\s*(?:gets|getvs|ls|lsdir|split|jsonArray|lookup\w+)\b")
"""A loop of Go's over a list, with the variable that counts."""


@frozen
class _Template:
    """What was found in one template."""

    lookup: Lookup
    file: str
    questions: tuple[Question, ...]
    needs: tuple[Lookup, ...]
    """The templates that it names."""
    engine: str = ""


class TemplateChecks:
    """Checks templates, each once for each way in which it is read."""

    def __init__(self, confdir: str, stores: Stores, findings: Findings, *, sandbox: bool) -> None:
        self._folder = os.path.join(confdir, "templates")
        self._stores = stores
        self._findings = findings
        self._compiler = Compiler(sandbox=sandbox)
        self._environment = engine.environment(RenderContext(), sandbox=False, extensions=jinja.EXTENSIONS)
        self._checked: dict[Lookup, _Template | None] = {}
        self.notes: list[Finding] = []
        """What a running HAProxy follows, and what it does not: nothing to correct."""

    def check(self, one: CheckedResource) -> None:
        """Add what is wrong with the templates of a resource, and with what they ask for."""
        resource = one.resource
        lookup = template_lookup(resource.src, resource.engine, resource.delimiters)
        try:
            self._check(lookup, is_included=False)
        except TemplateMissing:
            hint = f"src is relative to {self._folder}"
            error = UsageError(f"there is no template {resource.src}", hint=hint)
            self._findings.take(error, one.file.path, one.place("src"), resource=resource.name)
            return
        seen: set[Lookup] = set()
        templates = [self._checked.get(each) for each in self._with_included(lookup, seen)]
        found = [template for template in templates if template is not None]
        matched = self._matched(resource)
        view = self._view(matched, matched.prefixes)
        is_right = len(found) == len(templates)
        for template in found:
            level: Level = "error" if template.lookup == lookup else "warning"
            is_right &= self._check_questions(template, view, level, resource.name)
        if resource.reload_haproxy is not None:
            self.notes += self._check_haproxy(lookup)
        if is_right and not matched.text_prefixes:
            self._check_keys(one, [question for template in found for question in template.questions])

    # --- one template ------------------------------------------------------------------------------------------------

    def _check(self, lookup: Lookup, *, is_included: bool) -> None:
        """Check a template and all that it includes; raises ``TemplateMissing``."""
        if lookup in self._checked:
            return
        file = os.path.normpath(os.path.join(self._folder, lookup.name))
        self._checked[lookup] = None
        source = ""
        try:
            source = read_source(file)
            made = self._compiler.compile(source, lookup, file)
        except TemplateMissing:
            del self._checked[lookup]
            raise
        except TemplateError as error:
            self._findings.take(error, file, _place_in(source, error))
            return
        for line, warning in made.warnings:
            self._findings.add(Finding("warning", warning, "", file, line, 1))
        questions: Iterable[Question]
        if made.engine == "go":
            tree = self._compiler.go_tree(source, lookup, file)
            questions = of_go(tree, source) if tree is not None else ()
        else:
            questions = self._read_jinja(source, lookup, file, is_included=is_included)
        self._find_counters(source, file)
        needs = tuple(sorted((one for one in made.needs if one.kind == "template"), key=lambda one: one.name))
        self._checked[lookup] = _Template(lookup, file, tuple(questions), needs, made.engine)
        for need in needs:
            place = _place_of(need.name, source)
            if need.name.startswith("../"):
                self._findings.take(TemplateError("only templates below templates/ can be included"), file, place)
                continue
            try:
                self._check(need, is_included=True)
            except TemplateMissing:
                hint = "an included template is named by its path below templates/"
                missing = TemplateError(f"there is no template {need.name}", hint=hint)
                self._findings.take(missing, file, place)

    def _with_included(self, lookup: Lookup, seen: set[Lookup]) -> Iterator[Lookup]:
        if lookup not in seen:
            seen.add(lookup)
            yield lookup
            template = self._checked.get(lookup)
            for need in template.needs if template is not None else ():
                yield from self._with_included(need, seen)

    def _read_jinja(self, source: str, lookup: Lookup, file: str, *, is_included: bool) -> Iterable[Question]:
        environment = self._environment
        if lookup.delimiters:
            environment = jinja.with_delimiters(environment, lookup.delimiters)
        try:
            tree = environment.parse(source)
        except TemplateSyntaxError:  # it was compiled a moment ago
            return ()
        if not is_included and tree.find(nodes.Extends) is None:
            self._find_unknown(tree, source, file)
        return of_jinja(tree, source)

    def _find_unknown(self, tree: nodes.Template, source: str, file: str) -> None:
        """Add names that nothing sets, unless the template asks first whether they are there."""
        unknown = find_undeclared_variables(tree) - self._environment.globals.keys()
        # What is set in a branch may not be set at run time; that it is meant to be is all that can be seen here.
        unknown -= {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
        for test in tree.find_all((nodes.Test, nodes.Filter)):
            if test.name in {"defined", "undefined", "default", "d"} and isinstance(test.node, nodes.Name):
                unknown.discard(test.node.name)
        lines = source.split("\n")
        for node in tree.find_all(nodes.Name):
            if node.name in unknown and node.ctx == "load":
                unknown.discard(node.name)
                message = f"'{node.name}' is undefined"
                found = re.search(rf"\b{re.escape(node.name)}\b", lines[node.lineno - 1])
                column = found.start() + 1 if found else 1
                hint = suggest(message, self._environment) or 'nothing sets it: keys are read by getv("/key")'
                self._findings.add(Finding("error", message, hint, file, node.lineno, column))

    def _find_counters(self, source: str, file: str) -> None:
        """Add loop counters in the names of HAProxy's servers; those over ``slots`` stay with their keys."""
        counters = [re.escape(name) for name in _RANGE.findall(source)]
        of_go = re.compile("|".join(rf"{name}\b" for name in counters)) if counters else None
        loop = ""
        for number, line in enumerate(source.split("\n"), 1):
            loop = next(reversed(_LOOP.findall(line)), loop)
            server = _SERVER.match(line)
            if server is None or _SLOTS.search(loop):
                continue
            found = COUNTER.search(server["name"]) or (of_go.search(server["name"]) if of_go else None)
            if found:
                hint = "when one server goes, others change their names and lose their state: use base(key)"
                column = server.start("name") + found.start() + 1
                message = "a loop counter in the name of a server"
                self._findings.add(Finding("warning", message, hint, file, number, column))

    def _check_haproxy(self, lookup: Lookup) -> Iterator[Finding]:
        """Add the lines that stand in the way of servers; yield what is followed, and lines that are not."""
        from confpy.check.haproxy import follow

        template = self._checked.get(lookup)
        if template is None:
            return
        followed, advice = follow(read_source(template.file), template.engine, lookup.delimiters)
        for section in followed:
            text = f"the servers of {section.title} are followed without a reload: address, weight, state"
            more = "; those that come and go from HAProxy 3.0 on" if section.adds else "; not those that come and go"
            yield Finding("note", text + more, "", template.file, section.line)
        for one in advice:
            if one.blocks == "itself":
                yield Finding("note", one.why, one.hint, template.file, one.line)
            else:
                message = f"reload_haproxy: {one.why}"
                self._findings.add(Finding("warning", message, one.hint, template.file, one.line))

    # --- what they ask for -------------------------------------------------------------------------------------------

    def _matched(self, resource: Resource) -> Resource:
        """Return a resource as it reads its keys."""
        texts, mounts = self._stores.main.capabilities.text_prefixes, self._stores.mounts
        return match_keys(Loaded((resource,)), self._folder, in_text_store=texts, mounts=mounts).resources[0]

    def _view(self, resource: Resource, prefixes: tuple[str, ...]) -> View:
        """Return what a resource sees of an empty store."""
        sources = self._stores.sources(KeyTree(), prefixes, resource.text_prefixes)
        return View.over([source._replace(lists=None) for source in sources], resource.strip, resource.base)

    def _check_questions(self, template: _Template, view: View, level: Level, resource: str) -> bool:
        """Add questions that bring nothing; returns whether there is none."""
        is_right = True
        for question in template.questions:
            if question.whole:
                found = suspicions([(question.function, question.text)], view, [question.text])
                hint = found[0].hint if found else ""
            else:
                folder = question.text.rpartition(ROOT)[0]
                hint = OUTSIDE if folder and not view.leads_to(folder) else ""
            if not hint:
                continue
            is_right = False
            asked = f'{question.function} "{question.text}{"" if question.whole else "…"}"'
            message = f"{asked} brings nothing" if hint != OUTSIDE else f"{asked} lies outside of the resource's keys"
            hint = hint if hint != OUTSIDE else f"add it to the keys of {resource}"
            self._findings.add(Finding(level, message, hint, template.file, *question.place, resource=resource))
        return is_right

    def _check_keys(self, one: CheckedResource, questions: list[Question]) -> None:
        """Add keys that no template reads."""
        keys = [key for key in one.given.get("keys") or () if normalise(key) != ROOT]
        resource = one.resource
        if len(keys) != len(resource.prefixes):
            return
        for key, prefix in zip(keys, resource.prefixes, strict=True):
            view = self._view(resource, (prefix,))
            if any(_may_read(question, view) for question in questions):
                continue
            place = one.file.place_of_text(one.place("keys"), key)
            hint = "each change of it renders the resource again: remove it from keys"
            message = f"no template reads the key {key}"
            self._findings.add(Finding("warning", message, hint, one.file.path, *place, resource=resource.name))


def _place_of(text: str, source: str) -> Position:
    offset = source.find(text)
    return position(source, offset) if offset >= 0 else UNKNOWN


def _may_read(question: Question, view: View) -> bool:
    """Say whether a question can be about what a view shows."""
    if question.whole:
        return not is_outside(question.function, question.text, view)
    folder = question.text.rpartition(ROOT)[0]
    return not folder or view.leads_to(folder) or view.asks_for(folder)


def _place_in(source: str, error: TemplateError) -> Position:
    """Return where in its line an error is: at the first word that its message quotes, else at the first tag."""
    line = error.where.get("line")
    lines = source.split("\n")
    if not isinstance(line, int) or not 0 < line <= len(lines):
        return UNKNOWN
    text = lines[line - 1]
    for word in [*re.findall(r"'([^']+)'", error.message), "{%", "{{"]:
        column = text.find(word)
        if column >= 0:
            return Position(line, column + 1)
    return Position(line, len(text) - len(text.lstrip()) + 1)
