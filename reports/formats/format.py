"""What a format for other tools is: one declaration, `FORMAT`, in a file of this folder or by an entry point."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ttsbench.records import runs
from ttsbench.reports.figures import Figure
from ttsbench.reports.tables.verdicts import Report

Content = str | bytes


@dataclass(frozen=True)
class Format:
    """The files that it makes of a comparison, where each reason in the second argument is a failure, and of a run."""

    name: str
    comparison: Mapping[str, Callable[[Report, Collection[str]], Content]] = field(default_factory=dict)
    run: Mapping[str, Callable[[list[Figure]], Content]] = field(default_factory=dict)


def as_json(data: object) -> str:
    return runs.dump(data, indent=1) + "\n"
