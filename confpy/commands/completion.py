"""``confpy completion``: what a shell needs to complete confpy's command lines.

click asks the shell and answers it. The commands and flags that it completes are made from the tables of commands,
settings and confd's words; click parses no command line of confpy otherwise.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

from confpy.commands import COMMANDS, COMPLETE, Call, Command, Flag
from confpy.commands.flags import LISTS, TRUTHS
from confpy.commands.stdout import write
from confpy.config import confd
from confpy.config.kinds import FOLDER, PATH, SIGNALS, STOPPING
from confpy.config.load import resource_files
from confpy.config.options import Option
from confpy.config.settings import CONFDIRS, OPTIONS
from confpy.config.stores import STORES
from confpy.config.toml import parse_toml, read_text
from confpy.errors import ConfpyError, UsageError

SHELLS = ("bash", "zsh", "fish")
OF_RESOURCES = frozenset({"RESOURCE", "TARGET"})
FILES = frozenset({"FILE", "PATH", "SRC", "DEST", "TEMPLATE"})
FOLDERS = frozenset({"DIR", "FOLDER", "CONFDIR"})


def run(call: Call) -> int:
    """Write the script for a shell to stdout; raises ``UsageError`` for a shell that has none."""
    (shell,) = call.arguments
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}", hint=f"there is one for {', '.join(SHELLS)}")
    _register()
    kind = get_completion_class(shell)
    assert kind is not None
    write(kind(tree(), {}, "confpy", COMPLETE).source().rstrip("\n") + "\n")
    return 0


def answer(instruction: str) -> int:
    """Answer a shell: ``bash_complete`` …, or ``bash_source`` …; returns the exit code."""
    _register()
    return shell_complete(tree(), {}, "confpy", COMPLETE, instruction)


# --- the command line as click sees it -------------------------------------------------------------------------------


def tree() -> click.Group:
    """Return all commands with their flags, for completions alone."""
    group = _Group("confpy", params=[*_settings(()), *_general()])
    for name, command in COMMANDS.items():
        own = [_own(flag) for flag in command.flags]
        params = [*_arguments(command), *own, *_settings(command.flags), *_general()]
        group.add_command(_Command(name, params=params, short_help=command.summary))
    return group


class _OneDash(click.Command):
    """A command whose flags are completed with the dashes that were typed: one, or two."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        two = incomplete.startswith("--")
        return [item for item in found if two or not str(item.value).startswith("--")]


class _Command(_OneDash):
    pass


class _Group(_OneDash, click.Group):
    pass


def _option(name: str, flags: Iterable[str], kind: click.ParamType[Any] | None, **more: Any) -> click.Option:
    """Return a flag; ``kind`` None: it is true or false."""
    spelled = [text for flag in flags for text in ((f"-{flag}", f"--{flag}") if len(flag) > 1 else (f"-{flag}",))]
    return click.Option([name, *spelled], is_flag=kind is None, type=kind, **more)


def _settings(own: Iterable[Flag]) -> Iterator[click.Option]:
    taken = {flag.name for flag in own}
    short = {name: letter for letter, name in confd.SHORT.items()}
    for option in OPTIONS:
        if option.flag not in taken:
            flags = [option.flag, *([short[option.flag]] if option.flag in short else [])]
            kind = None if option.flag in TRUTHS else _type_of(option)
            yield _option(
                option.name, flags, kind, help=option.help, multiple=option.name in LISTS and kind is not None
            )
    known = taken | {option.flag for option in OPTIONS}
    for word in confd.WORDS:
        if word.flag not in known:
            yield _option(f"word_{word.name}", [word.flag], None if word.truth else click.STRING, hidden=True)


def _own(flag: Flag) -> click.Option:
    kind = (click.Choice(flag.choices) if flag.choices else _type(flag.metavar)) if flag.metavar else None
    return _option(f"own_{flag.name.replace('-', '_')}", [flag.name], kind, help=flag.help)


def _general() -> Iterator[click.Option]:
    yield _option("general_help", ["help", "h"], None, help="Show this message and exit.")
    yield _option("general_version", ["version"], None, help="Show the version and exit.")


def _arguments(command: Command) -> Iterator[click.Argument]:
    """Yield the arguments that the usage of a command names."""
    words = [word.strip("[].…") for word in command.usage.split()[1:]]
    words = [word for word in words if word and not word.startswith("-") and word != "flags"][: command.most]
    for number, word in enumerate(words):
        rest = number == len(words) - 1 and command.most > len(words)
        yield click.Argument([f"argument_{number}"], type=_type(word), nargs=-1 if rest else 1, required=False)


def _type_of(option: Option) -> click.ParamType[Any]:
    if option.name == "backend":
        return click.Choice([*STORES])
    if option.kind is SIGNALS:
        return click.Choice(STOPPING)
    if option.kind.names:
        return click.Choice(option.kind.metavar.split("|"))
    if option.kind is FOLDER:
        return _type("FOLDER")
    return _type("FILE") if option.kind is PATH else click.STRING


def _type(word: str) -> click.ParamType[Any]:
    """Return what completes a word of a usage, such as ``RESOURCE|TEMPLATE`` or ``bash|zsh``."""
    words = {one.partition("[")[0] for one in word.split("|")}
    if word.islower() and len(words) > 1:
        return click.Choice(word.split("|"))
    if words == {"COMMAND"}:
        return click.Choice([*COMMANDS])
    if words & OF_RESOURCES:
        return _OfResources(words)
    if words & FOLDERS:
        return click.Path(file_okay=False)
    return click.Path() if words & FILES else click.STRING


class _OfResources(click.ParamType):  # type: ignore[type-arg]  # it is generic since click 8.3
    """Completes the names or the targets of the resources of the confdir, and files where those may stand, too."""

    name = "resource"

    def __init__(self, words: set[str]) -> None:
        self._words = words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        named = ctx.params.get("confdir") or ctx.find_root().params.get("confdir")
        given = named or os.environ.get("CONFPY_CONFDIR")
        confdir = str(given or next(filter(os.path.isdir, CONFDIRS), CONFDIRS[-1]))
        found: list[str] = []
        for name, path in resource_files(confdir):
            if "RESOURCE" in self._words:
                found.append(name)
            if "TARGET" in self._words:
                with contextlib.suppress(ConfpyError, AttributeError):
                    found.append(str(parse_toml(read_text(path), path)["template"].get("dest")))  # type: ignore[attr-defined]
        items = [CompletionItem(one) for one in found if one.startswith(incomplete) and one.isprintable()]
        if not items and self._words & FILES:
            return click.Path().shell_complete(ctx, param, incomplete)
        return items


# --- the shells ------------------------------------------------------------------------------------------------------


def _register() -> None:
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)


def _spoken(args: list[str]) -> list[str]:
    """Return words as click's parser takes them.

    Left out are a store before the command, as in ``confpy etcd``, and the values of flags that are true or false.
    """
    words = []
    for number, word in enumerate(args):
        if word in confd.STORES and not set(args[:number]) & COMMANDS.keys() and not _awaits(args[:number]):
            continue
        name, equals, _ = word.lstrip("-").partition("=")
        words.append(f"-{name}" if equals and name in TRUTHS and word.startswith("-") else word)
    return words


def _awaits(args: list[str]) -> bool:
    """Whether the last word is a flag whose value comes next."""
    return bool(args) and args[-1].startswith("-") and "=" not in args[-1] and args[-1].lstrip("-") not in TRUTHS


class _Bash(BashComplete):
    """bash makes three words of ``-backend=env``."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        joined: list[str] = []
        for word in args:
            if joined and joined[-1].startswith("-") and (word == "=" or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        if incomplete != "=" and joined and joined[-1].startswith("-") and joined[-1].endswith("="):
            joined[-1] = joined[-1][:-1]
        return _spoken(joined), incomplete


class _WholeWords(ShellComplete):
    """Shells that replace a whole word: a value after ``=`` is answered with its flag."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return _spoken(args), incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        found = super().get_completions(args, incomplete)
        flag, equals, _ = incomplete.partition("=")
        if equals and flag.startswith("-"):
            found = [
                CompletionItem(f"{flag}={item.value}", item.type, item.help) if item.type == "plain" else item
                for item in found
            ]
        return found


class _Zsh(_WholeWords, ZshComplete):
    source_template = ZshComplete.source_template.replace("_path_files", "compset -P '-*='; _path_files")


class _Fish(_WholeWords, FishComplete):
    pass
