"""profile.md: one page that says what takes the time, GPU or host, how far from the limit, and what to change first."""

from __future__ import annotations

from collections.abc import Iterable

from ttsbench.records.profiles import Finding, Profile
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.tables import profile_answers, profile_tables
from ttsbench.reports.tables.markdown import flatten, render
from ttsbench.reports.tables.table import FORMS, Table, with_rows

FILE = "profile.md"
ROWS_MAX = 12
INFLATION_MEANS = "Inflation is the wall with the profiler over the wall without it."
INFLATION_ON_GPU = (
    "The profiler slows down the host and not the device: the device's times hold, and where it waits for the host it "
    "waits less in a plain call."
)
INFLATION_ON_CPU = "All times but the walls without it carry the profiler's cost, most of all those of many short ops."
# A slower host shows more waiting than there is.
INFLATION_MAX = 1.5


def markdown(profile: Profile) -> str:
    builds = (
        profile_tables.stages, profile_tables.decode, profile_tables.families, profile_tables.ops,
        profile_tables.kernels, profile_tables.modules, profile_tables.roofline, profile_tables.memory,
    )  # fmt: skip
    parts = [
        f"# Profile of {in_markdown(profile.header.stack)}",
        in_markdown(lede(profile)),
        *(f"**{in_markdown(warning)}**" for warning in warnings(profile)),
        "\n".join(f"- {name}: {in_markdown(value)}" for name, value in facts(profile)),
        *(_answer(answer) for answer in profile_answers.answers(profile)),
        *_findings(profile),
        *(render(table.first(ROWS_MAX)) for table in with_rows(build(profile) for build in builds)),
        "## How far to trust this",
        inflation_means(profile),
        *(render(table, level=3) for table in trust(profile)),
        "\n".join(f"- {in_markdown(note)}" for note in profile.notes),
        "## What ran",
        "\n".join(f"- {in_markdown(name)}: {in_markdown(value)}" for name, value in ran(profile)),
        "## Ran on",
        "\n".join(
            f"- {in_markdown(name)}: {in_markdown(value)}" for name, value in flatten(profile.header.environment)
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {in_markdown(name)}: {in_markdown(value)}" for name, value in facts)


def lede(profile: Profile) -> str:
    header = profile.header
    parts = [header.scenario, f"{header.family}, {header.size}", header.device_name or header.device]
    parts += [header.started_utc, f"ttsbench {header.ttsbench_version}" if header.ttsbench_version else ""]
    return " · ".join(filter(None, parts))


def facts(profile: Profile) -> list[tuple[str, str]]:
    header, window = profile.header, profile.header.window
    counted = (
        ("utterance", window.utterances),
        ("decode step", window.decode_steps),
        ("call of S3Gen", window.s3gen_calls),
    )
    window_parts = [_counted(number, name) for name, number in counted]
    return [
        ("window", f"{', '.join(window_parts)}; {window.audio_seconds:.2f} s of audio"),
        ("wall", profile_answers.milliseconds(profile_answers.unprofiled_wall_seconds(profile))),
        ("wall while profiled", profile_answers.milliseconds(header.profiled_wall_seconds)),
        ("inflation", f"{header.inflation:.2f}×"),
    ]


def inflation_means(profile: Profile) -> str:
    return f"{INFLATION_MEANS} {INFLATION_ON_GPU if profile.header.on_gpu else INFLATION_ON_CPU}"


def _counted(number: int, name: str) -> str:
    first, *rest = name.split(" ")
    plural = f"{name}s" if not rest or rest[0] != "of" else " ".join([f"{first}s", *rest])
    return f"{number:,} {name if number == 1 else plural}"


def warnings(profile: Profile) -> list[str]:
    warnings = [f"This stack did not take effect as asked: {profile.not_attested}"] if profile.not_attested else []
    warnings += filter(None, [profile_answers.void_shares(profile)])
    warnings += [
        f"The table {entry.table} differs from the raw intervals by {entry.mismatch:.1%}"
        for entry in profile.reconciliation
        if entry.flagged
    ]
    if profile.header.inflation > INFLATION_MAX:
        warnings.append(
            f"The profiler made this window {profile.header.inflation:.2f} times as long: "
            "the host's times and the waiting for it are overstated"
        )
    return warnings + [f"This stack changes the output: {reason}" for reason in profile.header.changes_output]


def _answer(answer: profile_answers.Answer) -> str:
    detail = f"  \n{in_markdown(answer.detail)}" if answer.detail else ""
    return f"**{answer.question} {in_markdown(answer.headline)}.**{detail}"


def _findings(profile: Profile) -> list[str]:
    lines = [_finding(number, finding) for number, finding in enumerate(profile.findings, 1)]
    missing = not_found(profile)
    absent = [f"Looked for and not found: {in_markdown(', '.join(missing))}."] if missing else []
    return ["## Findings", "\n".join(lines) or "Nothing stands out.", *absent]


def _finding(number: int, finding: Finding) -> str:
    share = f" ({FORMS['share'](finding.share)} of the wall)" if finding.share is not None else ""
    evidence = "; ".join(f"{name} {value}" for name, value in profile_answers.evidence(finding))
    return "\n".join(
        [
            f"{number}. **{in_markdown(finding.headline)}**{share}  ",
            f"   {in_markdown(finding.advice)}  ",
            f"   *Evidence:* {in_markdown(evidence)}",
        ]
    )


def not_found(profile: Profile) -> list[str]:
    present = {finding.id for finding in profile.findings}
    return [id_ for id_ in profile.looked_for if id_ not in present]


def trust(profile: Profile) -> list[Table]:
    return with_rows((profile_tables.reconciliation(profile), profile_tables.coverage(profile)))


def ran(profile: Profile) -> list[tuple[str, str]]:
    header = profile.header
    watched = [("stacks", header.with_stacks), ("memory", header.with_memory)]
    slots = [(name, option) for name, option in header.slots.items()]
    return [*slots, ("device", header.device), *((name, "recorded" if on else "off") for name, on in watched)]
