"""The outcomes of cases as a JUnit report, as continuous integration reads it. Pure.

The format is that of https://github.com/testmoapp/junitxml.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from confpy.preview.cases import Outcome

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets)."""


def report(name: str, outcomes: Sequence[Outcome], took: Sequence[float]) -> bytes:
    """Return the report of a folder; ``took`` are the seconds of each case."""
    import xml.etree.ElementTree as ET  # only for a report

    failures = sum(bool(outcome.problem) for outcome in outcomes)
    totals = {"tests": str(len(outcomes)), "failures": str(failures), "errors": "0", "time": f"{sum(took):.3f}"}
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", {"name": _clean(name), **totals})
    for outcome, seconds in zip(outcomes, took, strict=True):
        of = {"classname": _clean(outcome.resource or "unknown"), "name": _clean(outcome.case.name)}
        case = ET.SubElement(suite, "testcase", {**of, "file": _clean(outcome.case.keys), "time": f"{seconds:.3f}"})
        if outcome.problem:
            failure = ET.SubElement(case, "failure", {"message": _clean(outcome.problem)})
            failure.text = _clean(outcome.diff or outcome.problem)
    ET.indent(suites)
    return bytes(ET.tostring(suites, "utf-8", xml_declaration=True)) + b"\n"


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
