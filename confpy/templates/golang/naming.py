"""Names in Jinja for what Go templates name otherwise, or not at all. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from unicodedata import normalize

from confpy.templates.golang import nodes
from confpy.templates.golang.usages import Usage


def identifier(name: str) -> str:
    """Return a name of Jinja for one of Go: Python reads some letters alike that Go does not."""
    word = name.lstrip("$")
    if not word.isidentifier() or normalize("NFKC", word) != word or word.startswith("_"):
        word = "v_" + re.sub(r"[^0-9A-Za-z]", "", word)
    return word


def singular(name: str) -> str:
    for ending, one in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("ses", "s"), ("s", "")):
        if name.endswith(ending) and len(name) > len(ending) + 1 and not name.endswith("ss"):
            return name[: -len(ending)] + one
    return name


def item_name(pipeline: nodes.Pipeline, usages: Mapping[int, Usage]) -> str:
    """Return the name for what a loop is about: its variable's, or one drawn from what is ranged over."""
    if pipeline.declared and not pipeline.assigns and not usages[pipeline.declared[-1].pos].assigned:
        return identifier(pipeline.declared[-1].name)
    return singular(suggest_name(pipeline, "item", usages))


def free_name(wanted: str, otherwise: str, branch: nodes.Branch) -> str:
    """Return a name for what has none in Go, unless a variable of the branch's body is called so."""
    if branch.pipeline.declared:
        return wanted
    variables = (
        variable.name
        for one in nodes.statements(branch.body)
        if isinstance(one, nodes.Action | nodes.Branch)
        for variable in one.pipeline.declared
    )
    return otherwise if wanted in map(identifier, variables) else wanted


def suggest_name(pipeline: nodes.Pipeline, otherwise: str, usages: Mapping[int, Usage]) -> str:
    """Return a name for the value of a pipeline."""
    if pipeline.declared and not pipeline.assigns and not usages[pipeline.declared[-1].pos].assigned:
        return identifier(pipeline.declared[-1].name)
    first = pipeline.commands[0].operands[0]
    while isinstance(first, nodes.Pipeline):
        pipeline = first
        first = first.commands[0].operands[0]
    if isinstance(first, nodes.Field):
        return identifier(first.names[-1])
    if isinstance(first, nodes.Variable | nodes.Chain) and first.fields:
        return identifier(first.fields[-1])
    if isinstance(first, nodes.Variable):
        return identifier(first.name)
    path = next((one for one in pipeline.commands[0].operands if isinstance(one, nodes.String)), None)
    segments = re.findall(r"[A-Za-z_]\w*", path.value, re.ASCII) if path else []
    if isinstance(first, nodes.Function) and segments and first.name in {"get", "getv", "gets", "getvs", "getenv"}:
        return identifier(segments[-1].lower())
    names = {
        "ls": "names",
        "lsdir": "names",
        "seq": "numbers",
        "gets": "pairs",
        "getvs": "values",
        "split": "parts",
    }
    return names.get(first.name, otherwise) if isinstance(first, nodes.Function) else otherwise
