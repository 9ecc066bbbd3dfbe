"""``{{ env("NAME") }}`` in the options of a resource that say what to read and where to write."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from confpy.config.positions import keys_of
from confpy.config.settings import SECRET_VARIABLES
from confpy.config.toml import plain
from confpy.errors import UsageError

PLACES = ("src", "dest", "keys", "prefix")
"""The options that may use it."""
_BEGINS = re.compile(r"\{\{-?\s*env\s*\(")
_TEXT = r"""(?:"([^"]*)"|'([^']*)')"""
_CALL = re.compile(rf"\{{\{{-?\s*env\s*\(\s*{_TEXT}\s*(?:,\s*{_TEXT}\s*)?\)\s*-?\}}\}}")


def fill_environment(given: Mapping[str, Any], content: str) -> dict[str, Any]:
    """Return the options of a resource with the values of the variables that they name; raises ``UsageError``.

    ``given``: the options by their documented keys. ``content``: their file, to find the line of an error in. What is
    not a call of ``env`` stays as it is, whatever braces it has, and so do the values.
    """
    filled = dict(given)
    for key in PLACES:
        value = given.get(key)
        try:
            if isinstance(value, str):
                filled[key] = _fill(value)
            elif value:
                filled[key] = type(value)(_fill(item) for item in value)
        except UsageError as error:
            line = next((at.line for path, at in keys_of(content).items() if plain(path[-1]) == plain(key)), 0)
            error.message = f"{key}: {error.message}"
            raise error.at(key=key, **({"line": line} if line else {})) from None
    return filled


def _fill(text: str) -> str:
    if "{{" not in text:
        return text
    pieces: list[str] = []
    at = 0
    while (begin := _BEGINS.search(text, at)) is not None:
        call = _CALL.match(text, begin.start())
        if call is None:
            hint = 'write {{ env("NAME") }} or {{ env("NAME", "default") }}, and nothing else in these braces'
            raise UsageError("a call of env cannot be read", hint=hint)
        pieces += [text[at : begin.start()], _value(call)]
        at = call.end()
    return "".join([*pieces, text[at:]])


def _value(call: re.Match[str]) -> str:
    name, default = (
        next((one for one in pair if one is not None), None) for pair in (call.group(1, 2), call.group(3, 4))
    )
    if name in SECRET_VARIABLES:
        raise UsageError(f"the variable {name} holds a secret of confpy's", hint="use another variable")
    value = os.environ.get(name or "", default)
    if value is None:
        hint = f'set it, or give a default: {{{{ env("{name}", "…") }}}}'
        raise UsageError(f"the variable {name} is not set", hint=hint)
    return value
