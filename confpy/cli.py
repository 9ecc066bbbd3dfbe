"""The command line: confd's flags, spelled as Go and everybody else spell them, made from the table of settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any

import click

from confpy import __version__, dialect
from confpy.errors import ConfpyError, TemplateError, UsageError
from confpy.log import Log
from confpy.settings import BOOLEAN, LIST, OPTIONS, Option, Settings, load_settings, mend

if TYPE_CHECKING:
    from confpy.convert.command import Conversion

INTRODUCTION = """\
Keep configuration files in step with a key store.

For each file in CONFDIR/conf.d, confpy reads keys from the store, renders a template of CONFDIR/templates with them,
checks the result, puts it in place in one step, and reloads the program that reads it.

\b
  confpy -onetime -backend env
      render everything once, from the environment
  confpy -watch -backend etcdv3 -node http://10.0.0.1:2379
      follow etcd and deliver each change
  confpy -noop -onetime -log-level debug
      say what would change
  confpy accept RESOURCE
      take it that the keys of a resource that is held back may be gone
  confpy convert SRC [DEST] [-verify]
      write Go templates, of a file, a folder or a whole confdir, in Jinja

Flags take one dash or two, and their value after a space or a "=". They weigh more than CONFPY_* variables, which
weigh more than the settings file.
"""

SEE = "confpy -help lists the flags"
FLAGS = {option.flag: option for option in OPTIONS}
TRUTHS = {option.flag for option in OPTIONS if option.kind is BOOLEAN}
TRUTHS |= {word.flag for word in dialect.WORDS if word.truth}
KNOWN = FLAGS.keys() | {word.flag for word in dialect.WORDS}


class GoCommand(click.Command):
    """A command whose flags are Go's: ``-interval 5``, ``--interval=5``, ``-watch``, ``-watch=false``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spell(args))

    def format_options(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, options in groupby(OPTIONS, lambda option: option.group):
            with formatter.section(group):
                formatter.write_dl([describe(option) for option in options])
        with formatter.section("Else"):
            formatter.write_dl([("-version", "Show the version and end."), ("-h, -help", "Show this and end.")])


def spell(args: Sequence[str]) -> list[str]:
    """Return the arguments as click reads them: two dashes, and a value behind "="; raises ``UsageError``.

    As with Go, what follows a flag that needs a value is the value, whatever it looks like, and a flag that is true
    or false takes a value only behind "=". The name of a store among them is that of the fork of confd.
    """
    spelled: list[str] = []
    called = False
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.lstrip("-").partition("=")
        if arg in dialect.STORES and not called:
            called = True
            spelled.append(f"--store={arg}")
            continue
        if not name or not arg.startswith("-") or arg.startswith("---"):
            hint = "values of flags that are true or false are written as in -watch=false"
            raise UsageError(f"unexpected argument {arg!r}", hint=hint if arg.lower() in {"true", "false"} else SEE)
        name = dialect.SHORT.get(name, name)
        if name in {"h", "help", "version"}:
            if not equals or BOOLEAN.read(value, f"flag -{name}", as_text=True):
                spelled.append(f"--{name}")
            continue
        if name not in KNOWN:
            raise UsageError(f"unknown flag -{name}", hint=mend(name, (f"-{known}" for known in FLAGS)) or SEE)
        if not equals and name in TRUTHS:
            value = "true"
        elif not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise UsageError(f"flag -{name} needs a value", hint=SEE) from None
        spelled.append(f"--{name}={value}")
    return spelled


def describe(option: Option) -> tuple[str, str]:
    """Return the lines of ``--help`` for one setting: how it is written, and what it does."""
    default = f"{option.shown_default}; " if option.shown_default else ""
    return f"-{option.flag} {option.kind.metavar}".rstrip(), f"{option.help}  [{default}{option.variables[0]}]"


def parse(args: Sequence[str]) -> dict[str, Any] | None:
    """Return the flags that were given, as text by setting; None where help or the version was all that was asked.

    Raises ``UsageError``, and ``ConfpyError`` where help or version cannot be written.
    """
    options: list[click.Parameter] = [
        click.Option([f"--{option.flag}", option.name], multiple=option.kind.parse is LIST.parse) for option in OPTIONS
    ]
    options += [click.Option([f"--{word.flag}", word.name]) for word in dialect.WORDS]
    options += [click.Option(["--store"]), click.Option(["--version"], is_flag=True)]
    command = GoCommand(
        "confpy",
        params=options,
        help=INTRODUCTION,
        options_metavar="[flags]",
        context_settings={"help_option_names": ["--help", "--h"], "max_content_width": 110},
        callback=lambda version, **given: click.echo(f"confpy {__version__}") if version else given,
    )
    try:
        given = command.main(list(args), prog_name="confpy", standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(error.format_message(), hint=SEE) from error
    except OSError as error:
        # What could not be written is still in the buffer, and would be tried again at the end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ConfpyError(f"cannot write to stdout: {error.strerror}") from error
    if not isinstance(given, dict):
        return None
    texts = {name: ",".join(text) if isinstance(text, tuple) else text for name, text in given.items() if text != ()}
    return {name: text for name, text in texts.items() if text is not None}


def accepted(args: Sequence[str]) -> tuple[str, list[str]]:
    """Return the resource that ``confpy accept`` is about (else nothing), and the flags; raises ``UsageError``."""
    if args[:1] != ["accept"]:
        return "", list(args)
    if len(args) < 2 or args[1].startswith("-"):
        raise UsageError("confpy accept needs the name of a resource", hint="confpy accept RESOURCE [-confdir PATH]")
    return args[1], list(args[2:])


def accept(resource: str, settings: Settings, log: Log) -> int:
    """Take it from a person that the keys of a resource may be gone; raises ``UsageError``."""
    from confpy import kept
    from confpy.state import StateFolder

    folder = StateFolder.of(settings, lambda say: log.write(say.level, say.event, say.fields))
    reason = kept.accept(folder, resource)
    log.write("info", "keys.accepted", {"resource": resource, "reason": reason, "did": "confpy will deliver it"})
    return 0


def conversion(args: Sequence[str]) -> tuple[Conversion | None, list[str]]:
    """Return what ``confpy convert`` is to convert (else None), and the flags; raises ``UsageError``."""
    if args[:1] != ["convert"]:
        return None, list(args)
    from confpy.convert.command import Conversion

    words = list(takewhile(lambda arg: not arg.startswith("-"), args[1:]))
    flags = [arg for arg in args[1 + len(words) :] if arg.lstrip("-") != "verify"]
    if len(words) not in {1, 2}:
        hint = "confpy convert SRC [DEST] [-verify]; SRC is a template, a templates folder or a confdir"
        raise UsageError("confpy convert needs what to convert, and at most where to", hint=hint)
    source, dest = [*words, ""][:2]
    return Conversion(source, dest, len(flags) < len(args) - 1 - len(words)), flags


def convert(asked: Conversion, flags: dict[str, Any]) -> int:
    """Write Go templates in Jinja, and tell what changed; raises ``ConfpyError``."""
    from confpy.convert.command import convert as written

    done = written(asked)
    for line in done.changes:
        click.echo(line.encode("utf-8", "replace"))
    for line in done.troubles:
        click.echo(line.encode("utf-8", "replace"), err=True)
    failed = bool(done.troubles)
    if asked.verify:
        from confpy.convert.verify import verify

        if done.places.is_confdir:
            flags = {"confdir": done.places.source, **flags}
        settings, _warnings = load_settings(flags, os.environ)
        for alike, line in verify(done, settings, os.environ):
            failed |= not alike
            click.echo(line.encode("utf-8", "replace"), err=not alike)
    return TemplateError.exit_code if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run confpy with these arguments, and return its exit code (``docs/exit-codes.md``)."""
    # A flag that is wrong is told of in the form that the environment asks for: no flag is known yet.
    log = Log(form="json") if os.environ.get("CONFPY_LOG_FORMAT") == "json" else Log()
    args = sys.argv[1:] if argv is None else list(argv)
    try:
        converting, args = conversion(args)
        resource, args = accepted(args)
        flags = parse(args)
        if flags is None:
            return 0
        if flags.get("log_format") == "json":
            log = Log(form="json")
        if converting:
            return convert(converting, flags)
        settings, warnings = load_settings(flags, os.environ)
        log = Log(settings.log_level, settings.log_format)
        if resource:
            return accept(resource, settings, log)
        from confpy.daemon import run

        return run(settings, warnings)
    except ConfpyError as error:
        log.from_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
