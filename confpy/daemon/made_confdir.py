"""A confdir for templates that are named on the command line: made for one run, and removed with all that it kept.

It lies in memory where the system has a place for that (``/dev/shm``). What a confpy that was killed has left there is
removed by the next one: the folder of a run that goes on is locked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from confpy.errors import TemplateError, UsageError

MEMORY = "/dev/shm"  # noqa: S108 - the folder in it is ours alone
PREFIX = "confpy-template-"
LOCK = "lock"
SHOWN = "SRC:DEST[:RELOAD]"


class Given(NamedTuple):
    """One ``-template``."""

    src: str
    """As an absolute path."""
    dest: str
    reload: str
    """A shell command; empty: there is none."""


def parse_template(text: str) -> Given:
    r"""Return what ``SRC:DEST[:RELOAD]`` says; raises ``UsageError``.

    A colon of a path is written ``\:``. What follows the second colon is the command, as it stands.
    """
    parts, rest = [""], iter(text)
    for char in rest:
        if char == "\\":
            following = next(rest, "")
            parts[-1] += following if following == ":" else char + following
        elif char == ":" and len(parts) == 2:
            parts.append("".join(rest))
        elif char == ":":
            parts.append("")
        else:
            parts[-1] += char
    src, dest, reload = (*parts, "", "")[:3]
    if not src.strip() or not dest.strip():
        hint = r"such as /etc/haproxy/haproxy.cfg.j2:/etc/haproxy/haproxy.cfg; a colon in a path is written \:"
        raise UsageError(f"flag -template is not {SHOWN}", hint=hint)
    if dest.endswith("/"):
        raise UsageError("flag -template: DEST is a folder", hint="end it with the name of a file")
    return Given(os.path.abspath(src), dest, reload.strip())


@contextmanager
def made_confdir(templates: Sequence[Given], keys: Sequence[str]) -> Iterator[str]:
    """Yield a confdir with one resource for each template; it is removed at the end.

    Raises ``UsageError``, and ``TemplateError`` for a template that is not there.
    """
    for given in templates:
        if not os.path.isfile(given.src):
            hint = "SRC of -template is a file, relative to the working directory"
            raise TemplateError("there is no such template", template=given.src, hint=hint)
    try:
        folder = _make()
    except OSError as error:
        hint = "-template needs a folder for this run: make /dev/shm or /tmp writable, or set TMPDIR"
        raise UsageError(f"no folder can be made: {error.strerror}", hint=hint) from error
    lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in ("conf.d", "templates", "state", "cache"):
            os.mkdir(os.path.join(folder, name), 0o700)
        names: set[str] = set()
        for number, given in enumerate(templates, 1):
            name = _name(given, number, names)
            # By its own name: the ending says which language it is.
            inner = os.path.join(folder, "templates", name)
            os.mkdir(inner, 0o700)
            os.symlink(given.src, os.path.join(inner, os.path.basename(given.src)))
            with open(
                os.path.join(folder, "conf.d", f"{name}.toml"), "w", encoding="utf-8", errors="surrogateescape"
            ) as file:
                file.write(_resource(name, given, keys))
        yield folder
    finally:
        remove(folder)
        os.close(lock)


def remove(folder: str) -> None:
    """Remove a made confdir, any number of times: a program that takes the place of confpy would leave it behind."""
    shutil.rmtree(folder, ignore_errors=True)


def _make() -> str:
    for place in (MEMORY, None):
        try:
            folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
        except OSError:
            if place is None:
                raise
        else:
            _sweep(os.path.dirname(folder), folder)
            return folder
    raise AssertionError


def _sweep(place: str, own: str) -> None:
    """Remove the folders of runs that were killed."""
    with suppress(OSError), os.scandir(place) as entries:
        found = [one.path for one in entries if one.name.startswith(PREFIX) and one.is_dir(follow_symlinks=False)]
        for folder in found:
            if folder == own:
                continue
            with suppress(OSError):
                if os.lstat(folder).st_uid != os.geteuid():
                    continue
                lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def _name(given: Given, number: int, names: set[str]) -> str:
    """Return what the resource is called: as its target, with a number if another one is called so."""
    base = "".join(char if char.isalnum() or char in "._-" else "-" for char in os.path.basename(given.dest))
    base = base.lstrip(".")[:100] or "template"
    name = base if base not in names else f"{base}-{number}"
    names.add(name)
    return name


def _resource(name: str, given: Given, keys: Sequence[str]) -> str:
    import tomli_w

    table: dict[str, object] = {
        "src": f"{name}/{os.path.basename(given.src)}",
        "dest": given.dest,
        "keys": list(keys) or ["/"],
        "mkdir": True,
    }
    if given.reload:
        table["reload_cmd"] = given.reload
    return tomli_w.dumps({"template": table})
