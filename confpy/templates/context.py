"""What a template asks: of the view of its store, of the environment and the time, and of the world through facts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from posixpath import normpath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from confpy.errors import ConfpyError, TemplateError
from confpy.keys.view import Pair, View
from confpy.templates.functions import InvalidArgument, as_text
from confpy.templates.lookup import HIDDEN, Lookup
from confpy.templates.results import (
    Compiled,
    LeftOut,
    Needs,
    Service,
    TemplateMissing,
    World,
    service_lookup,
    template_lookup,
    template_name,
)
from confpy.templates.validators import flaw, literal_address

if TYPE_CHECKING:
    from datetime import datetime

    from confpy.config.resource import Item

Entry = TypeVar("Entry")

_DEEPEST = 10
"""Templates of Go that may be included in each other."""


class ItemFacts:
    """What the template of an item (``for_each``) is told of it: ``item.name`` in Jinja, ``item "name"`` in Go."""

    def __init__(self, context: RenderContext) -> None:
        self.__context = context

    @property
    def name(self) -> str:
        """What the wildcard of ``for_each`` has matched."""
        return self.__item.name

    @property
    def key(self) -> str:
        """The key that ``for_each`` has matched, without a slash at its end."""
        return self.__item.key

    @property
    def value(self) -> str:
        """Its value; raises ``KeyMissing`` where it has none, as a folder may."""
        return self.__context.getv(self.__item.key)

    def __call__(self, fact: str) -> str:
        if fact not in {"name", "key", "value"}:
            raise InvalidArgument(f"an item has name, key and value, not {HIDDEN}")
        return str(getattr(self, fact))

    @property
    def __item(self) -> Item:
        item = self.__context.current_item
        if item is None:
            raise TemplateError("there is no item", hint="item is for resources with for_each alone")
        return item


class RenderContext:
    """The questions of one render, and the functions that put them.

    The functions live as long as the environment that knows them; ``begin`` and ``end`` say which render they serve.
    Between the two they fail, so that no template is answered while it is being compiled.
    """

    view: View
    world: World
    current_item: Item | None = None

    def __init__(self) -> None:
        self.item = ItemFacts(self)

    def begin(
        self,
        view: View,
        world: World,
        delimiters: tuple[str, ...] = (),
        files: Collection[str] = (),
        item: Item | None = None,
    ) -> None:
        """Serve a render of a template with these delimiters, which what it includes has as well.

        ``files``: those that it may read. ``item``: what is rendered, of a resource with ``for_each``.
        """
        self.current_item = item
        self.view = view
        self.world = world
        self.delimiters = delimiters
        self.files = files
        self.asked: set[Lookup] = set()
        self.timely = False
        self.templates: dict[str, Compiled] = {}
        self._left_out: dict[LeftOut, None] = {}
        self._within: list[str] = []
        self._keys: dict[str, None] = {}
        self._patterns: dict[str, None] = {}
        self.unanswered: dict[tuple[str, str], None] = {}
        """The lists of the store that were empty: the function, and what it was asked."""
        self.absent: dict[str, dict[str, None]] = {"exists": {}, "getv": {}}
        """By function, the keys that were not there."""
        self.lists = False
        """A list of keys, values or names was not empty."""

    def end(self) -> None:
        """Let go of the view and the world."""
        del self.view, self.world

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(self._left_out)

    # --- the store ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Pair:
        """Return the pair of a key; raises ``KeyMissing``."""
        self._keys[as_text(key)] = None
        return self.view.get(as_text(key))

    def getv(self, key: str, *default: str) -> str:
        """Return the value of a key, else the default; raises ``KeyMissing`` where there is none."""
        self._keys[as_text(key)] = None
        value = self.view.getv(as_text(key), *default)
        if default and value is default[0]:
            self.absent["getv"][as_text(key)] = None
        return value

    def gets(self, pattern: str) -> list[Pair]:
        """Return the pairs whose key matches, sorted by key."""
        pairs = self.view.gets(as_text(pattern))
        self._patterns[pattern] = None
        return self.listed("gets", pattern, pairs)

    def getvs(self, pattern: str) -> list[str]:
        """Return the values of those keys, sorted by value."""
        values = self.view.getvs(as_text(pattern))
        self._patterns[pattern] = None
        return self.listed("getvs", pattern, values)

    def ls(self, path: str) -> list[str]:
        return self.listed("ls", path, self.view.ls(as_text(path)))

    def lsdir(self, path: str) -> list[str]:
        return self.listed("lsdir", path, self.view.lsdir(as_text(path)))

    def listed(self, function: str, asked: str, items: list[Entry]) -> list[Entry]:
        """Note whether a list of the store is empty, and return it."""
        if items:
            self.lists = True
        else:
            self.unanswered[function, as_text(asked)] = None
        return items

    def exists(self, key: str) -> bool:
        exists = self.view.exists(as_text(key))
        if not exists:
            self.absent["exists"][as_text(key)] = None
        return exists

    def key_of(self, value: object) -> str:
        """Return the key that a value was read from in this render, nothing where that is not known.

        It is looked for only when there is an error to report, so that values can be plain texts.
        """
        if isinstance(value, Pair):
            return value.key
        if not isinstance(value, str):
            return ""
        for key in reversed(self._keys):
            if self.view.exists(key) and self.view.getv(key) == value:
                return key
        pairs = (pair for pattern in reversed(self._patterns) for pair in self.view.gets(pattern))
        return next((pair.key for pair in pairs if pair.value == value), "")

    def select_valid(self, items: Iterable[Any], kind: str = "hostport", **fields: str) -> list[Any]:
        """Return the pairs or texts that are valid; the others are left out, and logged with their keys.

        ``fields`` are for JSON objects: the field's name → its kind.
        """
        chosen = []
        for item in items:
            value = item.value if isinstance(item, Pair) else item
            reason = flaw(value, kind, fields)
            if reason:
                self._left_out[LeftOut(self.key_of(item), reason)] = None
            else:
                chosen.append(item)
        return chosen

    # --- the world ---------------------------------------------------------------------------------------------------

    def getenv(self, name: str, default: str = "") -> str:
        """Return a variable of the environment; an empty one counts as not set."""
        return self.world.environ.get(name) or default

    def datetime(self) -> datetime:
        """Return the time of this render, in the machine's time zone."""
        from datetime import datetime  # most templates do not ask for the time

        self.timely = True
        return datetime.fromtimestamp(self.world.now).astimezone()  # made aware at once

    def lookup_ip(self, name: str) -> list[str]:
        """Return the addresses of a name, sorted as text; none where it cannot be resolved."""
        literal = literal_address(as_text(name))
        if literal or not name:
            return [literal] if literal else []
        answer = self._fact(Lookup("ip", name))
        return list(answer) if isinstance(answer, tuple) else []

    def lookup_ipv4(self, name: str) -> list[str]:
        return [address for address in self.lookup_ip(name) if "." in address]

    def lookup_ipv6(self, name: str) -> list[str]:
        return [address for address in self.lookup_ip(name) if ":" in address]

    def lookup_interface(self, name: str, sign: str) -> str:
        """Return the first address of a network interface with the sign in it, ``.`` or ``:``; else nothing."""
        answer = self._fact(Lookup("interface", name))
        return next((address for address in answer if sign in address), "") if isinstance(answer, tuple) else ""

    def lookup_srv(self, service: str, proto: str, name: str) -> list[Service]:
        """Return the SRV records of ``_service._proto.name``, sorted; none where there are none."""
        answer = self._fact(service_lookup(as_text(service), as_text(proto), as_text(name)))
        return list(answer) if isinstance(answer, tuple) else []

    def file_exists(self, path: str) -> bool:
        """Say whether a path exists; one that may not be looked at counts as existing."""
        answer = self._fact(Lookup("exists", as_text(path)))
        if isinstance(answer, ConfpyError):
            raise answer
        return bool(answer)

    def file(self, path: str) -> str:
        """Return the content of one of the resource's ``watch_files``; raises ``TemplateError`` for any other."""
        return self._watched("file", path)

    def file_hash(self, path: str) -> str:
        """Return the SHA-256 of such a file's content, in hexadecimal digits."""
        return self._watched("hash", path)

    def _watched(self, kind: Literal["file", "hash"], path: str) -> str:
        name = normpath(as_text(path))
        if name not in self.files:
            # Who may write a key shall not read every file that confpy may read.
            raise InvalidArgument(
                "only files of the resource's watch_files can be read", path, hint="add it to watch_files"
            )
        answer = self._fact(Lookup(kind, name))
        if isinstance(answer, ConfpyError):
            raise answer
        return str(answer)

    def template(self, path: str, engine: Literal["jinja", "included"] = "jinja") -> Compiled:
        """Return a template that another one names; raises ``TemplateError`` unless it lies below ``templates/``."""
        name = template_name(path)
        if name.startswith("../") or name == "..":
            raise InvalidArgument("only templates below templates/ can be included")
        lookup = template_lookup(name, engine, self.delimiters)
        try:
            compiled = self.source(lookup)
        except TemplateMissing as missing:
            hint = "an included template is named by its path below templates/"
            message = missing.message if self._is_literal(lookup) else f"there is no template of {HIDDEN}"
            raise TemplateMissing(message, hint=hint) from None
        except TemplateError as error:
            if "line" in error.where or self._is_literal(lookup):  # in the first case there is a file
                raise
            raise TemplateError(f"the template of {HIDDEN} cannot be read") from None
        if not compiled.confined:
            raise InvalidArgument("only templates below templates/ can be included; this one is a link out of it")
        return compiled

    @contextmanager
    def entered(self, path: str) -> Iterator[None]:
        """Note that a template is rendered within another; raises ``InvalidArgument`` where that has no end."""
        name = template_name(path)
        if name in self._within:
            raise InvalidArgument("it includes itself")
        if len(self._within) >= _DEEPEST:
            raise InvalidArgument(f"templates are included more than {_DEEPEST} deep")
        self._within.append(name)
        try:
            yield
        finally:
            self._within.pop()

    def _is_literal(self, lookup: Lookup) -> bool:
        """Say whether the name of a template stands in one that was rendered: if not, it may be made of a value."""
        return any(lookup in template.needs for template in self.templates.values())

    def source(self, lookup: Lookup) -> Compiled:
        answer = self._fact(lookup)
        if isinstance(answer, Compiled):
            self.templates[answer.name] = answer
            return answer
        if isinstance(answer, ConfpyError):
            raise answer
        raise TypeError(type(answer).__name__)

    def _fact(self, lookup: Lookup) -> object:
        facts: Mapping[Lookup, object] = self.world.facts
        if lookup not in facts:
            raise Needs(
                frozenset({lookup}).union(
                    need for template in self.templates.values() for need in template.needs if need not in facts
                )
            )
        self.asked.add(lookup)
        return facts[lookup]
