"""The settings: one table, and how flags, variables and a TOML file fill it.

A row of the table is a field of ``Settings``: its name, type and default, and beside them how it is written and what
it is for. Flags, ``CONFPY_*`` variables, the keys of ``confpy.toml``, ``--help`` and ``docs/settings.md`` all come
from these rows. Flags weigh more than variables, variables more than the file, the file more than the default.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Literal, NamedTuple, TypeVar, cast

from confpy.clock import LONGEST
from confpy.config import confd as dialect
from confpy.errors import ConfpyError, UsageError
from confpy.events import Level

T = TypeVar("T")

Warnings = list[ConfpyError]

LARGEST_FILE = 1 << 20
"""Bytes of a TOML file; one that is larger was not written for us."""
EMPTY: tuple[object, ...] = ("", [], ())
"""What counts as not given, so that ``-node "$NODE"`` works without a NODE."""

CONFDIRS = ("/etc/confpy", "/etc/confd")
FILES = ("confpy.toml", "confd.toml")
CACHE_DIR = "/var/cache/confpy"
STATE_DIR = "/var/lib/confpy"
CHILD_VARIABLES = frozenset({"CONFPY_SRC", "CONFPY_DEST", "CONFPY_RESOURCE"})
"""What commands find in their environment: no settings, though they may start a confpy."""
ETCDS_VARIABLES = ("ETCDCTL_PEERS", "ETCDCTL_ENDPOINTS")
"""What etcdctl reads for the nodes, by API v2 and v3; the first that is set counts."""
CONSUL_VARIABLES: tuple[Mapping[str, str], ...] = (
    {"nodes": "CONSUL_HTTP_ADDR"},
    {"auth_token_file": "CONSUL_HTTP_TOKEN_FILE", "auth_token": "CONSUL_HTTP_TOKEN"},
    {"scheme": "CONSUL_HTTP_SSL"},
    {"client_ca_keys": "CONSUL_CACERT"},
    {"client_cert": "CONSUL_CLIENT_CERT", "client_key": "CONSUL_CLIENT_KEY"},
)
"""What Consul's own tools read, by the setting that it stands for. Settings of a group are taken together or not."""


# --- how values are written ------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How the values of a setting or of a resource's key are written."""

    expects: str
    """What an error says was expected."""
    accept: Callable[[object], object]
    """Read a TOML value; raises ``ValueError``."""
    parse: Callable[[str], object]
    """Read the text of a flag or a variable; raises ``ValueError``."""
    metavar: str = "TEXT"
    secret: bool = False
    """No value is ever shown."""
    names: bool = False
    """What is expected is one of some names."""

    def read(self, value: object, name: str, *, as_text: bool = False, **where: str) -> object:
        """Return what ``value`` means; raises ``UsageError`` that speaks of ``name``.

        ``as_text``: a string is the text of a flag or a variable, not a TOML string.
        """
        try:
            return self.parse(value) if as_text and isinstance(value, str) else self.accept(value)
        except ValueError:
            found = "" if self.secret else shown(value)
            if self.names:
                raise UsageError(f"{name}: {found} is not {self.expects}", **where) from None
            raise UsageError(f"{name} is not {self.expects}" + (f": {found}" if found else ""), **where) from None


def shown(value: object) -> str:
    """Return a value as an error shows it: on one line, short, and nothing of a list (it may be a command's)."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"  # Python refuses to write one of 4,300 digits
    written = repr(value)
    return written if len(written) <= 60 else written[:57] + "..."


def text(value: object) -> str:
    # NUL is fine TOML, but no system call takes it.
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def strings(value: object) -> tuple[str, ...]:
    return tuple(text(item) for item in (value if isinstance(value, list | tuple) else [value]))


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


TRUTHS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
"""The spellings of Go's strconv.ParseBool, which confd's flags take."""


def truth(value: str) -> bool:
    try:
        return TRUTHS[value]
    except KeyError:
        raise ValueError from None


UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SPAN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)


def seconds(value: object) -> float:
    """Return the seconds of a number, "600", "500ms" or "1m30s" (Go's time.ParseDuration, but for the sign)."""
    if isinstance(value, str):
        value = value.strip()
        if not value or SPAN.sub("", value):
            if not re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
                raise ValueError
            amount = float(value)
        else:
            amount = sum(float(count) * UNITS[unit] for count, unit in SPAN.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # Compared before it is converted: an integer of TOML may be too large for a float.
        amount = float(value) if value <= LONGEST else LONGEST + 1
    else:
        raise ValueError
    if not isfinite(amount) or not 0 <= amount <= LONGEST:
        raise ValueError
    return amount


def above_zero(value: object) -> float:
    amount = seconds(value)
    if not amount:
        raise ValueError
    return amount


def limit(value: object) -> float:
    """Return the seconds of a duration; 0 means no limit, which ``LONGEST`` stands for."""
    return seconds(value) or LONGEST


def choice(*names: str, **aliases: str) -> Kind:
    """Return the kind whose values are ``names``, in any case; an alias stands for another spelling."""
    meanings = {name: name for name in names} | aliases

    def accept(value: object) -> str:
        try:
            return meanings[text(value).lower()]
        except KeyError:
            raise ValueError from None

    return Kind(f"one of {', '.join(names)}", accept, accept, "|".join(names), names=True)


TEXT = Kind("a string", text, text)
SECRET = Kind("a string", text, text, "SECRET", secret=True)
PATH = Kind("a path", text, text, "PATH")
BOOLEAN = Kind("true or false", boolean, truth, "")
DURATION = Kind('a duration above zero, such as 30, "500ms" or "1m30s"', above_zero, above_zero, "DURATION")
TIMEOUT = Kind('a duration, such as 30, "500ms" or "1m30s" (0: no limit)', limit, limit, "DURATION")
PAUSE = Kind('a duration, such as 0, 30, "500ms" or "1m30s"', seconds, seconds, "DURATION")
LIST = Kind(
    "a string or a list of strings",
    strings,
    lambda value: tuple(part for item in value.split(",") if (part := item.strip())),
)
STOPPING = ("INT", "PWR", "QUIT", "TERM", "USR1", "USR2", "WINCH")
"""Signals that nobody sends for anything that confpy would have to go on for."""


def stopping(names: object) -> tuple[str, ...]:
    found = tuple(name.upper().removeprefix("SIG") for name in strings(names))
    if not set(STOPPING).issuperset(found):
        raise ValueError
    return found


SIGNALS = Kind(
    f"a list of signals out of {', '.join(STOPPING)}",
    stopping,
    lambda value: stopping(LIST.parse(value)),
    "NAME",
)


# --- the table -------------------------------------------------------------------------------------------------------


class Option(NamedTuple):
    """A row: one setting, with all its names."""

    name: str
    kind: Kind
    default: object
    group: str
    help: str
    unset: str
    """What the default means where it is no plain value."""
    flag: str
    """Without dashes."""
    keys: tuple[str, ...]
    """In the file, the documented one first; none where a file cannot set it."""
    variables: tuple[str, ...]
    words: tuple[dialect.Word, ...]
    """What else confd's dialect calls it."""

    @property
    def shown_default(self) -> str:
        """The default as ``--help`` and the manual show it; empty where there is nothing to show."""
        if self.unset:
            return self.unset
        if isinstance(self.default, float):
            return f"{self.default:g}s"
        return "" if isinstance(self.default, bool) else str(self.default or "")


def setting(
    default: T,
    kind: Kind,
    help: str,  # noqa: A002  # what it is
    *,
    unset: str = "",
    flag: str = "",
    keys: tuple[str, ...] | None = None,
) -> T:
    """Make a row of the table; names are derived from the field's where none are given."""
    row = {"kind": kind, "help": help, "unset": unset, "flag": flag, "keys": keys}
    return field(default=default, metadata=row, repr=not kind.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What confpy was told. Durations are seconds."""

    onetime: bool = setting(False, BOOLEAN, "Deliver everything once and exit.")
    watch: bool = setting(False, BOOLEAN, "Follow the store and deliver each change as it comes.")
    interval: float = setting(600.0, DURATION, "How often to read the store when not watching.")
    resync: float = setting(60.0, DURATION, "How often to compare with the store, and to check targets, when watching.")
    settle: float = setting(0.1, PAUSE, "How long a burst of changes must be quiet before it is delivered.")
    max_wait: float = setting(2.0, PAUSE, "How long a burst may delay its delivery, or deliveries a reload.")
    noop: bool = setting(
        False, BOOLEAN, "Log what would change, run the checks that need no file in its place, and change nothing."
    )
    sync_only: bool = setting(False, BOOLEAN, "Run no check and no reload command.")
    stop_timeout: float = setting(8.0, PAUSE, "How long work in progress may take after a signal to stop.")
    stop_signals: tuple[str, ...] = setting(
        (),
        SIGNALS,
        "Signals to stop at, besides TERM, INT, QUIT and USR1. May be repeated, or comma-separated.",
        unset="none; as PID 1 without a terminal also WINCH",
    )
    allow_empty: bool = setting(False, BOOLEAN, "With -onetime: a confdir without resources is not an error.")
    allow_stale: bool = setting(
        False, BOOLEAN, "With -onetime: if the store is down, create missing targets from cached keys."
    )
    retry_for: float = setting(0.0, PAUSE, "With -onetime: how long to wait for a store that is down.")
    timeout: float = setting(60.0, DURATION, "With -onetime: how long the delivery may take after that.")
    no_reload: bool = setting(False, BOOLEAN, "Run checks, but no reloads.")
    root: str | None = setting(
        None, PATH, "Put every target below this folder, create missing folders, and set no owners."
    )
    report: str | None = setting(None, PATH, "With -onetime: write the outcome of each resource to this file, as JSON.")

    confdir: str = setting(
        CONFDIRS[0], PATH, "The folder with conf.d/ and templates/.", unset="/etc/confpy if it exists, else /etc/confd"
    )
    config_file: str | None = setting(
        None,
        PATH,
        "The settings file.",
        unset=f"confpy.toml, else confd.toml, in the confdir, else {CONFDIRS[-1]}/{FILES[-1]}",
        keys=(),
    )
    cache_dir: str | None = setting(
        None,
        PATH,
        "The folder for compiled templates.",
        unset=f"$CACHE_DIRECTORY, else {CACHE_DIR}; if that is not writable and confpy is not root: "
        "$XDG_CACHE_HOME/confpy, else ~/.cache/confpy",
    )

    state_dir: str | None = setting(
        None,
        PATH,
        "The folder for what must survive a restart.",
        unset=f"$STATE_DIRECTORY, else {STATE_DIR}; if that is not writable and confpy is not root: "
        "$XDG_STATE_HOME/confpy, else ~/.local/state/confpy",
    )

    backend: str = setting("etcd", TEXT, "The store to read keys from: etcd, consul, file, env …")
    nodes: tuple[str, ...] = setting(
        (),
        LIST._replace(metavar="ADDRESS"),
        "An address of the store. May be repeated, or comma-separated.",
        unset="$ETCDCTL_PEERS, else $ETCDCTL_ENDPOINTS, for etcd, $CONSUL_HTTP_ADDR for consul, else the store's own",
        flag="node",
        keys=("nodes", "node"),
    )
    srv_domain: str | None = setting(
        None, TEXT._replace(metavar="NAME"), "The domain whose SRV records name the nodes, instead of -node."
    )
    srv_record: str | None = setting(
        None,
        TEXT._replace(metavar="NAME"),
        "The SRV record that names the nodes, instead of -node.",
        unset="from the store and srv_domain, such as _etcd._tcp.example.com",
    )
    scheme: str = setting("http", choice("http", "https"), "The scheme of nodes whose address has none.")
    prefix: str = setting("", TEXT, "Prefix for the keys of every resource, overriding the resource's own prefix.")
    join_prefixes: bool = setting(False, BOOLEAN, "Prepend -prefix to the resource's own prefix instead.")
    files: tuple[str, ...] = setting(
        (),
        LIST._replace(metavar="PATH"),
        "Store file: a file or folder to read. May be repeated, or comma-separated.",
        flag="file",
        keys=("file", "files"),
    )
    filter: str = setting("*", TEXT._replace(metavar="GLOB"), "Store file: which files in a folder to read.")
    file_format: Literal["auto", "document", "plain"] = setting(
        "auto",
        choice("auto", "document", "plain"),
        "Store file: whether files are documents or have one plain value each; auto: by their names and contents.",
    )
    client_cert: str | None = setting(None, PATH, "TLS client certificate.")
    client_key: str | None = setting(None, PATH, "TLS key of the client certificate.")
    client_ca_keys: str | None = setting(None, PATH, "TLS authorities to trust.", unset="the system's")
    server_name: str | None = setting(
        None,
        TEXT._replace(metavar="NAME"),
        "The name that the nodes' TLS certificates must have.",
        unset="the name in the node's address",
    )
    client_insecure: bool = setting(False, BOOLEAN, "Trust any certificate: for tests only.")
    basic_auth: bool = setting(False, BOOLEAN, "Log in with username and password.")
    username: str | None = setting(None, TEXT._replace(metavar="NAME"), "The user to log in as.")
    password: str | None = setting(None, SECRET, "The password; prefer a file.")
    password_file: str | None = setting(None, PATH, "A file with the password.")
    auth_token: str | None = setting(None, SECRET, "Consul: the ACL token; prefer a file.")
    auth_token_file: str | None = setting(None, PATH, "Consul: a file with the ACL token.")
    datacenter: str | None = setting(
        None, TEXT._replace(metavar="NAME"), "Consul: the datacenter to read.", unset="the agent's own"
    )
    connect_timeout: float = setting(3.0, DURATION, "How long a node may take to accept a connection.")
    read_timeout: float = setting(10.0, DURATION, "How long a node may take to answer.")

    check_cmd_timeout: float = setting(30.0, TIMEOUT, "How long a check_cmd may take; 0: no limit.")
    reload_cmd_timeout: float = setting(60.0, TIMEOUT, "How long a reload_cmd may take; 0: no limit.")
    on_reload_failure: Literal["retry", "rollback", "keep"] = setting(
        "retry", choice("retry", "rollback", "keep"), "What to do if a reload fails."
    )
    retry_refused: float = setting(
        600.0,
        PAUSE,
        "When to retry content that was rolled back; doubled each time, up to a day.",
    )
    min_reload_interval: float = setting(0.0, PAUSE, "Minimum time between two reloads by the same command.")
    splay: float = setting(0.0, PAUSE, "Delay each reload by a random time up to this.")
    on_shrink: Literal["confirm", "keep", "render"] = setting(
        "confirm", choice("confirm", "keep", "render"), "What to do if keys seem to have vanished."
    )
    shrink_grace: float = setting(30.0, PAUSE, "How long to wait before vanished keys are read again.")
    on_drift: Literal["restore", "warn"] = setting(
        "restore", choice("restore", "warn"), "What to do if somebody else changes a target."
    )
    strict_owner: bool = setting(False, BOOLEAN, "Fail, instead of warning, if a target's owner cannot be set.")
    keep_stage_file: bool = setting(False, BOOLEAN, "Leave failed candidates in place for inspection.")
    sandbox: bool = setting(False, BOOLEAN, "Render untrusted templates in a sandbox (slower).")

    log_level: Level = setting(  # noqa: RUF009  # a row like the others
        "info",
        choice("debug", "info", "warning", "error", trace="debug", warn="warning", fatal="error", panic="error"),
        "The lowest level to log.",
    )
    log_format: Literal["text", "json", "auto"] = setting(
        "auto", choice("auto", "text", "json"), "The format of log lines; auto: text, coloured on a terminal."
    )

    left_alone: tuple[str, ...] = ()
    """Variables that are set and would be settings if confpy were called as confd's fork is."""
    confdir_named: bool = False
    """Somebody chose the confdir: that it is missing is then an error."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def origin(self, name: str) -> str:
        """Say where a value comes from: ``flag -interval``, ``variable CONFPY_INTERVAL``, ``file …``, ``default``."""
        return self.origins.get(name, "default")


GROUPS = {
    "onetime": "Running",
    "confdir": "Folders and files",
    "backend": "The store",
    "check_cmd_timeout": "Delivering",
    "log_level": "Logs",
}
"""The heading that begins at a setting."""


def _options() -> Iterator[Option]:
    group = ""
    for row in fields(Settings):
        if row.metadata:
            group = GROUPS.get(row.name, group)
            given = dict(row.metadata)
            given["flag"] = given["flag"] or row.name.replace("_", "-")
            given["keys"] = (row.name,) if given["keys"] is None else given["keys"]
            words = tuple(word for word in dialect.WORDS if row.name in word.means)
            confds = (dialect.variable(name) for name in (row.name, *(word.name for word in words)))
            given["variables"] = (f"CONFPY_{row.name.upper()}", *filter(None, confds))
            yield Option(name=row.name, default=row.default, group=group, words=words, **given)


OPTIONS = tuple(_options())
SECRET_VARIABLES = frozenset(variable for option in OPTIONS if option.kind.secret for variable in option.variables)
"""Variables of ours that nobody else needs to see."""


# --- reading files ---------------------------------------------------------------------------------------------------


def read_text(path: str) -> str:
    """Return a small text file; raises ``UsageError``. A FIFO or a device, which might never end, is refused."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError("the file is not a regular one", file=path)
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"the path cannot be read: {error.strerror}", file=path) from None
    if len(content) > LARGEST_FILE:
        raise UsageError("the file is larger than 1 MiB, and so not of settings", file=path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError("the file is not UTF-8, as TOML must be", file=path, line=line) from None


_UNCLOSED = re.compile(r"""(Illegal|Found invalid) character '\\n'|Unterminated string|Expected "'+"$""")


def parse_toml(content: str, path: str) -> dict[str, object]:
    """Return the tables of a TOML file; raises ``UsageError`` with file and line."""
    import tomllib

    try:
        return tomllib.loads(content)
    except RecursionError:
        raise UsageError("the file is not valid TOML: nested too deeply", file=path) from None
    except ValueError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where: dict[str, str | int] = {"file": path, "line": int(line[1])} if line else {"file": path}
        hint = ""
        if _UNCLOSED.match(reason):
            reason = "a string is not closed"
            hint = "it ends on its line, with the quote that it begins with; one of several lines stands between three"
        reason = reason[:1].lower() + reason[1:]
        raise UsageError(f"the file is not valid TOML: {reason}", hint=hint, **where) from None


def plain(key: str) -> str:
    """Return a key without what does not matter in it: case, ``-`` and ``_``."""
    return key.replace("-", "").replace("_", "").lower()


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant, or nothing."""
    import difflib

    spelled = {plain(name): name for name in known}
    return "".join(spelled[match] for match in difflib.get_close_matches(plain(word), spelled, n=1, cutoff=0.7))


def mend(word: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown word: what was probably meant."""
    meant = suggest(word, known)
    return f"did you mean {meant}?" if meant else ""


# --- loading ---------------------------------------------------------------------------------------------------------


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str]) -> tuple[Settings, Warnings]:
    """Return the settings, and what to warn of.

    ``flags`` has values by the name of a setting or of a word of the dialect, as text, or as the type that the file
    would give; ``store`` is what was named without a flag, as in confd's fork. An empty value counts as not given, but
    for ``prefix``. Raises ``UsageError`` where a value is wrong or a file cannot be read.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    warnings: Warnings = []
    called = cast("str", flags.get("store", ""))
    left_alone = () if called else tuple(_variables_of_the_fork(environ))
    environ = {name: value for name, value in environ.items() if name not in left_alone}
    for option in OPTIONS:
        for value, origin in _given(option, flags, environ, warnings):
            values[option.name] = value
            origins[option.name] = origin
            break
    if called and not flags.get("backend"):
        values["backend"], origins["backend"] = dialect.STORES[called], f"argument {called}"
    path = _settings_file(cast("str | None", values.get("config_file")), cast("str | None", values.get("confdir")))
    if path is not None and "config_file" in values and not os.path.exists(path):
        warnings.append(UsageError("the settings file does not exist: going on without it", file=path))
        path = None
    if path is not None:
        for name, value in _read_file(path, warnings).items():
            if name not in values:
                values[name] = value
                origins[name] = f"file {path}"
    warnings.extend(_idle_words(flags, environ))
    warnings.extend(_stray_variables(environ))
    warnings.extend(_shown_secrets(origins))

    named = "confdir" in values
    values.setdefault("confdir", _confdir())
    values["config_file"] = path
    if "nodes" not in values and str(values.get("backend", "etcd")).startswith("etcd"):
        for variable in ETCDS_VARIABLES:
            if peers := LIST.parse(environ.get(variable, "")):
                values["nodes"], origins["nodes"] = peers, f"variable {variable}"
                break
    if values.get("backend") == "consul":
        _take_consuls(environ, values, origins)
    for name, variable, default, home, below in (
        ("cache_dir", "CACHE_DIRECTORY", CACHE_DIR, "XDG_CACHE_HOME", ".cache"),
        ("state_dir", "STATE_DIRECTORY", STATE_DIR, "XDG_STATE_HOME", ".local/state"),
    ):
        if name not in values:
            # systemd names several folders with colons between them.
            folder = environ.get(variable, "").partition(":")[0]
            values[name] = folder or _usable(default, environ, home, below)
            if folder:
                origins[name] = f"variable {variable}"
    if called:
        values = {**dialect.IN_THE_FORK, **values}
    if values.get("client_insecure"):
        hint = "whoever is on the way to the store can change its answers: name its CA (client_ca_keys)"
        warnings.append(UsageError(f"{origins['client_insecure']}: any certificate is trusted", hint=hint))
    # Every value went through the kind of its field.
    settings = Settings(confdir_named=named, origins=origins, left_alone=left_alone, **values)  # type: ignore[arg-type]
    return settings, warnings


def _given(
    option: Option, flags: Mapping[str, object], environ: Mapping[str, str], warnings: Warnings
) -> Iterator[tuple[object, str]]:
    """Yield the values that flags and variables give to a setting, the weightiest first."""
    for name, flag in ((option.name, option.flag), *((word.name, word.flag) for word in option.words)):
        value = flags.get(name)
        if value is not None and (value not in EMPTY or name == "prefix"):
            origin = f"flag -{flag}"
            yield option.kind.read(value, origin, as_text=True), origin
    for variable in option.variables:
        if environ.get(variable):
            origin = f"variable {variable}"
            try:
                yield option.kind.read(environ[variable], origin, as_text=True), origin
            except UsageError as error:
                if variable.startswith("CONFPY_"):
                    raise
                # A script that was written for confd itself, which does not read it, may mean anything by it.
                error.hint = "going on without it"
                warnings.append(error)


def _variables_of_the_fork(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that are set and that confd's fork reads as settings, confd itself not."""
    for name in sorted(dialect.VARIABLES):
        variable = f"CONFD_{name.upper()}"
        if environ.get(variable) and variable not in dialect.ALWAYS:
            yield variable


def _idle_words(flags: Mapping[str, object], environ: Mapping[str, str]) -> Iterator[ConfpyError]:
    """Warn of flags and variables of confd's dialect that have no meaning here, or not quite their own."""
    for word in dialect.WORDS:
        if word.hint and flags.get(word.name) is not None:
            yield _idle(f"flag -{word.flag}", word)
        if word.hint and environ.get(variable := dialect.variable(word.name)):
            yield _idle(f"variable {variable}", word)


def _idle(origin: str, word: dialect.Word, **where: str) -> UsageError:
    meaning = f"means {' and '.join(word.means)} here" if word.means else "has no meaning here, ignored"
    return UsageError(f"{origin} {meaning}", hint=word.hint, **where)


def _take_consuls(environ: Mapping[str, str], values: dict[str, object], origins: dict[str, str]) -> None:
    """Fill in what Consul's own variables say, where nobody said otherwise."""
    kinds = {option.name: option.kind for option in OPTIONS}
    for group in CONSUL_VARIABLES:
        if group.keys() & values.keys():
            continue
        for name, variable in group.items():
            if given := environ.get(variable):
                origin = f"variable {variable}"
                if name == "scheme":
                    values[name] = "https" if BOOLEAN.read(given, origin, as_text=True) else "http"
                else:
                    values[name] = kinds[name].read(given, origin, as_text=True)
                origins[name] = origin


def _shown_secrets(origins: Mapping[str, str]) -> Iterator[ConfpyError]:
    """Warn of secrets that stand where every user of the machine can read them."""
    for option in OPTIONS:
        if option.kind.secret and origins.get(option.name, "").startswith("flag "):
            hint = f"give -{option.flag}-file or {option.variables[0]} instead"
            yield UsageError(
                f"flag -{option.flag}: everybody on this machine can see it in the list of processes", hint=hint
            )


def _usable(folder: str, environ: Mapping[str, str], home: str, below: str) -> str:
    """Return the system's folder, or the user's own where this is not root and may not write to the system's.

    ``home`` is the variable of the XDG base directory specification that names the user's, ``below`` its default in the
    home directory. A user without a home directory keeps the system's folder, which is then warned of.
    """
    if os.geteuid() == 0 or os.access(folder, os.W_OK | os.X_OK):
        return folder
    for base in (environ.get(home, ""), os.path.join(environ.get("HOME", ""), below)):
        if os.path.isabs(base) and base != f"/{below}":
            return os.path.join(base, "confpy")
    return folder


def _confdir() -> str:
    return next((folder for folder in CONFDIRS if os.path.isdir(folder)), CONFDIRS[-1])


def _settings_file(named: str | None, confdir: str | None) -> str | None:
    """Return the file that was named, else the confdir's own, else that of confd, which had it in one place only."""
    if named:
        return named
    paths = [os.path.join(confdir or _confdir(), name) for name in FILES]
    return next((path for path in (*paths, os.path.join(CONFDIRS[-1], FILES[-1])) if os.path.lexists(path)), None)


def _read_file(path: str, warnings: Warnings) -> dict[str, object]:
    known = {plain(key): option for option in OPTIONS for key in option.keys}
    words = {plain(word.name): word for word in dialect.WORDS}
    values: dict[str, object] = {}
    implied: dict[str, object] = {}
    for key, value in parse_toml(read_text(path), path).items():
        option, word = known.get(plain(key)), words.get(plain(key))
        if isinstance(value, dict):
            warnings.append(_idle_table(key, path))
        elif option is not None:
            if value not in EMPTY or option.name == "prefix":
                values[option.name] = option.kind.read(value, key, file=path, key=key)
        elif word is not None:
            if word.hint:
                warnings.append(_idle(key, word, file=path, key=key))
            for option in OPTIONS:
                if word in option.words and value not in EMPTY:
                    implied[option.name] = option.kind.read(value, key, file=path, key=key)
        else:
            hint = mend(key, (option.keys[0] for option in known.values()))
            warnings.append(UsageError(f"unknown setting {key}, ignored", hint=hint, file=path, key=key))
    return implied | values


def _idle_table(key: str, path: str) -> UsageError:
    """Say why a table of the settings file is ignored; confd's old tutorials name a resource as that file."""
    if plain(key) == "template":
        hint = "it is a resource: conf.d is read without -config-file, and all of it is delivered"
        return UsageError("the settings file holds no settings but a [template]", hint=hint, file=path, key=key)
    hint = "settings stand above all tables"
    return UsageError(f"the table [{key}] holds no settings, ignored", hint=hint, file=path, key=key)


def _stray_variables(environ: Mapping[str, str]) -> Iterator[ConfpyError]:
    """Warn of variables that look like a mistyped setting; others (Kubernetes makes CONFPY_PORT …) may be anybody's."""
    known = {variable for option in OPTIONS for variable in option.variables}
    stray = sorted(name for name in environ if name.startswith("CONFPY_") and name not in known | CHILD_VARIABLES)
    for name in stray:
        meant = suggest(name.removeprefix("CONFPY_"), (variable.removeprefix("CONFPY_") for variable in known))
        if meant:
            yield UsageError(f"unknown variable {name}, ignored", hint=f"did you mean CONFPY_{meant}?")
