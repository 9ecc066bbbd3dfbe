"""The answers that a ``Resolver`` gives and a render uses: small, frozen, comparable."""

from __future__ import annotations

from dataclasses import dataclass, field
from posixpath import normpath
from types import CodeType
from typing import Literal, NamedTuple

from confpy.errors import TemplateError
from confpy.model import Lookup


@dataclass(frozen=True, slots=True)
class Compiled:
    """A template as it was read. Two are equal when they were made of the same bytes at the same place."""

    name: str
    """Relative to ``templates/``, normalised; ``../`` in front where it lies outside."""
    file: str
    digest: str
    """SHA-256 of the file's bytes, hexadecimal."""
    confined: bool
    """The file, all links followed, lies below ``templates/``: others may include it."""
    source: str = field(compare=False, repr=False)
    code: CodeType = field(compare=False, repr=False)
    needs: frozenset[Lookup] = field(compare=False, repr=False)
    """The lookups that stand in it word for word."""
    engine: Literal["go", "jinja"] = "jinja"
    doubts: tuple[tuple[int, str], ...] = field(default=(), compare=False, repr=False)


class Made(NamedTuple):
    """What a template's text is compiled to."""

    engine: Literal["go", "jinja"]
    code: CodeType
    needs: frozenset[Lookup]
    doubts: tuple[tuple[int, str], ...] = ()
    """What is right, but hardly meant: the line, and what to do."""


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


def template_lookup(path: str, engine: Literal["auto", "go", "jinja", "included"] = "auto") -> Lookup:
    return Lookup("template", template_name(path), engine)


def service_lookup(service: str, proto: str, name: str) -> Lookup:
    """Name SRV records as Go's ``net.LookupSRV`` does: without service and protocol, the name stands for itself."""
    return Lookup("srv", f"_{service}._{proto}.{name}" if service or proto else name)
