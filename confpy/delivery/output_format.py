"""Whether a candidate parses as what its resource says it is."""

from __future__ import annotations

from typing import Any

from confpy.errors import CheckError

FORMATS = ("json", "toml", "xml", "yaml")
DEPTH = 500
"""Collections within each other that YAML may have: its parser takes time by the square of them."""


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
        raise CheckError(
            f"the rendered file is not {kind}: {reason}", hint="mend the template, or output_format", **where
        )


def _json(text: str) -> tuple[int, str]:
    import json

    try:
        json.loads(text, parse_int=len, parse_float=len, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        return error.lineno, error.msg
    except ValueError as error:
        return 0, str(error)
    except RecursionError:
        return 0, "nested too deeply"
    return 0, ""


def _no_number(name: str) -> None:
    """Refuse what Python reads, but RFC 8259 does not know."""
    raise ValueError(f"{name} is no JSON")


def _toml(text: str) -> tuple[int, str]:
    import re
    import tomllib

    try:
        tomllib.loads(text)
    except ValueError as error:
        # Not only TOMLDecodeError: a number of thousands of digits. tomllib before 3.14 tells the place in its text
        # alone, and may quote what it found there.
        place = re.search(r"at line (\d+)", str(error))
        return int(place[1]) if place else 0, "it does not parse"
    except RecursionError:
        return 0, "nested too deeply"
    return 0, ""


def _xml(text: str) -> tuple[int, str]:
    from xml.parsers import expat

    parser = expat.ParserCreate()
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        return error.lineno, expat.ErrorString(error.code)
    except (LookupError, ValueError):
        return 1, "it declares an encoding that it does not have"
    return 0, ""


def _yaml(text: str) -> tuple[int, str]:
    import yaml

    depth = 0
    anchors: set[str] = set()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                anchors.clear()
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    return _line(event.start_mark), "an alias without its anchor"
            elif isinstance(event, yaml.NodeEvent) and event.anchor:
                anchors.add(event.anchor)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                return _line(event.start_mark), "nested too deeply"
    except yaml.MarkedYAMLError as error:
        return _line(error.problem_mark), "it does not parse"
    except yaml.reader.ReaderError as error:
        return text.count("\n", 0, error.position) + 1, "a character that YAML does not allow"
    return 0, ""


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 0
