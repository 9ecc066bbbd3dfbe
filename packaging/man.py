"""The manual page ``confpy(1)``, made from the tables of settings and commands (man(7))."""

from __future__ import annotations

import time
from itertools import groupby

from source import EPOCH

from confpy import __version__
from confpy.commands import COMMANDS
from confpy.commands.help import describe
from confpy.config.settings import CACHE_DIR, CONFDIRS, OPTIONS, STATE_DIR

EXIT_CODES = {
    "0": "Everything is done, or there was nothing to do; a daemon was asked to stop.",
    "1": "A bug in confpy.",
    "2": "A flag, a setting or a resource is invalid.",
    "3": "The store could not be read.",
    "4": "A template could not be rendered.",
    "5": "A check failed; its target is unchanged.",
    "6": "A target could not be written, and is unchanged.",
    "7": "A reload failed, and is owed.",
    "130, 143": "Stopped by SIGINT, or by another signal.",
}
"""The first that applies, for a run; commands say in their help what else they return."""
FILES = (
    (" and ".join(CONFDIRS), "The first that exists is the confdir: conf.d/*.toml, templates/ and confpy.toml."),
    (STATE_DIR, "Owed reloads, cached keys, history: one folder per confdir."),
    (CACHE_DIR, "Compiled templates. May be removed at any time."),
)


def page() -> str:
    """Return the page as roff."""
    lines = [
        f'.TH CONFPY 1 "{time.strftime("%Y-%m-%d", time.gmtime(EPOCH))}" "confpy {__version__}" "User Commands"',
        ".SH NAME",
        "confpy \\- keep configuration files in step with a key store",
        ".SH SYNOPSIS",
        *_line("confpy [flags]"),
        *_line("confpy COMMAND [arguments] [flags]"),
        ".SH DESCRIPTION",
        _text(
            "For each file in CONFDIR/conf.d, confpy reads keys from etcd, Consul, the environment or files, renders a "
            "template from CONFDIR/templates with them, checks the result, replaces the target in one step, and "
            "reloads the program that reads it. It runs as a daemon, or once with -onetime."
        ),
        ".SH COMMANDS",
    ]
    for command in COMMANDS.values():
        lines += [".TP", f".B {_text(command.usage)}", _text(command.summary[:1].upper() + command.summary[1:] + ".")]
        lines += (
            f"{_text('-' + flag.name + ' ' + flag.metavar).strip()}: {_text(flag.help)}" for flag in command.flags
        )
    lines += [".SH FLAGS", "Flags have one dash or two, and their value after a space or a \\(dq=\\(dq."]
    for group, options in groupby(OPTIONS, lambda option: option.group):
        lines.append(f'.SS "{_text(group)}"')
        for option in options:
            written, about = describe(option)
            lines += [".TP", f".B {_text(written)}", _text(about)]
    lines.append(".SH EXIT STATUS")
    for code, about in EXIT_CODES.items():
        lines += [".TP", f".B {code}", _text(about)]
    lines.append(".SH FILES")
    for path, about in FILES:
        lines += [".TP", f".I {_text(path)}", _text(about)]
    return "\n".join(lines) + "\n"


def _line(synopsis: str) -> list[str]:
    return [f".B {_text(synopsis)}", ".br"]


def _text(text: str) -> str:
    """Return text as roff shows it: escaped, and no request where a line begins with a dot."""
    escaped = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace("\u2026", "...")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
