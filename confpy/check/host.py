"""What belongs to this machine: users, folders and commands that resources name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator

from confpy.check.findings import Findings
from confpy.check.resources import CheckedResource, machine_options
from confpy.config.accounts import account, delivered_with
from confpy.config.settings import Settings
from confpy.errors import ConfpyError, UsageError
from confpy.reload.actions import CommandReload, VerifyCommand
from confpy.system.placeholders import Command

BUILTINS = frozenset(
    [
        ".",
        ":",
        "[",
        "alias",
        "bg",
        "break",
        "case",
        "cd",
        "command",
        "continue",
        "do",
        "done",
        "echo",
        "elif",
        "else",
        "esac",
        "eval",
        "exec",
        "exit",
        "export",
        "false",
        "fg",
        "fi",
        "for",
        "getopts",
        "hash",
        "if",
        "in",
        "jobs",
        "kill",
        "local",
        "printf",
        "pwd",
        "read",
        "readonly",
        "return",
        "set",
        "shift",
        "test",
        "then",
        "time",
        "times",
        "trap",
        "true",
        "type",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "until",
        "wait",
        "while",
        "{",
        "}",
        "!",
    ]
)
"""What a POSIX shell knows by itself, and its reserved words."""
_COMMAND_FOLLOWS = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "exec"})
_OPERATORS = frozenset({";", "&&", "||", "|", "&", "(", "\n"})


def check_host(one: CheckedResource, settings: Settings, findings: Findings) -> None:
    """Add what a resource names and this machine does not have."""
    if not settings.root:
        _check_accounts(one, findings)
        _check_target(one, findings)
    for key in ("check_cmd", "reload_cmd", "verify_cmd"):
        command = _command(one, key)
        for program in _programs(command) if command is not None else ():
            if shutil.which(program) is None:
                there = os.path.exists(program)
                message = f"{program} cannot be executed" if there else f"there is no program {program} on this machine"
                _take(findings, UsageError(f"{key}: {message}"), one, key)
    for path in one.resource.watch_files:
        if not os.path.exists(path):
            _take(findings, UsageError(f"watch_files: there is no {path} on this machine"), one, "watch_files")


def _take(findings: Findings, error: ConfpyError, one: CheckedResource, key: str) -> None:
    findings.take(error, one.file.path, one.place(key), resource=one.resource.name)


def _check_accounts(one: CheckedResource, findings: Findings) -> None:
    options = {**machine_options(one)}
    strict = one.resource.strict_owner
    delivered_with(options, strict)
    for number, name in (("uid", "owner"), ("gid", "group")):
        try:
            account(options, number, name, strict=True, warnings=[])
        except UsageError as error:
            error.hint = f"create it, or remove {name}"
            _take(findings, error, one, name)


def _check_target(one: CheckedResource, findings: Findings) -> None:
    resource = one.resource
    folder = os.path.dirname(resource.dest)
    if os.path.isdir(resource.dest):
        _take(findings, UsageError(f"dest is a folder: {resource.dest}"), one, "dest")
    elif not os.path.isdir(folder) and not resource.mkdir:
        hint = "create it, or write mkdir = true"
        _take(findings, UsageError(f"there is no folder {folder} on this machine", hint=hint), one, "dest")


def _command(one: CheckedResource, key: str) -> Command | None:
    resource = one.resource
    if key == "check_cmd":
        return resource.check_cmd
    action = resource.reload_cmd if key == "reload_cmd" else resource.verify_cmd
    return action.command if isinstance(action, CommandReload | VerifyCommand) else None


def _programs(command: Command) -> Iterator[str]:
    """Yield the programs that a command runs, as far as they stand in it word for word."""
    if isinstance(command, tuple):
        if _is_plain(command[0]):
            yield command[0]
        return
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    first = True
    try:
        for word in lexer:
            if word in _OPERATORS:
                first = True
            elif first and not re.match(r"\w+=", word):
                first = word in _COMMAND_FOLLOWS
                if word not in BUILTINS and _is_plain(word):
                    yield word
    except ValueError:
        return  # a quote that is not closed: the shell says it


def _is_plain(word: str) -> bool:
    return bool(word) and not re.search(r"[$`{}*?<>()#]", word)
