"""What a template asked the store in vain, where the form of the question is to blame. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

from confpy.keys.glob import Glob, compile_glob
from confpy.keys.prefixes import ROOT, normalise
from confpy.keys.view import View
from confpy.templates.results import Suspicion

Question: TypeAlias = tuple[str, str]
"""A function, and what it was asked."""

MOST = 20
"""Suspicions of one render: a template that computes its questions could have any number."""
MOST_QUESTIONS = 1000
"""Questions of one render that are looked at, and ten times as many of all renders of a resource."""
OUTSIDE = "it is not below any of the resource's keys"
_FORM = "by its form it can bring nothing: one slash at the front, none at the end, a * for each level"
_LISTS = frozenset({"gets", "getvs", "ls", "lsdir"})
_WILD = frozenset("*?[")


def suspicions(unanswered: Iterable[Question], view: View, sources: Iterable[str]) -> tuple[Suspicion, ...]:
    """Return what is to be said of questions that brought nothing; ``sources`` are the texts of the templates.

    Questions about keys are noted in the view as checked: they need not be put again.
    """
    texts = ""
    found: dict[Suspicion, None] = {}
    for function, asked in islice(unanswered, MOST_QUESTIONS):
        checked = view.checked.setdefault(function, set())
        if function not in _LISTS and len(checked) < 10 * MOST_QUESTIONS:
            checked.add(asked)
        hint = _advise(function, asked, view) or (OUTSIDE if is_outside(function, asked, view) else "")
        if hint and len(found) < MOST:
            texts = texts or "\n".join(sources)
            known = asked in texts
            found[Suspicion(_shown(function, asked, texts), hint if known or hint == OUTSIDE else _FORM)] = None
    return tuple(found)


def all_outside(unanswered: Iterable[Question], view: View, sources: Iterable[str]) -> tuple[str, ...]:
    """Return the lists among the questions where they lie, by their form, all outside of the resource's keys.

    One that can match nothing at all is neither inside nor outside.
    """
    outside = []
    for function, asked in unanswered:
        if function in _LISTS and not _advise(function, asked, view):
            if not is_outside(function, asked, view):
                return ()
            outside.append((function, asked))
    texts = "\n".join(sources) if outside else ""
    return tuple(dict.fromkeys(_shown(function, asked, texts) for function, asked in outside))


def _shown(function: str, asked: str, texts: str) -> str:
    """Return a question as people write it; what the template computes may hold a value."""
    return f'{function} "{asked}"' if asked in texts else f"{function} (of what the template computes)"


def is_outside(function: str, asked: str, view: View) -> bool:
    """Say whether a question, by its form, lies outside of the resource's keys."""
    if function in {"gets", "getvs"}:
        glob = _glob(asked)
        return glob is not None and not view.reaches(glob)
    return not (view.leads_to(asked) if function in _LISTS else view.asks_for(asked))


def _advise(function: str, asked: str, view: View) -> str:
    """Say what to write instead, nothing where the form is right."""
    if function in {"gets", "getvs"}:
        glob = _glob(asked)
        return _advise_pattern(asked, glob, view) if glob is not None else ""
    if function in _LISTS:
        if not asked.startswith(ROOT):
            return f'paths begin with a slash: write "/{asked}"'
        if asked == ROOT and (view.ls(ROOT) if function == "ls" else view.lsdir(ROOT)):
            return f'in a Go template {function} "/" does not name what has keys below it, as in confd'
        if _WILD.intersection(asked):
            return f"{function} takes a path, not a pattern: it names what lies one step below"
        return ""
    # A key that is not there is what these are for: only its spelling can be wrong.
    wrong = not asked.startswith(ROOT) or normalise(asked) != asked or _WILD.intersection(asked)
    return view.advise(asked) if wrong or view.is_respelled(asked) else ""


def _glob(pattern: str) -> Glob | None:
    """Return a pattern, None for a malformed one: that is no error while there is no key at all, as in confd."""
    try:
        return compile_glob(pattern)
    except ValueError:
        return None


def _advise_pattern(asked: str, glob: Glob, view: View) -> str:
    if glob.segments is None:  # a class in it can match a slash
        return ""
    first, *rest = glob.segments
    if not rest or not (first == "" if isinstance(first, str) else first.fullmatch("")):
        return f'keys begin with a slash: write "/{asked}"'
    if asked != ROOT and asked.endswith(ROOT):
        return f'keys end in no slash: write "{asked}*" for those below it'
    if asked != ROOT and any(segment in {"", ".", ".."} for segment in rest):
        return f'keys have no empty segment, and none of dots: write "{normalise(asked)}"'
    if re.search(r"\{.*,.*\}", asked):
        return "braces mean themselves in a pattern: ask once for each word"
    if all(isinstance(segment, str) for segment in rest):
        below = view.ls(asked) if not view.exists(asked) else ()
        return f'it is the key {asked} alone: write "{asked.rstrip(ROOT)}/*" for those below it' if below else ""
    if "**" in asked:
        return "** is like *, which stops at a slash: each level takes a * of its own"
    return ""
