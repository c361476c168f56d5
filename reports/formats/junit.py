"""JUnit XML as Jenkins and GitLab read it: a suite per candidate, a test per figure, and one for its quality."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import QUALITY, Compared, Report

NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
FAILURE, SKIPPED, PASSED = "failure", "skipped", "system-out"


class Case(NamedTuple):
    """One test: its outcome, which of the reasons to fail that is, and what there is to say of it."""

    name: str
    outcome: str
    kind: str
    told: str


def document(report: Report, fail_on: Collection[str]) -> str:
    """A reason to fail that holds is a failure; what stays open, and is none, is skipped."""
    names = verdicts.names(report)
    suites = [(name, one, list(_cases(one, fail_on))) for name, one in zip(names, report.compared, strict=True)]
    root = ET.Element("testsuites", {"name": "ttsbench", **_totals([case for *_, cases in suites for case in cases])})
    for name, one, cases in suites:
        _add_suite(root, name, one, cases, report)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_suite(root: ET.Element, name: str, one: Compared, cases: Sequence[Case], report: Report) -> None:
    skipped = sum(case.outcome == SKIPPED for case in cases)
    suite = ET.SubElement(root, "testsuite", {"name": clean(name), **_totals(cases), "skipped": str(skipped)})
    told = {
        "baseline": one.match.baseline,
        "point": one.match.point,
        "pairs": str(len(one.match.pairing.valid)),
        "mismatch": "; ".join(report.mismatches),
    }
    properties = ET.SubElement(suite, "properties")
    for key, value in told.items():
        if value:
            ET.SubElement(properties, "property", name=key, value=clean(value))
    for case in cases:
        test = ET.SubElement(suite, "testcase", classname=clean(name), name=clean(case.name))
        if case.outcome == PASSED:
            ET.SubElement(test, PASSED).text = clean(case.told)
        else:
            ET.SubElement(test, case.outcome, type=case.kind, message=clean(case.told))
    if found := verdicts.notes(one):
        ET.SubElement(suite, "system-out").text = clean("\n".join(found))


def _totals(cases: Sequence[Case]) -> dict[str, str]:
    failures = sum(case.outcome == FAILURE for case in cases)
    return {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}


def _cases(one: Compared, fail_on: Collection[str]) -> Iterator[Case]:
    for name, judgement in one.found.judgements.items():
        yield _case(comparison.FIGURES[name].label, judgement.verdict, one.told(name), fail_on)
    if not one.found.judgements:
        [(reason, told), *_] = [c for c in verdicts.complaints(one) if c[0] != QUALITY]
        yield _case("figures", reason, told, fail_on)
    if one.faults:
        yield _case(QUALITY, QUALITY, "; ".join(one.faults), fail_on)


def _case(name: str, kind: str, told: str, fail_on: Collection[str]) -> Case:
    otherwise = SKIPPED if kind == Verdict.INCONCLUSIVE else PASSED
    return Case(name, FAILURE if kind in fail_on else otherwise, str(kind), told)


def clean(text: str) -> str:
    """Without the characters that no XML document may hold, not even escaped."""
    return NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
