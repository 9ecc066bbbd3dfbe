"""confd's ``ls`` and ``lsdir``, with what they do to paths that are not clean. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import dirname, normpath

from confpy.keys.view import View


def ls(view: View, path: str) -> list[str]:
    """Return the names one step below the path, and its own where it is a key; of the root only those that are keys."""
    if path == "/":
        return [name for name in view.ls(path) if name == path or view.exists(path + name)]
    if _clean(path) == path or not path.startswith("/"):
        return view.ls(path)
    terms = _terms(path)
    names = set()
    for key in _keys(view, "/"):
        above = _terms(dirname(key))
        if key == path:
            names.add(key.rpartition("/")[2])
        elif above[: len(terms)] == terms:
            # The path is taken off as it is spelled, where the key begins with it.
            names.add(key.removeprefix(path).removeprefix("/").partition("/")[0])
    return sorted(names)


def lsdir(view: View, path: str) -> list[str]:
    """Return the names one step below the path that have keys below themselves; of the root none."""
    if path == "/" or not path.startswith("/"):
        return []
    clean = _clean(path)
    if path in {clean, clean + "/"}:
        return view.lsdir(clean)
    terms = _terms(path)
    found = (_terms(dirname(key)) for key in _keys(view, "/") if key.startswith(path))
    return sorted({above[len(terms)] for above in found if len(above) > len(terms) and above[: len(terms)] == terms})


def _clean(path: str) -> str:
    """Return the shortest spelling of a path (Go's ``path.Clean``); ``normpath`` leaves two slashes at the front."""
    clean = normpath(path)
    return clean[1:] if clean.startswith("//") else clean


def _terms(path: str) -> list[str]:
    return _clean(path).split("/")


def _keys(view: View, path: str) -> Iterator[str]:
    """Yield all keys strictly below a path."""
    for name in view.ls(path):
        key = f"{path.rstrip('/')}/{name}"
        if key != path and view.exists(key):
            yield key
    for name in view.lsdir(path):
        yield from _keys(view, f"{path.rstrip('/')}/{name}")
