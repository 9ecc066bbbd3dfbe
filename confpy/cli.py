"""The command line: confd's flags, spelled as Go and everybody else spell them, made from the table of settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import click

from confpy import __version__
from confpy.config import confd as dialect
from confpy.config.kinds import BOOLEAN
from confpy.config.options import Option
from confpy.config.settings import CONFDIRS, OPTIONS, Settings
from confpy.config.sources import load_settings
from confpy.config.toml import mend
from confpy.daemon.startup import release_signals
from confpy.errors import ConfpyError, TemplateError, UsageError
from confpy.log import Log

INTRODUCTION = """\
Keep configuration files in sync with a key store.

For each file in CONFDIR/conf.d, confpy reads keys from the store, renders a template from CONFDIR/templates with them,
checks the result, replaces the target in one step, and reloads the program that reads it.

\b
  confpy -onetime -backend env
      render everything once, from environment variables
  confpy -watch -backend etcdv3 -node http://10.0.0.1:2379
      follow etcd and deliver each change
  confpy -noop -onetime -log-level debug
      log what would change
  confpy accept RESOURCE
      confirm that the vanished keys of a held resource are gone
  confpy convert SRC [DEST] [-verify]
      convert Go templates (a file, a folder or a confdir) to Jinja
  confpy help [accept|convert]
      show this message, or the help of a command
  confpy version
      show the version

Flags have one dash or two, and their value after a space or a "=". They override CONFPY_* variables, which
override the settings file.
"""

SEE = "confpy help lists the flags"


class Command(NamedTuple):
    """What the command line says of a command."""

    usage: str
    least: int
    most: int
    """How many arguments it takes."""
    needs: str
    """What the error says about any other number."""
    help: str = ""


COMMANDS = {
    "accept": Command(
        "accept RESOURCE [flags]",
        1,
        1,
        "needs the name of one resource",
        """\
Confirm that the vanished keys of a held resource are gone.

If the keys of a resource have vanished and confpy holds its target (keys.suspect), this confirms that they are gone. A
running confpy accepts it within seconds, a one-shot at its next run.

\b
  confpy accept haproxy
  confpy accept haproxy -confdir /srv/confpy

-confdir and -state-dir must be those of the confpy that holds the resource. confpy help lists all flags.
""",
    ),
    "convert": Command(
        "convert SRC [DEST] [-verify] [flags]",
        1,
        2,
        "needs what to convert, and at most where to",
        """\
Convert Go templates to Jinja.

SRC is a template, a templates folder or a whole confdir; it is not modified. The new templates are written to DEST, by
default beside the old ones; a confdir is written to DEST with its resources (/etc/confd by default to /etc/confpy). The
changes are shown as a diff; what could not be converted is reported on stderr, and the exit code is 4.

\b
  confpy convert web.cfg.tmpl
  confpy convert /etc/confd /srv/confpy
  confpy convert /etc/confd -verify -backend etcdv3 -node http://10.0.0.1:2379

-verify renders the old and the new templates with the keys of the store and compares the results; it takes the flags of
any run. confpy help lists them.
""",
    ),
    "help": Command("help [accept|convert]", 0, 1, "is about one command, or all"),
    "version": Command("version", 0, 0, "takes no arguments"),
}
FLAGS = {option.flag: option for option in OPTIONS}
TRUTHS = {option.flag for option in OPTIONS if option.kind is BOOLEAN}
TRUTHS |= {word.flag for word in dialect.WORDS if word.truth}
KNOWN = FLAGS.keys() | {word.flag for word in dialect.WORDS}


class Line(NamedTuple):
    """A command line, taken apart."""

    command: str
    """One of ``COMMANDS``; empty: run."""
    arguments: tuple[str, ...]
    """Of the command."""
    flags: tuple[str, ...]
    """As click reads them: two dashes, and a value behind "="."""
    help: bool = False
    version: bool = False
    verify: bool = False


class GoCommand(click.Command):
    """A command whose help lists the flags as Go writes them."""

    def format_options(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, options in groupby(OPTIONS, lambda option: option.group):
            with formatter.section(group):
                formatter.write_dl([describe(option) for option in options])
        with formatter.section("Other"):
            formatter.write_dl(
                [("-version", "Show the version and exit."), ("-h, -help", "Show this message and exit.")]
            )


def spell(args: Sequence[str]) -> Line:
    """Take a command line apart; raises ``UsageError``.

    As with Go, what follows a flag that needs a value is the value, whatever it looks like, and a flag that is true
    or false takes a value only behind "=". What is left are words, wherever they stand: a command and its arguments.
    The name of a store before any command is that of the fork of confd.
    """
    flags: list[str] = []
    words: list[str] = []
    called = False
    asked = dict.fromkeys(("help", "version", "verify"), False)
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.lstrip("-").partition("=")
        if not arg.startswith("-") and (words or arg in COMMANDS):
            words.append(arg)
            continue
        if arg in dialect.STORES and not called:
            called = True
            flags.append(f"--store={arg}")
            continue
        if not name or not arg.startswith("-") or arg.startswith("---"):
            hint = mend(arg, COMMANDS) or SEE
            if arg.lower() in {"true", "false"}:
                hint = "values of flags that are true or false are written as in -watch=false"
            raise UsageError(f"unexpected argument {arg!r}", hint=hint)
        name = {"h": "help", **dialect.SHORT}.get(name, name)
        if name in asked:
            asked[name] = bool(BOOLEAN.read(value, f"flag -{name}", as_text=True)) if equals else True
            continue
        if name not in KNOWN:
            raise _unknown(name)
        if not equals and name in TRUTHS:
            value = "true"
        elif not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise UsageError(f"flag -{name} needs a value", hint=SEE) from None
        flags.append(f"--{name}={value}")
    name, *arguments = words or [""]
    line = Line(name, tuple(arguments), tuple(flags), **asked)
    if line.verify and name != "convert":
        raise _unknown("verify")
    command = COMMANDS.get(name)
    if command is not None and not line.help and not command.least <= len(arguments) <= command.most:
        raise UsageError(f"confpy {name} {command.needs}", hint=f"confpy {command.usage}")
    return line


def _unknown(flag: str) -> UsageError:
    return UsageError(f"unknown flag -{flag}", hint=mend(flag, (f"-{known}" for known in FLAGS)) or SEE)


def describe(option: Option) -> tuple[str, str]:
    """Return the lines of ``--help`` for one setting: how it is written, and what it does."""
    default = f"{option.shown_default}; " if option.shown_default else ""
    return f"-{option.flag} {option.kind.metavar}".rstrip(), f"{option.help}  [{default}{option.variables[0]}]"


def answer(line: Line) -> str:
    """Return the help or the version that was asked for, empty where it was something else; raises ``UsageError``."""
    if line.version or line.command == "version":
        return f"confpy {__version__}\n"
    if not line.help and line.command != "help":
        return ""
    about = line.command if line.command != "help" else "".join(line.arguments)
    if about and about not in COMMANDS:
        raise UsageError(f"there is no command {about!r}", hint=f"confpy {COMMANDS['help'].usage}")
    command, name = _click(), "confpy"
    if about and COMMANDS[about].help:
        _, _, usage = COMMANDS[about].usage.partition(" ")
        command, name = click.Command(about, help=COMMANDS[about].help, options_metavar=usage), f"confpy {about}"
    return command.get_help(click.Context(command, info_name=name, max_content_width=110)) + "\n"


def parse(line: Line) -> dict[str, Any]:
    """Return the flags that were given, as text by setting; raises ``UsageError``."""
    try:
        given = _click().make_context("confpy", list(line.flags)).params
    except click.ClickException as error:
        raise UsageError(error.format_message(), hint=SEE) from error
    texts = {name: ",".join(text) if isinstance(text, tuple) else text for name, text in given.items() if text != ()}
    return {name: text for name, text in texts.items() if text is not None}


def _click() -> click.Command:
    options: list[click.Parameter] = [
        click.Option([f"--{option.flag}", option.name], multiple=isinstance(option.default, tuple))
        for option in OPTIONS
    ]
    options += [click.Option([f"--{word.flag}", word.name]) for word in dialect.WORDS]
    options.append(click.Option(["--store"]))
    return GoCommand("confpy", params=options, help=INTRODUCTION, options_metavar="[flags]", add_help_option=False)


def write(text: str) -> None:
    """Write to stdout; raises ``ConfpyError``."""
    try:
        click.echo(text, nl=False)
    except OSError as error:
        # What could not be written is still in the buffer, and would be tried again at the end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ConfpyError(f"cannot write to stdout: {error.strerror}") from error


def accept(resource: str, settings: Settings, log: Log) -> int:
    """Take it from a person that the keys of a resource may be gone; raises ``UsageError``."""
    from confpy.ledger import cached_keys as kept
    from confpy.ledger.folder import StateFolder

    folder = StateFolder.of(settings, lambda say: log.write(say.level, say.event, say.fields))
    reason = kept.accept(folder, resource)
    log.write("info", "keys.accepted", {"resource": resource, "reason": reason, "did": "confpy will deliver it"})
    return 0


def convert(line: Line, flags: dict[str, Any]) -> int:
    """Write Go templates in Jinja, and tell what changed; raises ``ConfpyError``."""
    from confpy.convert.main import ConversionRequest
    from confpy.convert.main import convert as written

    done = written(ConversionRequest(*line.arguments))
    for change in done.changes:
        click.echo(change.encode("utf-8", "replace"))
    for trouble in done.problems:
        click.echo(trouble.encode("utf-8", "replace"), err=True)
    failed = bool(done.problems)
    if line.verify:
        from confpy.convert.verify import verify

        if done.places.is_confdir:
            flags = {"confdir": done.places.source, **flags}
        settings, _warnings = load_settings(flags, os.environ)
        for alike, verdict in verify(done, settings, os.environ):
            failed |= not alike
            click.echo(verdict.encode("utf-8", "replace"), err=not alike)
    return TemplateError.exit_code if failed else 0


def refuse(settings: Settings) -> None:
    """Refuse what makes no sense for a run; raises ``UsageError``."""
    if settings.onetime:
        return
    if settings.report:
        raise UsageError(f"{settings.origin('report')}: only a one-shot makes a report", hint="add -onetime")
    if settings.origin("confdir") == "default" and not os.path.isdir(settings.confdir):
        hint = "confpy -confdir PATH -backend STORE -watch follows a store; confpy help shows more"
        raise UsageError(f"there is no confdir: none is named, and there is no {' and no '.join(CONFDIRS)}", hint=hint)


def main(argv: Sequence[str] | None = None) -> int:
    """Run confpy with these arguments, and return its exit code (``docs/exit-codes.md``)."""
    # A flag that is wrong is told of in the form that the environment asks for: no flag is known yet.
    log = Log(form="json") if os.environ.get("CONFPY_LOG_FORMAT") == "json" else Log()
    args = sys.argv[1:] if argv is None else list(argv)
    try:
        line = spell(args)
        if text := answer(line):
            write(text)
            return 0
        flags = parse(line)
        if flags.get("log_format") == "json":
            log = Log(form="json")
        if line.command:
            # Only a run takes its signals by itself, as soon as it can.
            release_signals()
        if line.command == "convert":
            return convert(line, flags)
        settings, warnings = load_settings(flags, os.environ)
        log = Log(settings.log_level, settings.log_format)
        if line.command == "accept":
            return accept(line.arguments[0], settings, log)
        refuse(settings)
        from confpy.daemon.daemon import run

        return run(settings, warnings)
    except ConfpyError as error:
        log.from_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
