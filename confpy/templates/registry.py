"""The functions of templates: one row each. Every table of names is derived from these rows.

To add a function: write it (in ``functions.py``, ``formats.py`` or ``validators.py``; what asks the store or the world
is a method of ``context.RenderContext``), and add its row. Jinja's environment, the signatures and the environment of
Go templates, what ``confpy convert`` writes, and the list in ``docs/template-functions.md`` follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from confpy.templates import formats, functions, validators
from confpy.templates.lookup import Lookup
from confpy.templates.results import service_lookup

RANDOM = {"random": "filters", "lipsum": "globals"}
"""What Jinja has and confpy has not: random output would change the target, and reload its program, at every pass."""

Origin: TypeAlias = Literal["confd", "fork", "go", "confpy"]
Ask: TypeAlias = Callable[..., "Lookup | None"]


class Function(NamedTuple):
    """A function of templates, in Jinja, in Go templates, or in both."""

    name: str
    """Its name in Jinja; empty: only Go templates have it."""
    call: Callable[..., Any] | None
    """What Jinja calls; None: the method of ``RenderContext`` of this name, which asks the store or the world."""
    go: str = ""
    """Its name and types in Go templates, as Go writes them; empty: only Jinja has it."""
    runtime: str = ""
    """What Go templates call: of ``golang/runtime.py``, or of a module of ``golang`` that it names; empty: ``call``."""
    aliases: tuple[str, ...] = ()
    """Its other names in Jinja: those of confd, of Ansible and Helm."""
    origin: Origin = "confpy"
    """Who had it first: confd, its living fork, Go's own templates, or confpy."""
    same: bool = False
    """For arguments of its types it does the same in both languages: ``confpy convert`` writes its name in Jinja."""
    in_place: bool = False
    """Go's changes the very list that it is given."""
    test: bool = False
    """It is a test of Jinja's as well (``is exists``)."""
    ask: Ask | None = None
    """What a call with literal arguments will look up, so that a worker can answer it before the render."""

    @property
    def go_name(self) -> str:
        return self.go.partition("(")[0]

    @property
    def names(self) -> tuple[str, ...]:
        """All its names in Jinja."""
        return (self.name, *self.aliases) if self.name else ()


def _address(name: str, *_: str) -> Lookup | None:
    return None if validators.literal_address(name) else Lookup("ip", name)


def _service(*names: str) -> Lookup | None:
    return service_lookup(*names) if len(names) == 3 else None


def _path(path: str, *_: str) -> Lookup:
    return Lookup("exists", path)


def _interface(name: str, *_: str) -> Lookup:
    return Lookup("interface", name)


def _confd(name: str, call: Callable[..., Any] | None, go: str, **more: Any) -> Function:
    return Function(name, call, go, origin="confd", **more)


def _fork(name: str, call: Callable[..., Any] | None, go: str, **more: Any) -> Function:
    return Function(name, call, go, origin="fork", **more)


def _go(go: str, runtime: str = "", **more: Any) -> Function:
    return Function("", None, go, runtime, origin="go", **more)


ASKS = None
"""In place of ``call``: a method of ``RenderContext``."""

FUNCTIONS: tuple[Function, ...] = (
    # --- confd's
    _confd("add", functions.add, "add(int, int) int", runtime="add"),
    _confd("atoi", functions.atoi, "atoi(string) int", same=True),
    _confd("base", functions.base, "base(string) string", same=True),
    _confd(
        "base64_decode",
        formats.base64_decode,
        "base64Decode(string) string",
        aliases=("b64decode", "base64Decode"),
        same=True,
    ),
    _confd(
        "base64_encode",
        formats.base64_encode,
        "base64Encode(string) string",
        aliases=("b64encode", "base64Encode"),
        same=True,
    ),
    _confd("contains", functions.contains, "contains(string, string) bool", same=True),
    _confd("datetime", ASKS, "datetime() time.Time"),
    _confd("dir", functions.directory, "dir(string) string", same=True),
    _confd("div", functions.div, "div(int, int) int", runtime="div", same=True),
    _confd("exists", ASKS, "exists(string) bool", same=True, test=True),
    _confd("file_exists", ASKS, "fileExists(string) bool", aliases=("fileExists",), same=True, test=True, ask=_path),
    _confd("get", ASKS, "get(string) memkv.KVPair", same=True),
    _confd("getenv", ASKS, "getenv(string, ...string) string", same=True),
    _confd("gets", ASKS, "gets(string) memkv.KVPairs", same=True),
    _confd("getv", ASKS, "getv(string, ...string) string", same=True),
    _confd("getvs", ASKS, "getvs(string) []string", same=True),
    _confd("join", functions.join, "join([]string, string) string", runtime="join"),
    _confd("json", formats.json_object, "json(string) map[string]interface {}", runtime="json_object"),
    _confd(
        "json_array",
        formats.json_array,
        "jsonArray(string) []interface {}",
        runtime="json_array",
        aliases=("jsonArray",),
    ),
    _confd("lookup_ip", ASKS, "lookupIP(string) []string", aliases=("lookupIP",), same=True, ask=_address),
    _confd("lookup_ipv4", ASKS, "lookupIPV4(string) []string", aliases=("lookupIPV4",), same=True, ask=_address),
    _confd("lookup_ipv6", ASKS, "lookupIPV6(string) []string", aliases=("lookupIPV6",), same=True, ask=_address),
    _confd(
        "lookup_srv",
        ASKS,
        "lookupSRV(string, string, string) []*net.SRV",
        aliases=("lookupSRV",),
        same=True,
        ask=_service,
    ),
    _confd("ls", ASKS, "ls(string) []string", same=True),
    _confd("lsdir", ASKS, "lsdir(string) []string", same=True),
    _confd("map", functions.mapping, "map(...interface {}) map[string]interface {}", runtime="mapping"),
    _confd("mod", functions.mod, "mod(int, int) int", runtime="mod", same=True),
    _confd("mul", functions.mul, "mul(int, int) int", runtime="mul"),
    _confd("parse_bool", functions.parse_bool, "parseBool(string) bool", aliases=("parseBool",), same=True),
    _confd("replace", functions.replace, "replace(string, string, string, int) string", same=True),
    _confd(
        "reverse", functions.reverse, "reverse(interface {}) interface {}", runtime="reverse", same=True, in_place=True
    ),
    _confd("seq", functions.seq, "seq(int, int) []int", runtime="seq", same=True),
    _confd(
        "sort_by_length",
        functions.sort_by_length,
        "sortByLength([]string) []string",
        runtime="sort_by_length",
        aliases=("sortByLength",),
        same=True,
        in_place=True,
    ),
    _confd(
        "sort_kv_by_length",
        functions.sort_kv_by_length,
        "sortKVByLength([]memkv.KVPair) []memkv.KVPair",
        runtime="sort_kv_by_length",
        aliases=("sortKVByLength",),
        same=True,
        in_place=True,
    ),
    _confd("split", functions.split, "split(string, string) []string", runtime="split", same=True),
    _confd("sub", functions.sub, "sub(int, int) int", runtime="sub"),
    _confd("to_lower", functions.to_lower, "toLower(string) string", aliases=("toLower",), same=True),
    _confd("to_upper", functions.to_upper, "toUpper(string) string", aliases=("toUpper",), same=True),
    _confd(
        "trim_suffix", functions.trim_suffix, "trimSuffix(string, string) string", aliases=("trimSuffix",), same=True
    ),
    # --- those of its living fork
    _fork("", None, "append(interface {}, interface {}) []interface {}", runtime="append"),
    _fork("", None, "camelcase(string) string", runtime="camelcase"),
    _fork("", None, "coalesce(...interface {}) interface {}", runtime="coalesce"),
    _fork("", None, "default(interface {}, interface {}) interface {}", runtime="default"),
    _fork("", None, "dict(...interface {}) map[string]interface {}", runtime="mapping"),
    _fork("", None, "empty(interface {}) bool", runtime="is_empty"),
    _fork("from_json", formats.from_json, "fromJson(string) interface {}", runtime="from_json"),
    _fork("", None, "hasKey(map[string]interface {}, string) bool", runtime="has_key"),
    _fork("", None, "hostname() string", runtime="hostname"),
    _fork("", None, "include(string, ...interface {}) string"),
    _fork("", None, "indent(int, string) string", runtime="indent"),
    _fork("", None, "kebabcase(string) string", runtime="kebabcase"),
    _fork("", None, "keys(map[string]interface {}) []string", runtime="keys"),
    _fork("", None, "list(...interface {}) []interface {}", runtime="as_list"),
    _fork("", None, "lookupIfaceIPV4(string) string", ask=_interface),
    _fork("", None, "lookupIfaceIPV6(string) string", ask=_interface),
    _fork("nindent", functions.nindent, "nindent(int, string) string", runtime="nindent"),
    _fork("", None, "nospace(string) string", runtime="nospace"),
    _fork("", None, "pluck(string, ...map[string]interface {}) []interface {}", runtime="pluck"),
    _fork("regex_match", functions.regex_match, "regexMatch(string, string) bool", runtime="regex_match"),
    _fork(
        "regex_replace",
        functions.regex_replace,
        "regexReplaceAll(string, string, string) string",
        runtime="regex_replace_all",
    ),
    _fork(
        "regex_search",
        functions.regex_search,
        "regexFind(string, string) string",
        runtime="regex_find",
        aliases=("regex_find",),
    ),
    _fork("", None, "repeat(int, string) string", runtime="repeat"),
    _fork("sha256", functions.sha256, "sha256sum(string) string", same=True),
    _fork("", None, "snakecase(string) string", runtime="snakecase"),
    _fork("ternary", functions.ternary, "ternary(interface {}, interface {}, bool) interface {}", runtime="ternary"),
    _fork("to_json", formats.to_json, "toJson(interface {}) string", runtime="to_json"),
    _fork("", None, "toPrettyJson(interface {}) string", runtime="to_pretty_json"),
    _fork("trim_prefix", functions.trim_prefix, "trimPrefix(string, string) string", same=True),
    _fork("", None, "values(map[string]interface {}) []interface {}", runtime="values"),
    _fork("quote", validators.double_quote, "quote(string) string", runtime="quote"),
    _fork("squote", validators.single_quote, "squote(string) string", runtime="squote"),
    # --- those of Go's own templates; and, or, not are written by the translator
    _go("and(reflect.Value, ...reflect.Value) interface {}"),
    _go("call(reflect.Value, ...reflect.Value) interface {}", "call"),
    _go("eq(reflect.Value, ...reflect.Value) bool", "equal"),
    _go("ge(reflect.Value, reflect.Value) bool", "greater_or_equal"),
    _go("gt(reflect.Value, reflect.Value) bool", "greater"),
    _go("html(...interface {}) string", "html"),
    _go("index(reflect.Value, ...reflect.Value) interface {}", "index"),
    _go("js(...interface {}) string", "js"),
    _go("le(reflect.Value, reflect.Value) bool", "less_or_equal"),
    _go("len(reflect.Value) int", "length"),
    _go("lt(reflect.Value, reflect.Value) bool", "less"),
    _go("ne(reflect.Value, reflect.Value) bool", "unequal"),
    _go("not(reflect.Value) bool"),
    _go("or(reflect.Value, ...reflect.Value) interface {}"),
    _go("print(...interface {}) string", "printf.sprint"),
    _go("printf(string, ...interface {}) string", "printf.sprintf"),
    _go("println(...interface {}) string", "printf.sprintln"),
    _go("slice(reflect.Value, ...reflect.Value) interface {}", "cut"),
    _go("urlquery(...interface {}) string", "urlquery"),
    # --- confpy's
    Function("fail", functions.fail),
    Function("file", ASKS, go="file(string) string", same=True),
    Function("file_hash", ASKS, go="fileHash(string) string", aliases=("fileHash",), same=True),
    Function("item", ASKS, go="item(string) string", same=True),
    Function("from_toml", formats.from_toml),
    Function("from_yaml", formats.from_yaml),
    Function("hostport", validators.hostport),
    Function("int_range", validators.int_range),
    Function("natural_sort", functions.natural_sort),
    Function("one_of", validators.one_of),
    Function("parse_hostport", validators.parse_hostport),
    Function("regex_findall", functions.regex_findall),
    Function("required", functions.required),
    Function("select_valid", ASKS),
    Function("shuffle", functions.shuffle),
    Function("slots", functions.slots, go="slots(interface {}, int) []interface {}", runtime="fixed_slots", same=True),
    Function("to_toml", formats.to_toml),
    Function("to_yaml", formats.to_yaml),
    Function("apache_quote", validators.apache_quote),
    Function("haproxy_quote", validators.haproxy_quote),
    Function("nginx_quote", validators.nginx_quote),
    Function("shell_quote", validators.shell_quote),
    *(Function(f"valid_{kind}", validators.valid(kind), test=True) for kind in validators.KINDS),
)

LOOKUPS: dict[str, Ask] = {name: one.ask for one in FUNCTIONS if one.ask for name in (*one.names, one.go_name) if name}
"""Name in Jinja or in Go → what a call with literal arguments will look up."""


def known_lookups(name: str, arguments: Sequence[str]) -> Iterator[Lookup]:
    """Yield what a call with these literal arguments will look up, by its name in Jinja or in Go."""
    ask = LOOKUPS.get(name)
    if ask is not None and arguments and (found := ask(*arguments)) is not None:
        yield found
