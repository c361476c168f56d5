"""Every metric, declared once: where a record has it, its unit, what is better, and where it is shown and judged.

A distribution adds one by an entry point of the group `ttsbench.metrics` that names a `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ttsbench.records.plugins import declare_installed
from ttsbench.records.runs import Cell
from ttsbench.reports import continuity, load_figures, readings
from ttsbench.reports.readings import S3GEN_STAGES as S3GEN_STAGES
from ttsbench.reports.readings import STAGES as STAGES
from ttsbench.reports.readings import MedianOfUtterances, median_of_forwards, memory_field, of_playback, of_stream

ENTRY_POINTS = "ttsbench.metrics"
LOWER, HIGHER = "lower", "higher"
# The tables in which a metric can be a column.
OVERVIEW, UTTERANCES, MEMORY, COSTS = "overview", "utterances", "memory", "costs"
LISTENER, STREAM_WORK, FORWARDS = "listener", "stream work", "forwards"


@dataclass(frozen=True)
class Unit:
    """The unit of values as recorded, and the one in which tables show them."""

    recorded: str
    shown: str = ""
    scale: float = 1.0
    digits: int = 3

    @property
    def is_time(self) -> bool:
        return self.recorded.partition("/")[0] == "s"

    def text(self, value: float | None) -> str:
        return "–" if value is None else f"{value * self.scale:,.{self.digits}f}"


RATIO = Unit("s/s")
SECONDS = Unit("s", "s")
MILLISECONDS = Unit("s", "ms", 1e3, 0)
TENTHS_OF_MILLISECONDS = Unit("s", "ms", 1e3, 1)
HUNDREDTHS_OF_MILLISECONDS = Unit("s", "ms", 1e3, 2)
MEBIBYTES = Unit("bytes", "MiB", 1 / 2**20, 0)
GIBIBYTES = Unit("bytes", "GiB", 1 / 2**30, 2)
COUNT = Unit("", digits=0)
PERCENT = Unit("", "%", 100, 0)
PER_SECOND = Unit("1/s", digits=0)


@dataclass(frozen=True)
class Metric:
    """One figure per process.

    `phrase` names it in a sentence and `label` above a column. `gates` says whether a verdict is about it, always or
    for the cells at hand. A metric that is `part_of` another is judged only where the other differs.
    """

    name: str
    unit: Unit
    better: str
    phrase: str
    gates: bool | Callable[[Sequence[Cell]], bool]
    read: Callable[[Cell], float | None]
    label: str = ""
    tables: tuple[str, ...] = (OVERVIEW,)
    stages: tuple[str, ...] = ()
    part_of: str = ""
    # A count that all processes of the same code agree on.
    exact: bool = False

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", f"{self.phrase} {self.unit.shown}".strip())

    @property
    def per_utterance(self) -> bool:
        """Whether it is taken of single utterances, each at the pace that the device had then."""
        return isinstance(self.read, MedianOfUtterances)

    @property
    def is_speed(self) -> bool:
        """Whether less of it is said to be faster."""
        return self.unit.is_time and not self.part_of

    @property
    def scale(self) -> float:
        return self.unit.scale

    def text(self, value: float | None) -> str:
        return self.unit.text(value)

    def is_worse(self, ratio: float) -> bool:
        """Of a value that has become so many times what it was."""
        return ratio > 1 if self.better == LOWER else ratio < 1

    def gates_for(self, cells: Sequence[Cell]) -> bool:
        return self.gates if isinstance(self.gates, bool) else self.gates(cells)


BY_NAME: dict[str, Metric] = {}


def declare(metric: Metric) -> Metric:
    if BY_NAME.setdefault(metric.name, metric) is not metric:
        raise ValueError(f"two metrics are called {metric.name}")
    return metric


def shown_in(table: str) -> list[Metric]:
    """The columns of a table, in the order in which they were declared."""
    return [metric for metric in BY_NAME.values() if table in metric.tables]


def that_gate() -> list[Metric]:
    """Those that a verdict can be about, wholes before their parts."""
    return sorted((metric for metric in BY_NAME.values() if metric.gates), key=lambda metric: bool(metric.part_of))


def speed(cells: Iterable[Cell]) -> Metric:
    """RTF, or the time of a forward where the backbone runs alone."""
    return FORWARD if any(cell.forwards for cell in cells) else RTF


def memory(cells: Iterable[Cell]) -> Metric:
    return FORWARD_PEAK if any(cell.forwards for cell in cells) else PEAK_MEMORY


def some_stream(cells: Sequence[Cell]) -> bool:
    """Where nothing streams, TTFA is the whole time again."""
    return any(cell.streams for cell in cells)


def none_streams(cells: Sequence[Cell]) -> bool:
    """In a stream, decoding and S3Gen run at the same time, and each waits for the other."""
    return not some_stream(cells)


def not_counted(cells: Sequence[Cell]) -> bool:
    """What a GPU's allocator counts to the byte is not estimated as well."""
    return all(cell.memory is None or cell.memory.allocated_peak_bytes is None for cell in cells)


RTF = declare(
    Metric(
        "rtf", RATIO, LOWER, "RTF", True, MedianOfUtterances(lambda u: u.rtf),
        tables=(OVERVIEW, UTTERANCES, LISTENER, COSTS), stages=STAGES,
    )
)  # fmt: skip
declare(Metric("rtf_p95", RATIO, LOWER, "RTF p95", False, readings.rtf_p95, tables=(UTTERANCES,)))
declare(Metric("rtf_corpus", RATIO, LOWER, "RTF corpus", False, readings.rtf_corpus, tables=(UTTERANCES,)))
WALL = declare(
    Metric(
        "wall_seconds", SECONDS, LOWER, "wall", False, MedianOfUtterances(lambda u: u.wall_seconds),
        tables=(UTTERANCES,),
    )
)  # fmt: skip
declare(
    Metric(
        "audio_seconds", Unit("s", "s", digits=2), HIGHER, "audio", False,
        MedianOfUtterances(lambda u: u.audio_seconds), tables=(UTTERANCES,),
    )
)  # fmt: skip
declare(
    Metric(
        "first_sample_seconds", MILLISECONDS, LOWER, "first sample", False,
        MedianOfUtterances(lambda u: u.first_sample_seconds), tables=(UTTERANCES, LISTENER),
    )
)  # fmt: skip
TTFA = declare(
    Metric(
        "first_playable_seconds", MILLISECONDS, LOWER, "TTFA", some_stream,
        MedianOfUtterances(lambda u: u.first_playable_seconds), tables=(OVERVIEW, UTTERANCES, LISTENER),
    )
)  # fmt: skip
declare(
    Metric(
        "first_audible_seconds", MILLISECONDS, LOWER, "first audible", False,
        MedianOfUtterances(lambda u: u.first_audible_seconds), tables=(UTTERANCES, LISTENER),
    )
)  # fmt: skip
declare(
    Metric(
        "underrun_seconds", MILLISECONDS, LOWER, "underrun", False, of_playback(lambda p: p.underrun_seconds),
        tables=(LISTENER,),
    )
)  # fmt: skip
declare(
    Metric(
        "prebuffer_seconds", MILLISECONDS, LOWER, "pre-buffer", False, of_playback(lambda p: p.prebuffer_seconds),
        tables=(LISTENER,),
    )
)  # fmt: skip
declare(
    Metric("late_chunks", COUNT, LOWER, "late chunks", False, of_playback(lambda p: p.late_chunks), tables=(LISTENER,))
)
FORWARD = declare(
    Metric(
        "forward_seconds", HUNDREDTHS_OF_MILLISECONDS, LOWER, "a forward", True,
        median_of_forwards(lambda f: f.wall_seconds), label="ms", tables=(COSTS,),
    )
)  # fmt: skip
BUSIEST = declare(
    Metric(
        "seconds_per_audio_second", Unit("s/s", digits=4), LOWER,
        "time per second of audio under the most load", True, load_figures.seconds_per_audio_second,
        label="s/audio s busiest", tables=(),
    )
)  # fmt: skip
LIGHTEST = declare(
    Metric(
        "lightest_ttfa_seconds", MILLISECONDS, LOWER, "time to first audio under the least load", True,
        load_figures.lightest_ttfa, label="TTFA ms lightest", tables=(),
    )
)  # fmt: skip
# The device makes each step alike: between processes of one stack on an H200 the time per token differs by 0.1 %, where
# the whole, which waits for the host too, differs by 1 to 3.
DECODE = declare(
    Metric(
        "decode_seconds_per_token", Unit("s/token", "ms/token", 1e3, 2), LOWER, "time per token", none_streams,
        MedianOfUtterances(readings.decode_seconds_per_token), label="ms/token", stages=("decode",), part_of="rtf",
    )
)  # fmt: skip
S3GEN = declare(
    Metric("s3gen_seconds", MILLISECONDS, LOWER, "S3Gen", False, MedianOfUtterances(readings.s3gen_seconds))
)
S3GEN_RTF = declare(
    Metric(
        "s3gen_rtf", RATIO, LOWER, "S3Gen's time per second of audio", none_streams,
        MedianOfUtterances(readings.s3gen_rtf), label="S3Gen RTF", tables=(), stages=S3GEN_STAGES, part_of="rtf",
    )
)  # fmt: skip
PEAK_MEMORY = declare(
    Metric(
        "peak_memory_bytes", GIBIBYTES, LOWER, "peak memory", not_counted, readings.peak_memory, label="peak GiB",
        tables=(OVERVIEW, COSTS),
    )
)  # fmt: skip
ALLOCATED = declare(
    Metric(
        "allocated_peak_bytes", Unit("bytes", "MiB", 1 / 2**20, 1), LOWER, "allocated", False,
        memory_field("allocated_peak_bytes"), tables=(MEMORY, COSTS),
    )
)  # fmt: skip
for _field, _phrase in (
    ("weights_bytes", "weights"),
    ("kv_cache_bytes", "KV cache"),
    ("reserved_peak_bytes", "reserved"),
    ("process_bytes", "process"),
    ("device_bytes", "device"),
    ("host_peak_bytes", "host peak"),
):
    declare(Metric(_field, MEBIBYTES, LOWER, _phrase, False, memory_field(_field), label=_phrase, tables=(MEMORY,)))
FORWARD_PEAK = declare(
    Metric(
        "forward_peak_bytes", MEBIBYTES, LOWER, "peak memory of a forward", False,
        median_of_forwards(lambda f: f.peak_allocated_bytes), label="peak MiB", tables=(COSTS,),
    )
)  # fmt: skip
ENERGY = declare(
    Metric(
        "joules_per_audio_second", Unit("J/s", "J/s", digits=1), LOWER, "energy", True,
        lambda cell: None if cell.energy is None else cell.energy.joules_per_audio_second,
        label="J/s", tables=(OVERVIEW, COSTS),
    )
)  # fmt: skip
VOCODER_CALLS = declare(
    Metric(
        "vocoder_calls", Unit("", "calls", digits=0), LOWER, "calls of S3Gen", False,
        of_stream(lambda stream: float(len(stream.chunks))), label="calls", tables=(STREAM_WORK,), exact=True,
    )
)  # fmt: skip
declare(
    Metric(
        "flow_frames", PER_SECOND, LOWER, "flow frames/s", False, of_stream(continuity.flow_frames_per_second),
        tables=(STREAM_WORK,),
    )
)  # fmt: skip
declare(
    Metric(
        "vocoder_frames", PER_SECOND, LOWER, "vocoder frames/s", False,
        of_stream(continuity.vocoder_frames_per_second), tables=(STREAM_WORK,),
    )
)  # fmt: skip
declare(
    Metric("overlap", PERCENT, HIGHER, "overlap", False, of_stream(continuity.overlap_share), tables=(STREAM_WORK,))
)
declare(
    Metric(
        "voice_seconds", TENTHS_OF_MILLISECONDS, LOWER, "voice", False, of_stream(lambda s: s.voice_seconds),
        tables=(STREAM_WORK,),
    )
)  # fmt: skip
declare(
    Metric(
        "tokens_per_second", PER_SECOND, HIGHER, "tokens/s", False, median_of_forwards(lambda f: f.tokens_per_second),
        tables=(FORWARDS,),
    )
)  # fmt: skip
declare(
    Metric(
        "host_seconds", HUNDREDTHS_OF_MILLISECONDS, LOWER, "host", False, median_of_forwards(lambda f: f.host_seconds),
        tables=(FORWARDS,),
    )
)  # fmt: skip
declare(
    Metric(
        "busy_seconds", HUNDREDTHS_OF_MILLISECONDS, LOWER, "kernels", False, readings.busy_seconds, tables=(FORWARDS,)
    )
)
BUSY_SHARE = declare(Metric("busy_share", PERCENT, HIGHER, "busy", False, readings.busy_share, tables=(FORWARDS,)))
declare(
    Metric(
        "hidden_relative_error", Unit("", digits=5), LOWER, "error", False,
        lambda cell: cell.forward_quality.hidden_relative_error if cell.forward_quality else None, tables=(FORWARDS,),
    )
)  # fmt: skip

declare_installed(ENTRY_POINTS, Metric, declare)
