"""How the values of settings and of resources' options are written: one ``Kind`` each. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, NamedTuple

from confpy.clock import LONGEST
from confpy.errors import UsageError
from confpy.reload.kinds import signal_name


class Kind(NamedTuple):
    """How the values of a setting or of an option are written."""

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
    type: str = "string"
    """What the manual calls the type of a TOML value."""
    schema: Mapping[str, Any] = {"type": "string"}
    """What JSON Schema says of a TOML value, as far as it can."""

    def read(self, value: object, name: str, *, as_text: bool = False, **where: str) -> object:
        """Return the value as confpy uses it; raises ``UsageError``, whose message begins with ``name``.

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
    """Return a value for an error message: one line, short, and nothing of a list, which may be a command."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"  # Python refuses to write one of 4,300 digits
    written = repr(value)
    return written if len(written) <= 60 else written[:57] + "..."


def text(value: object) -> str:
    # TOML allows NUL, no system call does.
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
SPAN = r"(?a)(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)"
AMOUNT = r"([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)"


def seconds(value: object) -> float:
    """Return the seconds of a number, "600", "500ms" or "1m30s" (Go's time.ParseDuration, but for the sign)."""
    if isinstance(value, str):
        value = value.strip()
        if not value or re.sub(SPAN, "", value):
            if not re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
                raise ValueError
            amount = float(value)
        else:
            amount = sum(float(count) * UNITS[unit] for count, unit in re.findall(SPAN, value))
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
    """Return the seconds of a duration; 0 means no limit, and becomes ``LONGEST``."""
    return seconds(value) or LONGEST


def choice(*names: str, **aliases: str) -> Kind:
    """Return the kind whose values are ``names``, in any case; an alias is another name for one of them."""
    meanings = {name: name for name in names} | aliases

    def accept(value: object) -> str:
        try:
            return meanings[text(value).lower()]
        except KeyError:
            raise ValueError from None

    return Kind(f"one of {', '.join(names)}", accept, accept, "|".join(names), names=True, schema={"enum": [*meanings]})


TEXT = Kind("a string", text, text)
SECRET = Kind("a string", text, text, "SECRET", secret=True)
PATH = Kind("a path", text, text, "PATH")
FOLDER = Kind("a path", text, text, "PATH")
BOOLEAN = Kind("true or false", boolean, truth, "", type="boolean", schema={"type": "boolean"})
DURATION = Kind(
    'a duration above zero, such as 30, "500ms" or "1m30s"',
    above_zero,
    above_zero,
    "DURATION",
    type="duration",
    schema={"type": ["number", "string"], "minimum": 0, "maximum": LONGEST, "pattern": f"^\\s*{AMOUNT}\\s*$"},
)
TIMEOUT = DURATION._replace(
    expects='a duration, such as 30, "500ms" or "1m30s" (0: no limit)', accept=limit, parse=limit
)
PAUSE = DURATION._replace(expects='a duration, such as 0, 30, "500ms" or "1m30s"', accept=seconds, parse=seconds)
LIST = Kind(
    "a string or a list of strings",
    strings,
    lambda value: tuple(part for item in value.split(",") if (part := item.strip())),
)
STOPPING = ("INT", "PWR", "QUIT", "TERM", "USR1", "USR2", "WINCH")
"""Signals that have no other use for which confpy would have to go on."""


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


def address(value: object) -> str:
    """Return the text of an address to listen at; empty for none."""
    from confpy.config.address import parse_address

    parse_address(text(value))
    return text(value)


ADDRESS = Kind("an address such as 127.0.0.1:9100, :9100 or unix:/run/confpy/http.sock", address, address, "ADDRESS")
SIGNAL = Kind("the name of a signal, such as USR1", lambda value: signal_name(text(value)), signal_name, "NAME")


def words(value: object) -> tuple[str, ...]:
    """Return the words of a command, split as a shell does it where it is one string; no shell runs it."""
    import shlex

    found = strings(value) if isinstance(value, list) else tuple(shlex.split(text(value)))
    if not found or not found[0]:
        raise ValueError
    return found


PROGRAM = Kind(
    'a command, such as "haproxy -W -f /etc/haproxy/haproxy.cfg", or a list of its words',
    words,
    words,
    "CMD …",
    type="string or list",
    schema={"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1},
)


NO_ID = -1
"""The user or group that chown does not change; in confd, "not set"."""
LAST_ID = (1 << 32) - 2
LARGEST_COUNT = (1 << 31) - 1
MODE = "^(0o?)?[0-7]{0,4}$"
DELIMITER = r"""[^\w\s"'`]+"""
BLOCKS = ("{%", "{#", "%}", "#}")
"""Jinja's other delimiters, which cannot be used."""


def permission_bits(value: object) -> int | None:
    """Return the mode of a string of octal digits, including set-id and sticky bits; None for an empty one."""
    if not isinstance(value, str) or not re.fullmatch(MODE, value):
        raise ValueError
    return int(value, 8) if value else None


def account_id(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool) or not NO_ID <= value <= LAST_ID:
        raise ValueError
    return None if value == NO_ID else value


def key_list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return strings(value)


def file_list(value: object) -> tuple[str, ...]:
    """Return absolute paths, normalised and without duplicates."""
    paths = key_list(value)
    if not all(path.startswith("/") for path in paths):
        raise ValueError
    return tuple(dict.fromkeys(os.path.normpath(path) for path in paths))


def count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_COUNT:
        raise ValueError
    return value


def counted(written: str) -> int:
    """Return the number that a flag or a variable has as text."""
    return count(int(written)) if written.isdecimal() else count(None)


def delimiters(value: object) -> tuple[str, ...]:
    """Return the delimiters of expressions; empty for the default ones."""
    found = key_list(value)
    if len(found) != 2 or not all(re.fullmatch(DELIMITER, one) for one in found):
        raise ValueError
    if set(BLOCKS).intersection(found):
        raise ValueError
    return () if found == ("{{", "}}") else found


def share(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def kind(expects: str, accept: Callable[[object], object], type_: str, schema: Mapping[str, Any]) -> Kind:
    """Return the kind of an option that only resources have: it is written in TOML only."""
    return Kind(expects, accept, accept, type=type_, schema=schema)


DIGITS = kind("a string of octal digits", permission_bits, "string", {"type": "string", "pattern": MODE})
ID = kind(
    "a number of a user or group", account_id, "integer", {"type": "integer", "minimum": NO_ID, "maximum": LAST_ID}
)
COUNT = Kind(
    "a number from 0 on",
    count,
    counted,
    "N",
    type="integer",
    schema={"type": "integer", "minimum": 0, "maximum": LARGEST_COUNT},
)
SHARE = kind("a share from 0 to 1, such as 0.5", share, "number", {"type": "number", "minimum": 0, "maximum": 1})
KEYS = kind(
    'a list of strings, such as ["/services"]',
    key_list,
    "list of strings",
    {"type": "array", "items": {"type": "string"}},
)
FILES = kind(
    'a list of absolute paths, such as ["/etc/ssl/web.pem"]',
    file_list,
    "list of strings",
    {"type": "array", "items": {"type": "string", "pattern": "^/"}},
)
DELIMITERS = kind(
    'a left and a right delimiter, such as ["[[", "]]"]',
    delimiters,
    "list of two strings",
    {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{DELIMITER}$", "not": {"enum": [*BLOCKS]}},
        "minItems": 2,
        "maxItems": 2,
    },
)
