"""Whether a candidate parses as what its resource says it is."""

from __future__ import annotations

from confpy.errors import CheckError

FORMATS = ("json", "toml", "xml", "yaml")


def parse(content: bytes, kind: str) -> None:
    """Parse ``content`` as one of ``FORMATS``; raises ``CheckError`` with the line, never with a value."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CheckError(f"the rendered file is not {kind}: a byte that is not UTF-8", line=line) from None
    line, reason = {"json": _json, "toml": _toml, "xml": _xml, "yaml": _yaml}[kind](text)
    if reason:
        where = {"line": line} if line else {}
        raise CheckError(f"the rendered file is not {kind}: {reason}", hint="the old file stays", **where)


def _json(text: str) -> tuple[int, str]:
    import json

    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.lineno, error.msg
    except RecursionError:
        return 0, "nested too deeply"
    return 0, ""


def _toml(text: str) -> tuple[int, str]:
    import re
    import tomllib

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # tomllib before 3.14 tells the place in its text alone, and may quote what it found there.
        place = re.search(r"at line (\d+)", str(error))
        return int(place[1]) if place else 0, "it does not parse"
    return 0, ""


def _xml(text: str) -> tuple[int, str]:
    from xml.parsers import expat

    parser = expat.ParserCreate()
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        return error.lineno, expat.errors.messages[error.code]
    return 0, ""


def _yaml(text: str) -> tuple[int, str]:
    import yaml

    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.MarkedYAMLError as error:
        return error.problem_mark.line + 1 if error.problem_mark else 0, "it does not parse"
    except yaml.YAMLError:
        return 0, "it does not parse"
    return 0, ""
