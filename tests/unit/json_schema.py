"""A validator of JSON Schema, as far as the schemas of the tests go: another keyword is an error."""

from __future__ import annotations

import re

KINDS = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
NOTES = {"$schema", "$id", "title", "description", "examples", "default", "deprecated", "format"}
"""What says nothing of whether a value fits."""


def mismatches(value, schema, where="it"):
    """Return what is wrong with a value, as lines."""
    found = []
    for word, wanted in schema.items():
        if word in NOTES or word.startswith("x-") or word in {"properties", "minItems", "maxItems"}:
            continue
        found += [f"{where}: {word}"] * (not CHECKS[word](value, wanted, schema))
    if isinstance(value, dict):
        others = schema.get("additionalProperties", {})
        for name, one in value.items():
            known = schema.get("properties", {}).get(name, others if isinstance(others, dict) else {})
            found += mismatches(one, known, f"{where}.{name}")
        found += [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{where}.{name} is not known" for name in value.keys() - schema.get("properties", {}).keys()]
    if isinstance(value, list):
        for number, one in enumerate(value):
            found += mismatches(one, schema.get("items", {}), f"{where}[{number}]")
        found += [f"{where}: too short"] * (len(value) < schema.get("minItems", 0))
        found += [f"{where}: too long"] * (len(value) > schema.get("maxItems", len(value)))
    return found


def _kind(value, wanted, _):
    return any(KINDS[kind](value) for kind in ([wanted] if isinstance(wanted, str) else wanted))


def _enum(value, wanted, _):
    return any(value == one and type(value) is type(one) for one in wanted)


CHECKS = {
    "type": _kind,
    "enum": _enum,
    "not": lambda value, wanted, _: bool(mismatches(value, wanted)),
    "pattern": lambda value, wanted, _: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minimum": lambda value, wanted, _: not KINDS["number"](value) or value >= wanted,
    "maximum": lambda value, wanted, _: not KINDS["number"](value) or value <= wanted,
    "oneOf": lambda value, wanted, _: [mismatches(value, one) for one in wanted].count([]) == 1,
    "items": lambda *_: True,
    "required": lambda *_: True,
    "additionalProperties": lambda *_: True,
}
