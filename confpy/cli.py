"""The command line: flags as Go and as others write them, and at most one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from confpy.commands import COMMANDS, COMPLETE, RUN_FLAGS, Call, Flag
from confpy.commands.flags import FLAGS, KNOWN, SEE, STORE, TRUTHS, parse
from confpy.config import confd
from confpy.config.kinds import BOOLEAN
from confpy.config.toml import mend
from confpy.daemon.startup import release_signals
from confpy.errors import ConfpyError, UsageError
from confpy.log import Log


class Line(NamedTuple):
    """A parsed command line."""

    command: str
    """One of ``COMMANDS``; empty: run."""
    arguments: tuple[str, ...]
    """Of the command."""
    flags: tuple[tuple[str, str], ...]
    """With their values."""
    switches: frozenset[str]
    """The command's own flags that are true."""
    options: Mapping[str, str]
    """The command's own flags that have a value."""
    program: tuple[str, ...] | None = None
    """The words after ``--``, or after ``-exec``."""
    help: bool = False
    version: bool = False


TAKE_SIGNALS = {"run", "register"}
"""Commands that take their signals by themselves, as soon as they can."""
GENERAL = (Flag("help", ""), Flag("version", ""))
OWN = {
    flag.name: flag
    for flag in (*GENERAL, *RUN_FLAGS, *(flag for command in COMMANDS.values() for flag in command.flags))
}
"""Flags of commands. Commands that share a name agree on whether it has a value."""


def spell(args: Sequence[str]) -> Line:
    """Parse a command line; raises ``UsageError``.

    As in Go, what follows a flag that needs a value is its value, even if it looks like a flag, and a flag that is true
    or false takes a value only after "=". All other words, before or after flags, are a command and its arguments. A
    store may be named before any command, as in confd's fork. Everything after ``--`` or ``-exec`` is another program.
    """
    found: list[tuple[str, str]] = []
    words: list[str] = []
    program: tuple[str, ...] | None = None
    ends = ""
    """What the words of the program come after."""
    called = False
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.lstrip("-").partition("=")
        if arg in {"--", "-exec", "--exec"}:
            program, ends = tuple(rest), arg
            continue
        if (not arg.startswith("-") and (words or arg in COMMANDS)) or (arg == "-" and words):
            words.append(arg)
            continue
        if arg in confd.STORES and not called:
            called = True
            found.append((STORE, arg))
            continue
        if not name or not arg.startswith("-") or arg.startswith("---"):
            hint = mend(arg, COMMANDS) or SEE
            if arg.lower() in {"true", "false"}:
                hint = "values of flags that are true or false are written as in -watch=false"
            raise UsageError(f"unexpected argument {arg!r}", hint=hint)
        name = {"h": "help", **confd.SHORT}.get(name, name)
        if name not in OWN and name not in KNOWN:
            raise _unknown(name)
        if not equals and (name in TRUTHS or (name in OWN and not OWN[name].metavar)):
            value = "true"
        elif not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise UsageError(f"flag -{name} needs a value", hint=SEE) from None
        found.append((name, value))
    name, *arguments = words or [""]
    command = COMMANDS.get(name)
    own = {flag.name for flag in (*GENERAL, *(command.flags if command else RUN_FLAGS))}
    options: dict[str, str] = {}
    for flag, value in found:
        if flag in own:
            text = _checked(OWN[flag], value)
            options[flag] = f"{options[flag]}\0{text}" if flag in options and OWN[flag].repeats else text
    flags = tuple((flag, value) for flag, value in found if flag not in own)
    for flag, _ in flags:
        if flag not in KNOWN and flag != STORE:
            takers = [f"confpy {taker}" for taker, one in COMMANDS.items() if OWN[flag] in one.flags]
            raise UsageError(f"unknown flag -{flag}", hint=f"it is a flag of {(*takers, 'a run')[0]}")
    if ends and command is not None and not command.takes_program:
        raise UsageError(f"unexpected argument {ends!r}", hint=SEE)
    if ends and not program:
        raise UsageError(f"{ends} needs a command", hint=SEE)
    switches = {flag for flag in options if not OWN[flag].metavar and options[flag]}
    is_run = "help" not in switches or name == "help"
    if command is not None and is_run and not command.least <= len(arguments) <= command.most:
        raise UsageError(f"confpy {name} {command.needs}", hint=f"confpy {command.usage}")
    return Line(
        name,
        tuple(arguments),
        flags,
        frozenset(switches - {"help", "version"}),
        {flag: value for flag, value in options.items() if OWN[flag].metavar},
        program,
        help="help" in switches,
        version="version" in switches,
    )


def _checked(flag: Flag, value: str) -> str:
    """Return the value of a command's own flag, empty for false; raises ``UsageError``."""
    if not flag.metavar:
        return "true" if BOOLEAN.read(value, f"flag -{flag.name}", as_text=True) else ""
    if flag.choices and value not in flag.choices:
        hint = mend(value, flag.choices) or f"it is one of {', '.join(flag.choices)}"
        raise UsageError(f"flag -{flag.name}: {value!r} is unknown", hint=hint)
    return value


def _unknown(flag: str) -> UsageError:
    return UsageError(f"unknown flag -{flag}", hint=mend(flag, (f"-{known}" for known in (*FLAGS, *OWN))) or SEE)


def called(line: Line) -> tuple[str, tuple[str, ...]]:
    """Return the module of ``commands`` that a command line calls, and its arguments."""
    if line.version:
        return "version", ()
    if line.help and line.command != "help":
        return "help", (line.command,)
    return line.command or "run", line.arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run confpy with these arguments, and return its exit code (``docs/exit-codes.md``)."""
    if COMPLETE in os.environ:
        release_signals()
        from confpy.commands.completion import answer  # a shell asks

        return answer(os.environ[COMPLETE])
    # A flag that is wrong is reported in the form that the environment asks for: no flag is known yet.
    log = Log(form="json" if os.environ.get("CONFPY_LOG_FORMAT") == "json" else "auto")
    try:
        line = spell(sys.argv[1:] if argv is None else list(argv))
        name, arguments = called(line)
        flags = parse(line.flags)
        if flags.get("log_format") == "json":
            log.configure(form="json")
        if name not in TAKE_SIGNALS:
            release_signals()
        command = import_module(f"confpy.commands.{name}")
        code: int = command.run(Call(arguments, flags, line.switches, log, line.options, line.program))
    except ConfpyError as error:
        log.from_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    else:
        return code
