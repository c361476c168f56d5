"""A profile on a terminal: where the time goes in 80 columns, and what to change first."""

from __future__ import annotations

from dataclasses import replace

from ttsbench.records.profiles import Profile
from ttsbench.reports.tables import profile_answers, profile_tables, profile_text
from ttsbench.reports.tables.profile_answers import milliseconds
from ttsbench.reports.tables.table import FORMS, Table, with_rows

ROWS_MAX = 12
EVIDENCE_TEXT_MAX = 160
# Of the whole tables, what fits into 80 columns.
COLUMNS = {
    "stages": ("stage", "share", "ms", "busy ms", "idle ms", "host-bound ms", "launches", "syncs"),
    "ops": ("op", "share", "calls", "self device ms", "self host ms"),
}


def lede(profile: Profile) -> list[str]:
    """What was profiled, and what watching it cost."""
    header, window = profile.header, profile.header.window
    calls = "one call" if window.s3gen_calls == 1 else f"{window.s3gen_calls} calls"
    wall = milliseconds(profile_answers.unprofiled_wall_seconds(profile))
    profiled = milliseconds(header.profiled_wall_seconds)
    steps = f"{window.decode_steps} decode steps, {calls} of S3Gen, {window.audio_seconds:.2f} s of audio"
    return [
        f"{header.stack} on {header.device_name}: {steps}",
        f"the window takes {wall}, profiled {profiled}: the profiler costs ×{header.inflation:.2f}",
    ]


def tables(profile: Profile) -> list[Table]:
    builds = (profile_tables.stages, profile_tables.decode, profile_tables.families, profile_tables.ops)
    return [_narrow(table).first(ROWS_MAX) for table in with_rows(build(profile) for build in builds)]


def _narrow(table: Table) -> Table:
    kept = COLUMNS.get(table.id, table.header)
    return replace(table, columns=tuple(column for column in table.columns if column.name in kept))


def findings(profile: Profile) -> list[str]:
    """Numbered, each with its evidence and what to do."""
    lines = []
    for number, finding in enumerate(profile.findings, start=1):
        share = f" ({FORMS['share'](finding.share)} of the time)" if finding.share is not None else ""
        evidence = ", ".join(f"{name} {value}" for name, value in profile_answers.evidence(finding))
        evidence = evidence if len(evidence) <= EVIDENCE_TEXT_MAX else f"{evidence[:EVIDENCE_TEXT_MAX]}…"
        lines += [f"{number}. {finding.headline}{share}", f"   {evidence}", f"   {finding.advice}"]
    return lines or ["nothing stands out"]


def cautions(profile: Profile) -> list[str]:
    """How far the tables are to be trusted, as far as there is anything to say."""
    lines = profile_text.warnings(profile)
    if profile.header.on_gpu:
        known = ", ".join(f"{row.level} {FORMS['share'](row.share)}" for row in profile.coverage)
        lines.append(f"of the device's time this much is attributed: {known}")
    return [*lines, *profile.notes]
