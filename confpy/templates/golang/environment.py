"""Jinja's environment for translated Go templates: the functions by confd's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jinja2

from confpy.templates import formats, functions
from confpy.templates.golang import printf, runtime, store
from confpy.templates.golang.times import Time
from confpy.templates.golang.values import MISSING, Pairs, Services, Strings

if TYPE_CHECKING:
    from confpy.templates.context import RenderContext

PURE: Mapping[str, Callable[..., Any]] = {
    "add": runtime.add,
    "append": runtime.append,
    "atoi": functions.atoi,
    "base": functions.base,
    "base64Decode": formats.base64_decode,
    "base64Encode": formats.base64_encode,
    "call": runtime.call,
    "camelcase": runtime.camelcase,
    "coalesce": runtime.coalesce,
    "contains": functions.contains,
    "default": runtime.default,
    "dict": runtime.mapping,
    "dir": functions.directory,
    "div": runtime.div,
    "empty": runtime.is_empty,
    "eq": runtime.equal,
    "fromJson": runtime.from_json,
    "ge": runtime.greater_or_equal,
    "gt": runtime.greater,
    "hasKey": runtime.has_key,
    "hostname": runtime.hostname,
    "html": runtime.html,
    "indent": runtime.indent,
    "index": runtime.index,
    "join": runtime.join,
    "js": runtime.js,
    "json": runtime.json_object,
    "jsonArray": runtime.json_array,
    "kebabcase": runtime.kebabcase,
    "keys": runtime.keys,
    "le": runtime.less_or_equal,
    "len": runtime.length,
    "list": runtime.as_list,
    "lt": runtime.less,
    "map": runtime.mapping,
    "mod": runtime.mod,
    "mul": runtime.mul,
    "ne": runtime.unequal,
    "nindent": runtime.nindent,
    "nospace": runtime.nospace,
    "parseBool": functions.parse_bool,
    "pluck": runtime.pluck,
    "print": printf.sprint,
    "printf": printf.sprintf,
    "println": printf.sprintln,
    "quote": runtime.quote,
    "regexFind": runtime.regex_find,
    "regexMatch": runtime.regex_match,
    "regexReplaceAll": runtime.regex_replace_all,
    "repeat": runtime.repeat,
    "replace": functions.replace,
    "reverse": runtime.reverse,
    "seq": runtime.seq,
    "sha256sum": functions.sha256,
    "slice": runtime.cut,
    "snakecase": runtime.snakecase,
    "sortByLength": runtime.sort_by_length,
    "sortKVByLength": runtime.sort_kv_by_length,
    "split": runtime.split,
    "squote": runtime.squote,
    "sub": runtime.sub,
    "ternary": runtime.ternary,
    "toJson": runtime.to_json,
    "toLower": functions.to_lower,
    "toPrettyJson": runtime.to_pretty_json,
    "toUpper": functions.to_upper,
    "trimPrefix": functions.trim_prefix,
    "trimSuffix": functions.trim_suffix,
    "urlquery": runtime.urlquery,
    "values": runtime.values,
    # What the translator adds.
    "_done": lambda _value: True,
    "_each": runtime.each,
    "_empty": lambda wanted: runtime.expect(MISSING, wanted),
    "_entry": lambda entries, name: entries.get(name, MISSING),
    "_enumerate": enumerate,
    "_expect": runtime.expect,
    "_expect_string": runtime.expect_string,
    "_field": runtime.field,
    "_indexed": runtime.indexed,
    "_keep": runtime.keep,
    "_refuse": runtime.refuse,
    "_settle": runtime.settle,
    "_slots": runtime.slots,
}


def environment(asking: RenderContext, *, sandbox: bool) -> jinja2.Environment:
    """Return the environment of a ``Renderer`` for Go templates, or of a ``Compiler``, which renders nothing in it."""
    kind: type[jinja2.Environment] = jinja2.Environment
    if sandbox:
        from jinja2.sandbox import SandboxedEnvironment  # loaded where it is asked for

        kind = SandboxedEnvironment
    made = kind(undefined=jinja2.StrictUndefined, autoescape=False, finalize=printf.printed, cache_size=0)
    names: dict[str, Callable[..., Any]] = {**PURE, **_asking(asking, made)}

    def at(line: int, name: str, *arguments: Any) -> Any:
        """Call a function that stands on another line than the statement that it is part of."""
        try:
            return made.filters[name](*arguments)
        except Exception as error:
            if not hasattr(error, "go_line"):
                error.go_line = line  # type: ignore[attr-defined]
            raise

    made.filters = {"format": made.filters["format"], "length": len, **names, "_at": at}
    made.globals |= names
    return made


def _asking(asking: RenderContext, made: jinja2.Environment) -> dict[str, Callable[..., Any]]:
    """Return the functions that ask the store or the world, with results of Go's types."""

    def include(name: str, *data: object) -> str:
        with asking.entered(name):
            template = asking.template(name, "included").within(made)
            return "".join(template.root_render_func(template.new_context({"data": data[0] if data else MISSING})))

    return {
        "datetime": lambda: Time(asking.datetime()),
        "exists": asking.exists,
        "file": asking.file,
        "fileExists": asking.file_exists,
        "fileHash": asking.file_hash,
        "get": asking.get,
        "getenv": lambda name, *otherwise: asking.getenv(name, *otherwise[:1]),
        "gets": lambda pattern: Pairs(asking.gets(pattern)),
        "getv": asking.getv,
        "getvs": lambda pattern: Strings(asking.getvs(pattern)),
        "include": include,
        "lookupIP": lambda name: Strings(asking.lookup_ip(name)),
        "lookupIPV4": lambda name: Strings(asking.lookup_ipv4(name)),
        "lookupIPV6": lambda name: Strings(asking.lookup_ipv6(name)),
        "lookupIfaceIPV4": lambda name: asking.lookup_interface(name, "."),
        "lookupIfaceIPV6": lambda name: asking.lookup_interface(name, ":"),
        "lookupSRV": lambda service, proto, name: Services(asking.lookup_srv(service, proto, name)),
        "ls": lambda path: Strings(asking.listed("ls", path, store.ls(asking.view, path))),
        "lsdir": lambda path: Strings(asking.listed("lsdir", path, store.lsdir(asking.view, path))),
    }
