"""``confpy version``: which confpy this is, how it was installed, and what it runs on."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from confpy import __version__
from confpy.commands import Call
from confpy.commands.stdout import printable, write

BUILD = "build.json"
"""The file of the package in which builds say what they make, and from which commit; checkouts have none."""
COMPILED = {"markupsafe": "markupsafe._speedups", "pyyaml": "yaml._yaml"}
"""Libraries with parts in C, which are faster and optional, and the module in which these are."""


def run(call: Call) -> int:
    """Write the version to stdout: one line, with ``-all`` what a report of a bug needs, or that as JSON."""
    if "json" in call.switches:
        write(json.dumps(describe(), indent=2) + "\n")
    elif "all" in call.switches:
        write(printable("\n".join(_lines(describe()))) + "\n")
    else:
        write(f"confpy {__version__}\n")
    return 0


def describe() -> dict[str, Any]:
    """Return what ``confpy version -json`` prints; docs/installing.md lists it."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    build = _build()
    needed = list(_requirements(folder))
    extras = dict.fromkeys(extra for _, extra in needed if extra)
    return {
        "name": "confpy",
        "version": __version__,
        "revision": build.get("revision"),
        "installed_as": build.get("installed_as") or _installed_as(folder),
        "path": folder,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name, extra in needed if not extra},
        "compiled": {name: find_spec(module) is not None for name, module in COMPILED.items()},
        "extras": [extra for extra in extras if all(_version(name) for name, of in needed if of == extra)],
    }


def _lines(about: dict[str, Any]) -> Iterable[str]:
    yield f"confpy {about['version']}"
    yield f"revision: {about['revision'] or 'unknown'}"
    yield f"installed as: {about['installed_as']}, in {about['path']}"
    yield f"Python: {about['implementation']} {about['python']}, {about['executable']}"
    yield f"platform: {about['platform']}"
    libraries = (f"{name} {found or 'missing'}" for name, found in about["libraries"].items())
    yield f"libraries: {', '.join(libraries)}"
    yield f"compiled from C: {', '.join(name for name, is_so in about['compiled'].items() if is_so) or 'none'}"
    yield f"extras: {', '.join(about['extras']) or 'none'}"


def _build() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((files("confpy") / BUILD).read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _installed_as(folder: str) -> str:
    """Return the kind of an installation that no build has named."""
    beside = os.path.dirname(folder)
    if os.path.exists(os.path.join(beside, "pyproject.toml")):
        return "checkout"
    has_metadata = os.path.isdir(os.path.join(beside, f"confpy-{__version__}.dist-info"))
    return "wheel" if has_metadata else "folder"


def _requirements(folder: str) -> Iterable[tuple[str, str]]:
    """Yield the libraries that confpy asks for, each with the extra that it is for, else with an empty text."""
    try:
        with open(os.path.join(os.path.dirname(folder), "pyproject.toml"), "rb") as file:
            project = tomllib.load(file)["project"]
        extras = project["optional-dependencies"]
        found = [(text, "") for text in project["dependencies"]]
        found += [(text, extra) for extra, texts in extras.items() for text in texts]
    except OSError:
        try:
            texts = metadata.requires("confpy") or ()
        except metadata.PackageNotFoundError:
            texts = ()
        found = [(text, "".join(re.findall(r"""extra == ["']([^"']+)""", text))) for text in texts]
    for text, extra in found:
        if name := re.match(r"[\w.-]+", text):
            yield name[0], extra


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
