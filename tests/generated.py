"""Parts of the manual that are made from tables of the code, between two markers of their page."""

from __future__ import annotations


def with_part(text: str, name: str, made: str) -> str:
    """Return a page's text with ``made`` between the markers of ``name``; raises ``ValueError`` without them."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, begins, rest = text.partition(begin)
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise ValueError(f"the page has no part {name}")
    return f"{before}{begin}\n{made}\n\n{end}{after}"
