"""The errors of confpy. Each says where it happened, at which stage, and how the program ends.

    class                     code  stage

    ConfpyError                1    internal   a bug in confpy, or nothing more precise
    ├── UsageError             2    resource   a flag, a setting, a resource file
    ├── StoreError             3    store      a store could not be read or followed
    │   ├── AccessDenied       3    store      the store answered, and denied one prefix
    │   ├── WatchLost          3    store      a stream ended and cannot be resumed: read again
    │   └── NoApi              3    store      a node answers, but lacks the API that the store speaks
    ├── TemplateError          4    template   a template could not be read, compiled or rendered
    │   └── KeyMissing         4    template   it asked for a key that is not there
    ├── CheckError             5    check      the check failed: the candidate was discarded
    ├── TargetError            6    target     the target could not be read or written
    │   └── TargetTorn         6    target     and what is there now is neither the old nor the new
    └── ReloadError            7    reload     the target is new, its program was not reloaded

``docs/exit-codes.md`` documents the codes, ``docs/nothing-is-lost.md`` the stages, which ``-report`` shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar, Self, TypeVar

E = TypeVar("E")
_NUMBERED = re.compile(r"\w*\d\w*")
"""Numbers, and words with a digit in them: revisions, times, ports, process ids, the ids of cluster members."""


class ConfpyError(Exception):
    """Something failed, described for people.

    ``message`` is one line: what failed and why. ``hint`` is one line: what to do. ``where`` holds the places by
    their log names: ``resource``, ``file``, ``line``, ``template``, ``key``, ``node``, ``command``, ``target``.
    None of them may contain the value of a key or a secret.
    """

    exit_code: ClassVar[int] = 1
    """What the program exits with if nothing with a smaller code failed."""
    stage: ClassVar[str] = "internal"
    """Where on the way from its file to a reload a resource failed."""

    def __init__(self, message: str, *, hint: str = "", kind: Hashable = None, **where: str | int) -> None:
        """``kind``: what went wrong, where a number in the message makes another failure of it: an exit code."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self._kind = kind

    def at(self, **where: str | int) -> Self:
        """Add places that only the caller knows; those already named stay. Returns itself."""
        self.where = {**where, **self.where}
        return self

    def copy(self, cls: Callable[..., E], /, **where: str | int) -> E:
        """Return an error of another class, or of the same, with this one's message, hint and places.

        Places of the copy do not show in the original; those in ``where`` replace the original's.
        """
        return cls(self.message, hint=self.hint, kind=self._kind, **{**self.where, **where})

    def hide_output(self, why: str = "the resource is sensitive") -> Self:
        """Leave out what a command wrote: it may quote a file whose content is not to be seen. Returns itself."""
        if "output" in self.where:
            self.where = {**self.where, "output": f"not shown: {why}"}
        return self

    def fields(self) -> dict[str, str | int]:
        """Return the fields of the log line for this error."""
        return {"error": self.message, **self.where, **({"hint": self.hint} if self.hint else {})}

    @property
    def kind(self) -> Hashable:
        """What went wrong, wherever: equal for two failures that differ in revisions, times and ids at most."""
        return _without_numbers(self.message) if self._kind is None else self._kind

    @property
    def identity(self) -> Hashable:
        """What went wrong, and where: equal for two failures of which one line tells enough."""
        where = {**self.where, "output": _without_numbers(str(self.where.get("output", "")))}
        return self.kind, *where.items()

    def __str__(self) -> str:
        places = " ".join(f"{name}={value}" for name, value in self.where.items())
        return self.message + (f" ({places})" if places else "") + (f"; {self.hint}" if self.hint else "")


class UsageError(ConfpyError):
    """A flag, a variable, a settings file or a resource file is wrong."""

    exit_code = 2
    stage = "resource"


class StoreError(ConfpyError):
    """A store could not be read or followed; it is tried again."""

    exit_code = 3
    stage = "store"


class AccessDenied(StoreError):
    """The store answered, but not for this prefix; only the resources that read it suffer."""

    def __init__(
        self, message: str, *, hint: str = "", kind: Hashable = None, prefix: str = "", **where: str | int
    ) -> None:
        super().__init__(message, hint=hint, kind=kind, **({"prefix": prefix} if prefix else {}), **where)
        self.prefix = prefix
        """The prefix, empty if the store does not say which one it is."""

    def about(self, prefix: str) -> Self:
        """Add the prefix that only the caller knows. Returns itself."""
        self.prefix = self.prefix or prefix
        return self.at(prefix=prefix)


class WatchLost(StoreError):
    """A stream ended and cannot be resumed from its cursors: the prefixes have to be read again."""


class NoApi(StoreError):
    """A node answers, but lacks the API that this store speaks: it holds no key for it."""


class TemplateError(ConfpyError):
    """A template could not be read, compiled or rendered; the old file stays."""

    exit_code = 4
    stage = "template"
    asked: frozenset[Any] = frozenset()
    """The lookups that the render rested on: with another answer to one of them it may succeed."""


class KeyMissing(TemplateError):
    """A template asked for a key that the store does not have and gave no default."""


class CheckError(ConfpyError):
    """The check command, or the check of the output's format, rejected the candidate; the old file stays."""

    exit_code = 5
    stage = "check"


class TargetError(ConfpyError):
    """The target could not be read or written; the old file stays."""

    exit_code = 6
    stage = "target"


class TargetTorn(TargetError):
    """The target is neither what it was nor what it should be, and could not be put back; it is tried again."""


class ReloadError(ConfpyError):
    """The reload command failed: the target is new, the reload is owed and tried again."""

    exit_code = 7
    stage = "reload"


def exit_code(errors: Iterable[ConfpyError]) -> int:
    """Return the smallest exit code of the errors, 0 where there is none."""
    return min((error.exit_code for error in errors), default=0)


def bug(error: Exception) -> ConfpyError:
    """Return the error for an unexpected exception: where it was raised, never its message, which may hold a value."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else "?"
    return ConfpyError(f"a bug in confpy: {type(error).__name__} at {place}", hint="please report this line")


def forget_frames(error: BaseException) -> None:
    """Let go of the calls in which an error and its causes were raised: they hold what was read or rendered there."""
    found: BaseException | None = error
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__


def _without_numbers(text: str) -> str:
    return _NUMBERED.sub("", text)
