"""What programs say of a file that is a part of their configuration, and was checked as if it were all of it. Pure."""

from __future__ import annotations

import re

SAID: tuple[tuple[str, str], ...] = (
    (r'directive is not allowed here in {candidate}:|no "events" section in configuration', "nginx -t"),
    (r"AH00534: .*No MPM loaded", "apachectl configtest"),
    (r"will not start \(no listener\)|unable to find required (?:default|use)_backend", "haproxy -c -f /etc/haproxy"),
)
"""A pattern of what a check writes of a part, and a check of the whole."""


def hint_of(output: str, candidate: str) -> str:
    """Return what to do about a check whose output says that the candidate may be a part; empty: it does not say so."""
    for said, whole in SAID:
        if re.search(said.replace("{candidate}", re.escape(candidate)), output):
            return (
                "where this file is only a part of a configuration, check the whole one with it in its place: "
                f'check_cmd = "{whole}", check_mode = "swap"'
            )
    return ""
