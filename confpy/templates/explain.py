"""What is said of an error in a template: where, why, and what to write instead. Pure."""

from __future__ import annotations

import re
from types import TracebackType

import jinja2

from confpy.keys.view import Pair
from confpy.templates.registry import RANDOM
from confpy.templates.results import BRACES, Service


def place(traceback: TracebackType | None) -> dict[str, str | int]:
    """Return the line that failed, and where the template that it stands in was called from."""
    lines: list[tuple[str, int]] = []
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, jinja2.Template):
            lines.append((template.name or "", template.get_corresponding_lineno(traceback.tb_lineno)))
        traceback = traceback.tb_next
    if not lines:
        return {}
    (outer, outer_line), (inner, inner_line) = lines[0], lines[-1]
    place: dict[str, str | int] = {"template": inner, "line": inner_line}
    return place if inner == outer else place | {"called_from": f"{outer}:{outer_line}"}


_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
# Their texts name types, attributes and arguments.
_TELLING = (TypeError, AttributeError, ZeroDivisionError, OverflowError)
# "Asking.getv() missing 1 required …": where we keep a function is nothing to its caller.
_CLASS = re.compile(r"^(?:\w+\.)+(?=\w+\(\))")


def message_of(error: Exception, sources: str) -> str:
    """Say what Jinja or Python found, without what could be a value: words of the templates' own are none."""
    if isinstance(error, _TELLING):
        return _CLASS.sub("", str(error))
    if isinstance(error, RecursionError):
        return "it includes, imports or calls itself without end"
    if isinstance(error, UnicodeError):
        return "a text in it is no Unicode: half of a surrogate pair"
    if isinstance(error, jinja2.TemplateError):

        def shown(quoted: re.Match[str]) -> str:
            word = quoted[1] or quoted[2] or ""
            return quoted[0] if word in sources or word.endswith(" object") else "'…'"

        return _OURS.sub("'", _QUOTED.sub(shown, error.message or type(error).__name__))
    return f"{type(error).__name__} (its text is not shown, as it may hold a value)"


_OURS = re.compile(r"'confpy\.[\w.]+\.(?=\w+ object')")
_ATTRIBUTE = re.compile(r"'(?P<kind>\w+) object' has no attribute '(?P<name>\w+)'")


def advise(message: str, sources: str) -> str:
    """Return a hint for an attribute that a value does not have, or a name of another program; else nothing."""
    found = _ATTRIBUTE.match(message)
    if found is None:
        unknown = _UNKNOWN.match(message)
        if unknown is None or not unknown["undefined"]:
            return ""
        return BRACES if re.search(rf"\{{\{{-?\s*{unknown['name']}\b", sources) else ""
    kind, name = found["kind"], found["name"]
    fields = {"Pair": Pair._fields, "Service": Service._fields}.get(kind, ())
    if name.lower() in fields:
        return f"write .{name.lower()}"
    if fields:
        return "it has " + ", ".join(f".{one}" for one in fields)
    if kind in {"str", "list"} and name.lower() in Pair._fields:
        what = "a text" if kind == "str" else "a list"
        return f"this is {what}; pairs come one by one: for key, value in gets(...)"
    return ""


_UNKNOWN = re.compile(r"^(?:(?P<kind>No (?:filter|test) named) )?'(?P<name>\w+)'(?P<undefined> is undefined)?")


def suggest(message: str, environment: jinja2.Environment) -> str:
    """Return a hint for a message about a name that nobody knows, else nothing."""
    unknown = _UNKNOWN.match(message)
    if unknown is None or not (unknown["kind"] or unknown["undefined"]):
        return ""
    if unknown["name"] in RANDOM:
        return "random output would reload at every pass; shuffle(list, seed) keeps its order"
    from difflib import get_close_matches  # only for errors

    kind = unknown["kind"] or ""
    known = environment.filters if "filter" in kind else environment.tests if "test" in kind else environment.globals
    close = get_close_matches(unknown["name"], known, 1)
    return f"did you mean {close[0]}?" if close else ""
