"""How often the tool errs: the code that decides, over processes of the fake engine whose truth is known."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ttsbench.gating.series import until_decided
from ttsbench.records.jobs import TIMED, Fake, Job
from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.decide.pairing import Pair, pair_of
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.table import Table
from ttsbench.running import fake_engine
from ttsbench.running.fake_engine import WALL
from ttsbench.running.progress import ProgressCallback

COMPARISONS, QUICK_COMPARISONS = 1000, 100
# Of a hundred comparisons five may be wrong where one is allowed; that more are is less likely than this.
CHANCE = 0.01
BASELINE, CANDIDATE = "upstream", "candidate"
EFFECTS = (0.0, 0.03, 0.05, 0.08)
WRONG_MAX = 0.01
# Six looks at 97.5 % add up where the noise is larger than what is looked for; of one look it would be this.
WRONG_MAX_WHEN_NOISY = 0.025
POWER_MIN = {
    ("quiet", 0.05): 0.75,
    ("quiet", 0.08): 0.99,
    ("two-paced", 0.05): 0.75,
    ("one part", 0.05): 0.75,
    ("one part", 0.08): 0.99,
}
# Just at the limit both slower and same are right, and neither has to be found.
AT_THE_LIMIT = 0.03


@dataclass(frozen=True)
class Setting:
    """A kind of machine, where a change is planted, and which metrics are decided (if empty, all of a gate)."""

    name: str
    fake_engine: Fake
    description: str
    figures: Sequence[Metric] = (metrics.RTF,)
    passes: tuple[str, ...] = ("time",)
    place: str = WALL
    wrong_max: float = WRONG_MAX
    again: bool = False
    calls: int = 5


QUIET = Fake(process_noise=0.015, call_noise=0.01)
NOISY = Fake(process_noise=0.05, call_noise=0.03, stage_noise=0.05, drift=0.03, spikes=0.1)
SETTINGS = (
    Setting("quiet", QUIET, "sd 1.5 % between processes, 1 % between calls"),
    Setting("drifting", replace(QUIET, drift=0.03), "and the machine's speed wanders by sd 3 % over 30 processes"),
    Setting("spiky", replace(QUIET, spikes=0.05), "and one call in 20 takes half as long again"),
    Setting("throttled", replace(QUIET, throttled=0.1), "and the clocks of one process in 10 are held back"),
    Setting(
        "two-paced",
        replace(QUIET, hurried=0.25),
        "and one call in 4 finds the device 9 % faster, as on an H200; 8 calls a process, as `gate` makes",
        calls=8,
    ),
    Setting(
        "noisy",
        NOISY,
        "sd 5 % between processes and of each stage by itself, 3 % between calls, drift, and one call in 10 a spike",
        (),
        wrong_max=WRONG_MAX_WHEN_NOISY,
    ),
    Setting("twice", NOISY, "noisy; what is slower has to be so again in a second series, as in CI", (), again=True),
    Setting(
        "3 figures",
        QUIET,
        "quiet; time, memory and energy are decided together, and time and energy change",
        (),
        passes=("time", "memory", "energy"),
    ),
    Setting("one part", QUIET, "quiet; decoding alone changes, three fifths of the whole", (), place="decode"),
)


@dataclass(frozen=True)
class Outcome:
    """Verdicts of many comparisons of one setting, with a planted effect on the place that changes."""

    setting: Setting
    effect: float
    verdicts: Mapping[Verdict, int]
    pairs: float

    @property
    def comparisons(self) -> int:
        return sum(self.verdicts.values())

    def share(self, *verdicts: Verdict) -> float:
        return sum(self.verdicts.get(verdict, 0) for verdict in verdicts) / self.comparisons

    @property
    def wrong(self) -> float:
        """The share of verdicts that contradict the truth; inconclusive never does."""
        if not self.effect:
            return self.share(Verdict.SLOWER, Verdict.FASTER)
        effect_on_the_whole = round(self.effect * fake_engine.STAGE_SHARES.get(self.setting.place, 1.0), 6)
        return self.share(Verdict.FASTER, *([Verdict.SAME] if effect_on_the_whole > AT_THE_LIMIT else []))

    @property
    def complaints(self) -> list[str]:
        allowed, needed = self.setting.wrong_max, POWER_MIN.get((self.setting.name, self.effect), 0.0)
        power = self.share(Verdict.SLOWER)
        return [
            *(
                [f"wrong {self.wrong:.1%} of the time, allowed {allowed:.1%}"]
                if self._above(self.wrong, allowed)
                else []
            ),
            *([f"found {power:.1%} of the time, promised {needed:.0%}"] if self._above(1 - power, 1 - needed) else []),
        ]

    def _above(self, share: float, allowed: float) -> bool:
        """Of a thousand comparisons, whether it is more; of fewer, whether it is more than chance explains."""
        if self.comparisons >= COMPARISONS:
            return share > allowed
        from scipy.special import bdtrc

        return bool(bdtrc(round(share * self.comparisons) - 1, self.comparisons, allowed) < CHANCE)


def simulate(comparisons: int, report_progress: ProgressCallback) -> list[Outcome]:
    outcomes = []
    for setting in SETTINGS:
        report_progress(f"{setting.name}: {len(EFFECTS) * comparisons:,} comparisons")
        outcomes += [outcome(setting, effect, comparisons) for effect in EFFECTS]
    return outcomes


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{o.setting.name}, {truth(o.effect)}: {complaint}" for o in outcomes for complaint in o.complaints]


def outcome(setting: Setting, effect: float, comparisons: int) -> Outcome:
    verdicts: Counter[Verdict] = Counter()
    pairs = 0
    for number in range(comparisons):
        decided = compare(setting, effect, seed_of(setting, effect, number))
        pairs += len(decided.pairing.pairs)
        if setting.again and decided.slower:
            second = compare(replace(setting, figures=decided.slower), effect, seed_of(setting, effect, -1 - number))
            decided, pairs = comparison.confirmed(decided, second), pairs + len(second.pairing.pairs)
        verdicts[decided.verdict] += 1
    return Outcome(setting, effect, verdicts, pairs / comparisons)


def seed_of(setting: Setting, effect: float, number: int) -> int:
    """Of a series: the same at every call, and different from any other's."""
    return int.from_bytes(hashlib.sha256(f"{setting.name}/{effect}/{number}".encode()).digest()[:7], "big")


def compare(setting: Setting, effect: float, series: int) -> comparison.Comparison:
    return until_decided(alternating_pairs(setting, effect, series), only=setting.figures)


def alternating_pairs(setting: Setting, effect: float, series: int) -> Iterator[Pair]:
    """Endless: AB, BA, AB, …"""
    engine = replace(setting.fake_engine, planted={CANDIDATE: {setting.place: effect}})
    job = replace(job_of(engine, series, setting.passes), repeats=setting.calls)
    for number in range(1_000_000):
        order = (BASELINE, CANDIDATE) if number % 2 == 0 else (CANDIDATE, BASELINE)
        cells = {
            side: cell(replace(job, stack=side, key=side, process=number, order=2 * number + order.index(side)))
            for side in order
        }
        yield pair_of(replace(cells[CANDIDATE], stack=BASELINE), cells[BASELINE])  # two versions of one stack


def cell(job: Job) -> Cell:
    """The row that a process of the fake engine would send."""
    fields = {name: getattr(job, name) for name in ("key", "kind", "stack", "slots", "point", "process", "order")}
    return Cell(**fields, status="ok", **fake_engine.FakeProcess(job).fields())


def job_of(engine: Fake, series: int, passes: tuple[str, ...]) -> Job:
    """Five utterances of a second each."""
    return Job(
        key="", kind=TIMED, stack="", slots={}, point={}, process=0, order=0, start_method="", device="cpu",
        family="chatterbox", weights="synthetic", size="tiny", dtype="fp32", model_seed=0, texts=("",), fixed_tokens=25,
        replay_tokens=(), voice_wav="", voice_seconds=None, language=None, sampling={}, seed=0, warmup=0, repeats=5,
        passes=passes, timeout_seconds=1.0, keep_audio=False, reference="", limits={},
        fake=replace(engine, seed=series),
    )  # fmt: skip


def truth(effect: float) -> str:
    return f"{effect:+.0%}" if effect else "A/A"


def table(outcomes: Sequence[Outcome], comparisons: int) -> Table:
    rows = tuple(
        (
            o.setting.name,
            truth(o.effect),
            *(f"{o.share(verdict):.1%}" for verdict in Verdict),
            f"{o.wrong:.1%}",
            f"{o.pairs:.1f}",
            "no" if o.complaints else "yes",
        )
        for o in outcomes
    )
    columns = ("machine", "truth", *(str(verdict) for verdict in Verdict), "wrong", "pairs", "as promised")
    notes = tuple(f"{setting.name}: {setting.description}" for setting in SETTINGS)
    return Table.of(f"{comparisons:,} simulated comparisons per row", columns, rows, notes)
