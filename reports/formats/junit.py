"""JUnit XML as Jenkins and GitLab read it: a suite per candidate, a test per figure, and one for its quality."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.escaping import in_xml
from ttsbench.reports.formats.format import Format
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import QUALITY, CandidateReport, Report

FAILURE, SKIPPED, PASSED = "failure", "skipped", "system-out"


class Case(NamedTuple):
    """One test: its outcome, which of the reasons to fail that is, and its explanation."""

    name: str
    outcome: str
    kind: str
    text: str


def document(report: Report, fail_on: Collection[str]) -> str:
    """A reason to fail that holds is a failure; what stays open, and is none, is skipped."""
    named = zip(verdicts.names(report), report.candidates, strict=True)
    suites = [(name, candidate, list(_cases(candidate, fail_on))) for name, candidate in named]
    root = ET.Element("testsuites", {"name": "ttsbench", **_totals([case for *_, cases in suites for case in cases])})
    for name, candidate, cases in suites:
        _add_suite(root, name, candidate, cases, report)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_suite(root: ET.Element, name: str, candidate: CandidateReport, cases: Sequence[Case], report: Report) -> None:
    skipped = sum(case.outcome == SKIPPED for case in cases)
    suite = ET.SubElement(root, "testsuite", {"name": in_xml(name), **_totals(cases), "skipped": str(skipped)})
    facts = {
        "baseline": candidate.match.baseline,
        "point": candidate.match.point,
        "pairs": str(len(candidate.match.pairing.valid)),
        "mismatch": "; ".join(report.mismatches),
    }
    properties = ET.SubElement(suite, "properties")
    for key, value in facts.items():
        if value:
            ET.SubElement(properties, "property", name=key, value=in_xml(value))
    for case in cases:
        test = ET.SubElement(suite, "testcase", classname=in_xml(name), name=in_xml(case.name))
        if case.outcome == PASSED:
            ET.SubElement(test, PASSED).text = in_xml(case.text)
        else:
            ET.SubElement(test, case.outcome, type=case.kind, message=in_xml(case.text))
    if notes := verdicts.notes(candidate):
        ET.SubElement(suite, "system-out").text = "\n".join(map(in_xml, notes))


def _totals(cases: Sequence[Case]) -> dict[str, str]:
    failures = sum(case.outcome == FAILURE for case in cases)
    return {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}


def _cases(candidate: CandidateReport, fail_on: Collection[str]) -> Iterator[Case]:
    for metric, judgement in candidate.judged:
        yield _case(metric.label, judgement.verdict, candidate.line(metric.name), fail_on)
    if not candidate.comparison.judgements:
        [(reason, text), *_] = [c for c in verdicts.complaints(candidate) if c[0] != QUALITY]
        yield _case("figures", reason, text, fail_on)
    if candidate.faults:
        yield _case(QUALITY, QUALITY, "; ".join(candidate.faults), fail_on)


def _case(name: str, kind: str, text: str, fail_on: Collection[str]) -> Case:
    otherwise = SKIPPED if kind == Verdict.INCONCLUSIVE else PASSED
    return Case(name, FAILURE if kind in fail_on else otherwise, str(kind), text)


FORMAT = Format("junit", {"comparison.junit.xml": document})
