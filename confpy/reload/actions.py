"""The reload actions and the verifiers, one class each: its options, the line that people see, how it runs.

Pure, but for ``run`` and ``begin``. These import what does I/O when they are called: a start that reloads nothing does
not load it. A new action is a class here and its name in ``ReloadAction``: what the TOML reader accepts, the line in
logs and what the ledger stores are derived from it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, get_args

from confpy.errors import ReloadError, UsageError
from confpy.frozen import frozen, replace
from confpy.reload.kinds import Option, Written, signal_name, single
from confpy.system.placeholders import Command, command_line, fill_command, read_command

if TYPE_CHECKING:
    from confpy.reload.context import Context

COMMAND = Option(
    'a command, which is a string or a list such as ["nginx", "-t"]',
    read_command,
    "A command.",
    {"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1, "examples": [["nginx", "-t"]]},
    "command",
)
WITHOUT_ANSWER = (
    r"(sudo\s+)?(/(usr/)?(local/)?s?bin/)?("
    r"(?P<nginx>nginx(\s+-[cpg]\s+\S+)*\s+-s\s+reload)|(?P<apache>(apachectl|apache2ctl|apache2|httpd)\s+(-k\s+)?graceful)"
    r"|(systemctl\s+reload\s+|service\s+)((?P<n>nginx)|(?P<a>apache2|httpd)|(?P<h>haproxy))(\.service|\s+reload)?)\s*"
)
"""Commands that exit with 0 whether the program has taken its new configuration or not. Only local ones: no ssh."""


# --- actions ---------------------------------------------------------------------------------------------------------


@frozen
class CommandReload:
    """Run a command; exit code 0 is success."""

    kind: ClassVar[str] = "command"
    options: ClassVar[Mapping[str, Option]] = {"reload_cmd": replace(COMMAND, help="runs when the target has changed")}
    """By name; the first says that a resource is reloaded by this action."""

    command: Command

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> CommandReload | None:
        """Return the action that a resource's options describe; None: another one, or none."""
        return cls(given["reload_cmd"]) if given.get("reload_cmd") else None

    def fill(self, src: str, dest: str) -> CommandReload:
        """Return the action with these paths in place of its placeholders."""
        return CommandReload(fill_command(self.command, src, dest))

    def describe(self) -> str:
        """Return the action as one line for people. Pending reloads are keyed by it."""
        return command_line(self.command)

    def run(self, context: Context) -> str | None:
        """Reload; raises ``ReloadError``. Returns an answer of which nobody knows whether it means success."""
        context.run_command("reload", self.command)
        return None

    def silent_program(self) -> str:
        """Return the program whose outcome the command does not report but ``VerifyProgram`` sees; empty: none."""
        if (found := re.fullmatch(WITHOUT_ANSWER, self.describe())) is None:
            return ""
        name = next(name for name, text in found.groupdict().items() if text)
        return {"n": "nginx", "a": "apache", "h": "haproxy"}.get(name, name)


@frozen
class SignalReload:
    """Send a signal to the process of a file, to all processes of a name, or to the program of ``-exec``."""

    kind: ClassVar[str] = "signal"
    options: ClassVar[Mapping[str, Option]] = {
        "reload_signal": Option(
            'the name of a signal, such as "HUP"',
            signal_name,
            "instead of `reload_cmd`: the name of a signal to send, such as `HUP`; without the next two, to the"
            " [program of `-exec`](sidecar.md) ([more](commands.md#without-a-command))",
            {"pattern": "^[A-Za-z0-9]+$", "examples": ["HUP", "USR2"]},
        ),
        "reload_pidfile": Option(
            "a string",
            single,
            "the file with the ID of the process to signal; rejected if others may write to it"
            " ([more](commands.md#a-signal))",
            {"examples": ["/run/haproxy.pid"]},
        ),
        "reload_process": Option(
            "a string",
            single,
            "the name of the processes to signal; with `reload_pidfile`, the name that its process must have",
            {"examples": ["haproxy"]},
        ),
    }

    signal: str
    """``HUP``."""
    pidfile: str = ""
    process: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> SignalReload | None:
        """Return the action that a resource's options describe, None for another; raises ``UsageError`` for a part."""
        whom = {key: given[key] for key in ("reload_pidfile", "reload_process") if given.get(key)}
        if not given.get("reload_signal"):
            for key in whom:
                raise UsageError(f"there is a {key} without reload_signal", hint='add reload_signal = "HUP"', key=key)
            return None
        return cls(given["reload_signal"], whom.get("reload_pidfile", ""), whom.get("reload_process", ""))

    def fill(self, src: str, dest: str) -> SignalReload:  # noqa: ARG002 - it has no placeholders
        return self

    @property
    def is_for_child(self) -> bool:
        """Whether the program that confpy supervises gets it."""
        return not (self.pidfile or self.process)

    def describe(self) -> str:
        return f"signal {self.signal} to {self.pidfile or self.process or 'the program of -exec'}"

    def run(self, context: Context) -> str | None:
        if self.is_for_child:
            if context.child is None:  # only what an earlier run owes can ask for it
                raise ReloadError("there is no program of -exec")
            context.child.reload(self.signal, context.timeout, ReloadError)
            return None
        from confpy.reload.processes import send_signal

        send_signal(self.signal, self.pidfile, self.process)
        return None


def _request(written: Written) -> HttpReload:
    """Return what "POST http://…" means; a login in it would be in every log."""
    from urllib.parse import urlsplit

    method, _, address = single(written).partition(" ")
    url = urlsplit(address)
    if not re.fullmatch("[A-Za-z]+", method) or not re.fullmatch("https?://[!-~]+", address) or "@" in url.netloc:
        raise ValueError
    if url.netloc == "unix:":
        found = url.scheme == "http" and bool(re.fullmatch("/[^:]+:/.*", url.path))
    else:
        found = bool(url.hostname) and url.port != 0
    if not found:
        raise ValueError
    return HttpReload(method.upper(), address)


@frozen
class HttpReload:
    """Make a request; any 2xx is success."""

    kind: ClassVar[str] = "http"
    options: ClassVar[Mapping[str, Option]] = {
        "reload_http": Option(
            'a request without a login, such as "POST http://127.0.0.1:80/reload"',
            _request,
            "instead of `reload_cmd`: a request to make, such as `POST http://127.0.0.1:8080/reload`; success is a 2xx",
            {"pattern": "^[A-Za-z]+ https?://[!-~]+$", "examples": ["POST http://127.0.0.1:8080/reload"]},
            secret=True,
        ),
    }

    method: str
    url: str

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> HttpReload | None:
        """Return the action that a resource's options describe; None: another one, or none."""
        return given.get("reload_http")

    def fill(self, src: str, dest: str) -> HttpReload:  # noqa: ARG002 - it has no placeholders
        return self

    def describe(self) -> str:
        address, mark, query = self.url.partition("?")
        # The query may hold a token; the checksum tells one query from another.
        return f"{self.method} {address}" + (f"?…{zlib.crc32(query.encode()):08x}" if mark else "")

    def run(self, context: Context) -> str | None:
        from confpy.reload.http_request import send_request

        send_request(self.method, self.url, context.timeout)
        return None


def _lines_for_socket(written: Written) -> SocketReload:
    """Return what "unix:/run/a.sock reload" means, or a list of which the first names the socket."""
    first, *more = (written,) if isinstance(written, str) else written or ("",)
    socket, _, line = first.partition(" ")
    lines = [one.strip() for one in (line, *more)]
    if more and not lines[0]:
        lines.pop(0)
    if not socket.startswith("unix:/") or not all(one and one.isprintable() for one in lines):
        raise ValueError
    return SocketReload(socket.removeprefix("unix:"), lines[0], tuple(lines[1:]))


def _regular_expression(written: Written) -> str:
    try:
        re.compile(single(written))
    except (re.error, RecursionError, OverflowError):
        raise ValueError from None
    return single(written)


@frozen
class SocketReload:
    """Send lines to a Unix socket, each on a connection of its own, and read the answers."""

    kind: ClassVar[str] = "socket"
    options: ClassVar[Mapping[str, Option]] = {
        "reload_socket": Option(
            'a socket and a line, such as "unix:/run/haproxy-master.sock reload", or a list of a socket and lines',
            _lines_for_socket,
            "instead of `reload_cmd`: a Unix socket and a line to send, such as `unix:/run/haproxy-master.sock reload`,"
            " or a list of a socket and lines ([more](commands.md#lines-for-a-socket))",
            {
                "type": ["string", "array"],
                "pattern": "^unix:/[^ ]* .*[^ ]",
                "items": {"type": "string"},
                "minItems": 1,
                "examples": ["unix:/run/haproxy-master.sock reload"],
            },
            "string or list",
        ),
        "reload_socket_expect": Option(
            'a regular expression, such as "Success=1"',
            _regular_expression,
            "a regular expression that each answer must match, instead of what is known of HAProxy's answers",
            {"format": "regex", "examples": ["Success=1"]},
        ),
    }

    path: str
    line: str
    more: tuple[str, ...] = ()
    """Lines after the first."""
    expect: str = ""
    """The regular expression that each answer has to match; empty: what is known of HAProxy's answers decides."""

    @property
    def lines(self) -> tuple[str, ...]:
        return (self.line, *self.more)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> SocketReload | None:
        """Return the action that a resource's options describe, None for another; raises ``UsageError`` for a part."""
        action: SocketReload | None = given.get("reload_socket")
        expect: str = given.get("reload_socket_expect", "")
        if expect and action is None:
            hint = 'add reload_socket = "unix:/run/haproxy-master.sock reload"'
            key = "reload_socket_expect"
            raise UsageError("there is a reload_socket_expect without reload_socket", hint=hint, key=key)
        return replace(action, expect=expect) if expect and action is not None else action

    def fill(self, src: str, dest: str) -> SocketReload:  # noqa: ARG002 - it has no placeholders
        return self

    def describe(self) -> str:
        return f"{', '.join(map(repr, self.lines))} to unix:{self.path}"

    def run(self, context: Context) -> str | None:
        from confpy.reload.socket_lines import send_lines

        return send_lines(self.path, self.lines, self.expect, context.timeout, asks_master=not context.is_watched)


ReloadAction: TypeAlias = CommandReload | SignalReload | HttpReload | SocketReload
ACTIONS: Mapping[str, type[ReloadAction]] = {action.kind: action for action in get_args(ReloadAction)}
"""By kind, as the ledger names it."""
_OF_ACTIONS = frozenset(key for action in ACTIONS.values() for key in action.options)


def parse_action(given: Mapping[str, Any]) -> ReloadAction | None:
    """Return the reload action that a resource's options describe; raises ``UsageError`` for two, or half a one."""
    if _OF_ACTIONS.isdisjoint(given):  # most resources
        return None
    found = [key for action in ACTIONS.values() if given.get(key := next(iter(action.options)))]
    if len(found) > 1:
        raise UsageError(f"there are both {found[0]} and {found[1]}", hint="a reload is one of them", key=found[1])
    parsed = [action.parse(given) for action in ACTIONS.values()]
    return next((action for action in parsed if action is not None), None)


# --- verifiers -------------------------------------------------------------------------------------------------------


@frozen
class VerifyCommand:
    """Run a command after the reload; exit code 0 means that it was taken."""

    kind: ClassVar[str] = "command"
    options: ClassVar[Mapping[str, Option]] = {
        "verify_cmd": replace(
            COMMAND, help="instead of `verify`: runs after the reload, which has failed if this command fails"
        )
    }
    watches: ClassVar[bool] = False
    """It watches the program itself, from before the reload on."""

    command: Command

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> VerifyCommand | None:
        """Return the verifier that a resource's options describe; None: another one, or none."""
        return cls(given["verify_cmd"]) if given.get("verify_cmd") else None

    def begin(self, context: Context) -> Callable[[], None]:
        """Return what verifies the reload once it was made, and raises ``ReloadError`` if it was not taken."""
        return lambda: context.run_command("verify", self.command)


PROGRAMS = ("nginx", "apache", "haproxy")
"""Those that confpy can see taking a new configuration."""


def _program(written: Written) -> VerifyProgram:
    """Return what "nginx", "nginx /run/nginx.pid" or "haproxy unix:/run/haproxy-master.sock" means."""
    name, _, place = single(written).partition(" ")
    socket, place = ("", place.strip()) if "unix:" not in place else (place.strip().removeprefix("unix:"), "")
    if name not in PROGRAMS or (socket and name != "haproxy") or not (socket or place or "/").startswith("/"):
        raise ValueError
    return VerifyProgram(name, socket, place)


@frozen
class VerifyProgram:
    """See whether a program that confpy knows has taken its new configuration."""

    kind: ClassVar[str] = "program"
    options: ClassVar[Mapping[str, Option]] = {
        "verify": Option(
            'a program that confpy knows: "nginx", "apache" or "haproxy"',
            _program,
            "`nginx`, `apache` or `haproxy`: the reload has failed if the program did not apply its new configuration"
            " ([more](commands.md#verifying-a-reload))",
            {
                "pattern": "^(nginx|apache|haproxy)( .*)?$",
                "examples": ["nginx", "apache", "haproxy"],
            },
        ),
    }
    watches: ClassVar[bool] = True

    program: str
    """One of ``PROGRAMS``."""
    socket: str = ""
    """HAProxy: that of its master; empty: it is found out."""
    pidfile: str = ""
    """The file with the process ID of its master; empty: all masters of its name are looked at."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> VerifyProgram | None:
        """Return the verifier that a resource's options describe; None: another one, or none."""
        known: VerifyProgram | None = given.get("verify")
        if known is None or known.socket or known.pidfile:
            return known
        reloaded_by: SocketReload | None = given.get("reload_socket")
        socket = reloaded_by.path if reloaded_by and known.program == "haproxy" else ""
        return cls(known.program, socket, given.get("reload_pidfile", ""))

    def begin(self, context: Context) -> Callable[[], None]:
        """Look at the program before the reload; return what waits until it was taken, or raises ``ReloadError``."""
        from confpy.reload.verify import begin

        wait = begin(self.program, self.socket, self.pidfile, context.timeout)
        return lambda: wait(context.timeout)


Verifier: TypeAlias = VerifyCommand | VerifyProgram
VERIFIERS: Mapping[str, type[Verifier]] = {verifier.kind: verifier for verifier in get_args(Verifier)}
"""By kind, as the ledger names it."""
_OF_VERIFIERS = frozenset(key for verifier in VERIFIERS.values() for key in verifier.options)


def parse_verifier(given: Mapping[str, Any]) -> Verifier | None:
    """Return what verifies the reload of a resource with these options; raises ``UsageError`` for two."""
    if _OF_VERIFIERS.isdisjoint(given):
        return None
    found = [it for it in (verifier.parse(given) for verifier in VERIFIERS.values()) if it is not None]
    if len(found) > 1:
        raise UsageError("there are both verify and verify_cmd", hint="a reload is verified by one", key="verify_cmd")
    return found[0] if found else None


OPTIONS: Mapping[str, Option] = {
    name: option for one in (*ACTIONS.values(), *VERIFIERS.values()) for name, option in one.options.items()
}
"""Every option of a resource that an action or a verifier is read from."""
