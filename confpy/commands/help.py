"""``confpy help``: all flags and commands, or one command."""

from __future__ import annotations

from itertools import groupby

import click

from confpy.commands import COMMANDS, RUN_FLAGS, Call
from confpy.commands.stdout import write
from confpy.config.options import Option
from confpy.config.settings import OPTIONS
from confpy.errors import UsageError

WIDTH = 110
HELP = "Show this message and exit."
ABOUT = """\
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
"""
HEAD = """\
\b
Commands (confpy COMMAND -help tells more):
"""
FLAGS = """\
Flags have one dash or two, and their value after a space or a "=". They override CONFPY_* variables, which
override the settings file.
"""


def run(call: Call) -> int:
    """Write the help of a command, or of all, to stdout; raises ``UsageError`` if there is no such command."""
    write(text(*call.arguments))
    return 0


def text(about: str = "") -> str:
    """Return the help of a command; empty: of all."""
    if about and about not in COMMANDS:
        raise UsageError(f"there is no command {about!r}", hint=f"confpy {COMMANDS['help'].usage}")
    command: click.Command = _General(
        "confpy", help=introduction(), options_metavar="[COMMAND] [flags]", add_help_option=False
    )
    name = "confpy"
    if about and COMMANDS[about].help:
        _, _, usage = COMMANDS[about].usage.partition(" ")
        command = _Own(about, help=COMMANDS[about].help, options_metavar=usage, add_help_option=False)
        name = f"confpy {about}"
    return command.get_help(click.Context(command, info_name=name, max_content_width=WIDTH)) + "\n"


def introduction() -> str:
    """Return the text above the flags: what confpy does, and how to call it."""
    commands = "".join(
        f"  confpy {command.usage.removesuffix(' [flags]')}\n      {command.summary}\n"
        for _, command in sorted(COMMANDS.items())
    )
    return f"{ABOUT}\n{HEAD}{commands}\n{FLAGS}"


def describe(option: Option) -> tuple[str, str]:
    """Return the lines for one setting: how it is written, and what it does."""
    default = f"{option.shown_default}; " if option.shown_default else ""
    return f"-{option.flag} {option.kind.metavar}".rstrip(), f"{option.help}  [{default}{option.variables[0]}]"


class _Own(click.Command):
    """A command whose help lists its own flags."""

    def format_options(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = COMMANDS[self.name or ""].flags
        with formatter.section("Flags"):
            formatter.write_dl(
                [*((f"-{one.name} {one.metavar}".rstrip(), one.help) for one in own), ("-h, -help", HELP)]
            )


class _General(click.Command):
    """A command whose help lists the flags as Go writes them."""

    def format_options(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, options in groupby(OPTIONS, lambda option: option.group):
            with formatter.section(group):
                formatter.write_dl([describe(option) for option in options])
        with formatter.section("Without a confdir"):
            formatter.write_dl([(f"-{one.name} {one.metavar}", one.help) for one in RUN_FLAGS])
        with formatter.section("Other"):
            formatter.write_dl(
                [
                    ("-version", "Show the version and exit."),
                    ("-h, -help", HELP),
                ]
            )
