"""Plans a conversion: which new file is made from which, and what cannot be converted. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import unified_diff
from posixpath import normpath
from typing import Literal, NamedTuple, cast

from confpy.config.load import find_table
from confpy.config.resource import OPTIONS
from confpy.config.settings import FILES
from confpy.config.toml import parse_toml, plain
from confpy.convert.writing import write
from confpy.errors import ConfpyError, TemplateError, UsageError
from confpy.keys.prefixes import normalise
from confpy.templates.compiler import Compiler
from confpy.templates.keymatch import asked_beyond
from confpy.templates.lookup import Lookup
from confpy.templates.results import template_name

_SUFFIXES = (".tmpl", ".tpl", ".template")
_VALUE = r"""(?i)(\b%s["']?\s*=\s*)("(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
"""A TOML key and its string, anywhere."""


class Problem(NamedTuple):
    """What could not be converted, and what to write instead."""

    file: str
    line: int
    message: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")


@dataclass(slots=True)
class Plan:
    """What to write."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path of a new file → content."""
    origins: dict[str, str] = field(default_factory=dict)
    """Path of a new file → path of the file that it is made from."""
    problems: list[Problem] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """The new files that are not copies."""

    def add(self, path: str, content: bytes, origin: str, *, changed: bool) -> None:
        self.files[path] = content
        self.origins[path] = origin
        if changed:
            self.changed.append(path)


class Kind(NamedTuple):
    """What a resource says of its template."""

    engine: Literal["auto", "go", "jinja"] = "auto"
    delimiters: tuple[str, ...] = ()


def plan_templates(files: Mapping[str, bytes], kinds: Mapping[str, Kind]) -> Plan:
    """Plan the conversion of templates, path → content; ``kinds`` has those that a resource names."""
    plan = Plan()
    for path, content in sorted(files.items()):
        text, problems = _converted(path, content.decode("utf-8", "surrogateescape"), kinds.get(path, Kind()))
        plan.problems += problems
        if text is None:
            plan.add(path, content, path, changed=False)
        else:
            made = text.encode("utf-8", "surrogateescape")
            # A file that an earlier conversion wrote may be written again.
            taken = {name for name in files if files[name] != made} | set(plan.changed)
            plan.add(_new_name(path, taken), made, path, changed=True)
    return plan


def plan_confdir(files: Mapping[str, bytes], source: str, dest: str) -> Plan:
    """Plan the conversion of a confdir, path below it → content."""
    head = "templates/"
    templates = {path.removeprefix(head): files[path] for path in files if path.startswith(head)}
    made = plan_templates(templates, kinds_of(files))
    plan = Plan(problems=[problem._replace(file=head + problem.file) for problem in made.problems])
    for path, content in made.files.items():
        plan.add(head + path, content, head + made.origins[path], changed=path in made.changed)
    names = {made.origins[path]: path for path in made.changed}
    for path, content in sorted(files.items()):
        if path.startswith(head):
            continue
        new = content
        if _is_resource(path):
            plan.problems += _by_text(path, content, files, names)
            try:
                new = _renamed(content.decode(), path, names, {path.removeprefix(head) for path in plan.files}).encode()
            except (UsageError, UnicodeDecodeError) as error:
                shown = error if isinstance(error, UsageError) else UsageError("the file is not UTF-8")
                line = int(shown.where.get("line", 0))
                plan.problems.append(Problem(path, line, shown.message, shown.hint))
        elif path in FILES:
            new = _moved(content.decode("utf-8", "surrogateescape"), source, dest).encode("utf-8", "surrogateescape")
        plan.add(path, new, path, changed=new != content)
    return plan


def _by_text(path: str, content: bytes, files: Mapping[str, bytes], names: Collection[str]) -> Iterator[Problem]:
    """Yield a problem if a resource reads keys by text only because its template was written in Go's language."""
    table = _table(content, path) or {}
    keys, name = table.get("keys"), template_name(str(table.get("src", "")))
    if not isinstance(keys, list) or name not in names or table.get("keysmatch", "auto") != "auto":
        return
    kind = kinds_of({path: content}).get(name, Kind())
    source = files["templates/" + name].decode("utf-8", "surrogateescape")
    asked = asked_beyond([normalise(str(key)) for key in keys], source, Lookup("template", name, *kind), name)
    if asked:
        message = f'the template asks for "{asked}", which ends within a segment: confpy does not see that in Jinja'
        yield Problem(path, 0, message, 'write keys_match = "text", if the store is file, env or consul')


def kinds_of(files: Mapping[str, bytes]) -> dict[str, Kind]:
    """Return what the resources among the files of a confdir, path → content, say of each template."""
    kinds = {}
    for path in filter(_is_resource, files):
        table = _table(files[path], path)
        if table is not None and isinstance(table.get("src"), str):
            try:
                engine = cast(
                    "Literal['auto', 'go', 'jinja']", OPTIONS["engine"].kind.accept(table.get("engine", "auto"))
                )
                pair = cast("tuple[str, ...]", OPTIONS["delimiters"].kind.accept(table.get("delimiters", ["{{", "}}"])))
            except ValueError:
                continue  # confpy rejects such a resource when it runs
            kinds[template_name(str(table["src"]))] = Kind(engine, pair)
    return kinds


def show_changes(plan: Plan, files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the lines of a diff without context, one for each file that is not a copy."""
    for path in plan.changed:
        origin = plan.origins[path]
        old, new = (text.decode("utf-8", "replace").splitlines() for text in (files[origin], plan.files[path]))
        yield from unified_diff(old, new, origin, path, n=0, lineterm="")
        if old == new:
            yield from (f"--- {origin}", f"+++ {path}")


def _converted(path: str, source: str, kind: Kind) -> tuple[str | None, list[Problem]]:
    """Return a template in Jinja, or None if it is copied unchanged, and what could not be converted."""
    compiler = Compiler(sandbox=False)
    try:
        made = compiler.compile(source, Lookup("template", path, *kind), path)
        if made.engine == "jinja":
            return None, []
        written = write(source, path, kind.delimiters)
        problems = [Problem(path, *one) for one in written.unconverted]
        problems += [Problem(path, line, message, _NO_VALUE) for line, message in made.warnings]
        compiler.compile(written.text, Lookup("template", path, "jinja", kind.delimiters), path)
    except TemplateError as error:
        return None, [Problem(path, int(error.where.get("line", 0)), error.message, error.hint or _ELSE)]
    except RecursionError:
        return None, [Problem(path, 0, "nested too deeply", "make macros of its parts, by hand")]
    return written.text, [one if one.hint else one._replace(hint=_ELSE) for one in problems]


_NO_VALUE = 'confd prints "<no value>" for it, and counts it as false; so does the new template'
_ELSE = "confd rejects it too, or prints nothing: correct it first, or write what is meant"


def _new_name(path: str, taken: set[str]) -> str:
    stem = next((path.removesuffix(suffix) for suffix in _SUFFIXES if path.endswith(suffix)), path)
    stem = stem if stem and not stem.endswith("/") else path
    names = (stem + ".j2", path + ".j2", *(f"{path}.{number}.j2" for number in range(2, 1000)))
    return next(name for name in names if name not in taken)


# --- resources -------------------------------------------------------------------------------------------------------


def _is_resource(path: str) -> bool:
    return path.startswith("conf.d/") and path.endswith("toml")


def _table(content: bytes, path: str) -> dict[str, object] | None:
    """Return the options of a resource by ``plain`` names, or None if it cannot be read."""
    try:
        table = find_table(parse_toml(content.decode(), path), [])
    except (ConfpyError, UnicodeDecodeError):
        return None
    return {plain(key): value for key, value in table.items()}


def _renamed(content: str, path: str, names: Mapping[str, str], copied: set[str]) -> str:
    """Return a resource with the name of its new template, and nothing else changed; raises ``UsageError``."""
    table = _table(content.encode(), path)
    if table is None:
        find_table(parse_toml(content, path), [])  # says why
        raise UsageError("the resource cannot be read")
    src = table.get("src")
    if not isinstance(src, str) or not src:
        raise UsageError("src is missing", hint='write src = "…" below [template]')
    name = template_name(src)
    if name not in names:
        if name not in copied:
            raise UsageError(
                f"its template {src} is not below templates/", hint="convert it separately, and name it here"
            )
        return content
    slash = src[: len(src) - len(src.lstrip("/"))]
    content = _replaced(content, "src", slash + names[name], lambda text: _table(text.encode(), path))
    if table.get("engine") != "go":
        return content
    return _replaced(content, "engine", "jinja", lambda text: _table(text.encode(), path))


def _moved(content: str, source: str, dest: str) -> str:
    """Return a settings file with the new confdir in place of the old one, if it names that."""

    def read(text: str) -> dict[str, object] | None:
        try:
            return {plain(key): value for key, value in parse_toml(text, "").items()}
        except ConfpyError:
            return None

    confdir = (read(content) or {}).get("confdir")
    here = isinstance(confdir, str) and normpath(confdir) == normpath(source)
    return _replaced(content, "confdir", dest, read) if here else content


def _replaced(content: str, key: str, new: str, read: Callable[[str], dict[str, object] | None]) -> str:
    """Return TOML with the value of one key replaced, and nothing else changed; ``read`` returns its table."""
    before = read(content) or {}
    for found in re.finditer(_VALUE % key, content):
        sign = found[2][0]
        quoted = f"{sign}{new}{sign}" if sign not in new and "\\" not in new else _quoted(new)
        candidate = content[: found.start(2)] + quoted + content[found.end(2) :]
        if read(candidate) == {**before, key: new} != before:
            return candidate
    raise UsageError(f"{key} could not be found in the text", hint=f'write {key} = "{new}"')


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def below(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or lies in it."""
    path, folder = normpath(path), normpath(folder)
    return path == folder or path.startswith(folder.rstrip("/") + "/")
