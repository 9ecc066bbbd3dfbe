"""What a render is given, what it gives, and the answers of a ``Resolver``: small, frozen, comparable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from posixpath import normpath
from types import CodeType
from typing import TYPE_CHECKING, Literal, NamedTuple

from confpy.errors import TemplateError
from confpy.frozen import frozen
from confpy.templates.lookup import Lookup

if TYPE_CHECKING:
    import jinja2


JINJA_NAMES = (".j2", ".jinja", ".jinja2")
"""How the names of templates in Jinja end."""
BRACES = (
    "if the braces are another program's: "
    'delimiters = ["[[", "]]"] in the resource, or in Jinja {% raw %} … {% endraw %}'
)
"""The hint where a name that is not known may be none of a template: Prometheus, Helm and others have braces, too."""
MOST_LOOKUPS = 20000
"""Look-ups of templates that are kept, and not made anew for each render."""
NO_FILE = "<template>"
"""The file of code: equal texts have the same, wherever they lie."""


@frozen
class LeftOut:
    """An entry that a template dropped so that the others can be delivered."""

    key: str
    reason: str
    """What is wrong with it; never the value."""


@frozen
class Suspicion:
    """A question to the store that brought nothing, and by its form cannot bring anything."""

    asked: str
    """As people write it: ``gets "h/*"``."""
    hint: str
    """Why, or what to write."""


@frozen
class Rendered:
    """What one render made, and what it rests on."""

    content: bytes
    asked: frozenset[Lookup]
    """The facts that it used: another answer to one of them can make another content."""
    timely: bool
    """It asked for the time."""
    left_out: tuple[LeftOut, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    outside: tuple[str, ...] = ()
    """The lists that it asked for, where all of them lie outside of the resource's keys."""


class Needs(Exception):  # not an error: the render goes on when these are answered
    """Facts that are not in the ``World`` yet: what the template asked for, and what it is known to ask for next."""

    def __init__(self, lookups: frozenset[Lookup]) -> None:
        super().__init__(lookups)
        self.lookups = lookups


@frozen
class World:
    """What is known of everything outside the store."""

    now: float
    """Seconds since 1970 UTC."""
    environ: Mapping[str, str]
    facts: Mapping[Lookup, object]
    """Lookup → the answer of a ``Resolver``, or the ``ConfpyError`` that it ended in."""


@frozen
class Compiled:
    """A template as it was read. Two are equal when they were made of the same bytes at the same place."""

    name: str
    """Relative to ``templates/``, normalised; ``../`` in front where it lies outside."""
    file: str
    digest: str
    """SHA-256 of the file's bytes, hexadecimal."""
    confined: bool
    """The file, all links followed, lies below ``templates/``: others may include it."""
    source: str
    code: CodeType
    needs: frozenset[Lookup]
    """The lookups that stand in it word for word."""
    engine: Literal["go", "jinja"] = "jinja"
    warnings: tuple[tuple[int, str], ...] = ()

    def __eq__(self, other: object) -> bool:
        return self._origin == other._origin if isinstance(other, Compiled) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._origin)

    @property
    def _origin(self) -> tuple[object, ...]:
        return self.name, self.file, self.digest, self.confined, self.engine

    def within(self, environment: jinja2.Environment) -> jinja2.Template:
        """Return the template with the functions of an environment."""
        template = environment.template_class.from_code(environment, self.code, environment.globals)
        # The code is that of all templates with this text.
        template.name, template.filename = self.name, self.file
        return template


class CompileResult(NamedTuple):
    """What a template's text is compiled to."""

    engine: Literal["go", "jinja"]
    code: CodeType
    needs: frozenset[Lookup]
    warnings: tuple[tuple[int, str], ...] = ()
    """What is right, but hardly meant: the line, and what to do."""
    names_itself: bool = False
    """The template's name stands in the code: it is not that of another one with the same text."""


class TemplateMissing(TemplateError):
    """There is no such template: what ``include … ignore missing`` forgives."""


class Service(NamedTuple):
    """One SRV record (RFC 2782)."""

    target: str
    """A host name, with the dot at its end."""
    port: int
    priority: int
    weight: int


def template_name(path: str) -> str:
    """Return the one name of a path below ``templates/``, with or without a leading slash."""
    return normpath(path.lstrip("/"))


@lru_cache(maxsize=MOST_LOOKUPS)
def template_lookup(
    path: str, engine: Literal["auto", "go", "jinja", "included"] = "auto", delimiters: tuple[str, ...] = ()
) -> Lookup:
    return Lookup("template", template_name(path), engine, delimiters)


def service_lookup(service: str, proto: str, name: str) -> Lookup:
    """Name SRV records as Go's ``net.LookupSRV`` does: without service and protocol, the name stands for itself."""
    return Lookup("srv", f"_{service}._{proto}.{name}" if service or proto else name)
