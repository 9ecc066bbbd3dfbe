"""``confpy register``: a key in the store, for as long as a command runs and a check passes."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from confpy.commands import Call
from confpy.commands.entry import key_of, value_of
from confpy.config.kinds import COUNT, DURATION, PAUSE, Kind
from confpy.config.sources import load_settings
from confpy.errors import UsageError
from confpy.registration.values import Entry

if TYPE_CHECKING:
    from confpy.daemon.register_checks import RegistrationCheck

SHORTEST = 1.0
"""Seconds of a TTL."""
INTERVAL, TIMEOUT, FAILURES, DRAIN = "5s", "3s", "2", "5s"
"""The defaults of the flags, as they are written."""
CHECKS = ("check", "check-http", "check-tcp")


def run(call: Call) -> int:
    """Put the key; keep it until the command ends or a signal comes. Raises ``ConfpyError`` if it cannot be put."""
    options = call.options
    settings, warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    for warning in warnings:
        call.log.write("warning", "settings.warning", warning.fields())
    check = _check(options)
    program = _program(call.program)
    ttl = _number("ttl", options["ttl"], DURATION) if "ttl" in options else None
    if ttl is not None and ttl < SHORTEST:
        raise UsageError("flag -ttl: it is a second or more", hint="5s to 60s is usual")
    tags = tuple(filter(None, (one.strip() for one in options.get("tags", "").split(","))))
    entry = Entry(key_of(call.arguments[0]), value_of(call, needed=True) or b"", ttl, tags)
    plan_of = {
        "check_interval": _number("check-interval", options.get("check-interval", INTERVAL), DURATION),
        "drain": _number("drain", options.get("drain", DRAIN if program else "0"), PAUSE),
    }
    failures = _number("check-failures", options.get("check-failures", FAILURES), COUNT)
    timeout = _number("check-timeout", options.get("check-timeout", TIMEOUT), DURATION)
    if program is not None and shutil.which(program[0]) is None:
        from confpy.system.subprocesses import HINTS, NOT_FOUND

        fields = {"key": entry.key, "error": "the command is not there", "program": program[0]}
        call.log.write("error", "registration.command_failed", {**fields, "hint": HINTS[NOT_FOUND]})
        return NOT_FOUND

    from confpy.daemon.registering import keep, once, stop_signals
    from confpy.daemon.startup import release_signals
    from confpy.registration.machine import Plan
    from confpy.stores.registering import open_registrar

    registrar = open_registrar(settings, entry, as_service="as-service" in call.switches)
    if ttl is None and program is None and check is None:
        release_signals()
        try:
            once(lambda: registrar.claim(takes_over=True), settings, call.log)
            call.log.write("info", "registration.put", {"key": entry.key, "node": registrar.node})
        finally:
            registrar.close()
        return 0

    from confpy.system import memory

    memory.prepare()
    plan = Plan(
        entry.key,
        ttl,
        supervises=program is not None,
        checks=check is not None,
        check_failures=max(1, int(failures)),
        stops=stop_signals(settings),
        **plan_of,
    )
    return keep(registrar, plan, settings, call.log, check=check, check_timeout=timeout, program=program)


def _check(options: Mapping[str, str]) -> RegistrationCheck | None:
    """Return the check that the flags describe; raises ``UsageError``."""
    given = [name for name in CHECKS if name in options]
    if len(given) > 1:
        raise UsageError(f"flags -{given[0]} and -{given[1]} are given", hint="one check is run")
    if not given:
        return None
    from confpy.daemon.register_checks import CommandCheck, HttpCheck, TcpCheck

    kinds: dict[str, Callable[[str], RegistrationCheck]]
    kinds = {"check": CommandCheck, "check-http": HttpCheck, "check-tcp": TcpCheck}
    text = options[given[0]]
    if not text.strip():
        raise UsageError(f"flag -{given[0]} is empty")
    return kinds[given[0]](text)


def _program(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return a command, of which one quoted word is the whole, as with ``-exec``; raises ``UsageError``."""
    if words is None or len(words) > 1:
        return words
    try:
        return tuple(shlex.split(words[0])) or words
    except ValueError as error:
        raise UsageError(f"the command cannot be split into words: {error}") from None


def _number(flag: str, text: str, kind: Kind) -> float:
    return float(kind.read(text, f"flag -{flag}", as_text=True))  # type: ignore[arg-type]  # these kinds give numbers
