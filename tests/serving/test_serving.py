"""The batch on the real modules at tiny size: everybody gets what a single run would give, whoever joins or leaves."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ttsbench.errors import CellError
from ttsbench.instruments import attest
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import rules
from ttsbench.optimizations.parts.replayed_prompt import ReplayedPrompt
from ttsbench.optimizations.parts.resampler import NoWatermark
from ttsbench.optimizations.parts.t3 import Prompt, Request
from ttsbench.records import measurements, runs
from ttsbench.records.jobs import Job, LoadJob
from ttsbench.reports.load_figures import LevelFigures, ttfa
from ttsbench.running.cells import common
from ttsbench.serving.calls import Call
from ttsbench.serving.decoder import ActiveUtterance
from ttsbench.serving.engine import BatchEngine, engine
from ttsbench.serving.flow import BatchedS3Gen
from ttsbench.serving.load import CLOSED, level
from ttsbench.serving.loop import BatchLoop
from ttsbench.serving.randomness import RandomStream
from ttsbench.serving.synthesizers import ChunkSynthesizer, DrawnTokens
from ttsbench.serving.windows import WindowBatch
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.stream import Stream
from ttsbench.streaming.streamer import streamer_of

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
BATCHED = {
    "decode": "lean", "cache": "static", "sampler": "lean", "serve": "batched", "s3gen_attention": "sdpa",
    "watermark": "off",
}  # fmt: skip
STREAMED = {**BATCHED, "stream": "windowed"}
TEXTS = ("Two words.", "A second text, which is somewhat longer than the first one.", "Three.", "And one more to say.")

Make = Callable[..., Pipeline]
TokensOf = Callable[..., list[int]]
RunCell = Callable[[Job], runs.Cell]


@pytest.fixture
def make(make_pipeline: Make) -> Make:
    return functools.partial(make_pipeline, device=DEVICE, texts=TEXTS)


class TestAlone:
    @pytest.mark.parametrize("family", ["chatterbox", "turbo"])
    def test_a_batch_of_one_speaks_upstreams_utterance(self, make: Make, family: str) -> None:
        upstream, batched = make(family, watermark="off"), make(family, **BATCHED)
        item, other = upstream.speak(1, 5), batched.speak(1, 5)
        assert item.tokens.flatten().tolist() == other.tokens.flatten().tolist()
        assert float((item.wave - other.wave).norm() / item.wave.norm()) < 1e-4


class Party:
    """Utterances that join a decoder and leave it, at moments drawn at random."""

    def __init__(self, pipeline: Pipeline, slots: int) -> None:
        assert isinstance(pipeline.loop, BatchLoop)
        self.pipeline, self.decoder = pipeline, pipeline.loop.decoder
        self.decoder.reserve(slots, 256)
        self.ended: list[ActiveUtterance] = []

    def request(self, text: int, limit: int, **sampling: float) -> tuple[Request, Prompt]:
        arguments = self.pipeline.t3_arguments(text)
        arguments |= {"max_gen_len": limit - 1} if self.pipeline.tts.t3.is_gpt else {"max_new_tokens": limit}
        request = self.decoder.model.request(arguments | sampling)
        with torch.inference_mode():
            prompt = self.decoder.model.prompt(arguments["t3_cond"], arguments["text_tokens"], request.cfg_weight)
        return request, prompt

    def join(self, text: int, seed: int, limit: int, **sampling: float) -> ActiveUtterance:
        request, prompt = self.request(text, limit, **sampling)
        stream = RandomStream.seeded(seed, self.pipeline.device)
        return self.decoder.join(request, prompt.embeds, stream)

    def go_on(self) -> None:
        self.ended += self.decoder.step()


GUESTS = [
    ("chatterbox", {}),
    ("chatterbox", {"cfg_weight": 0.0}),
    ("chatterbox", {"top_p": 0.8, "temperature": 1.3}),
    ("turbo", {}),
    ("turbo", {"top_k": 50, "top_p": 1.0}),
    ("multilingual", {}),
]


@pytest.mark.parametrize(("family", "sampling"), GUESTS, ids=str)
@pytest.mark.parametrize("stops", [False, True], ids=["to the limit", "at the stop token"])
def test_everybody_draws_what_they_draw_alone(
    make: Make,
    tokens_of: TokensOf,
    make_stop_likely: Callable[[Any], None],
    family: str,
    sampling: dict[str, float],
    *,
    stops: bool,
) -> None:
    """Whoever joins or leaves; and S3Gen finds each random stream where a single run leaves it."""
    analyzer = {"analyzer": "off"} if family == "multilingual" else {}
    length = Length() if stops else Length(fixed=24)
    single = make(family, length=length, sampling=sampling, decode="lean", **analyzer)
    together = make(family, length=length, sampling=sampling, **BATCHED, **analyzer)
    if stops:
        make_stop_likely(single.tts.t3)
        make_stop_likely(together.tts.t3)
    chance, party = random.Random(f"{family}{sampling}{stops}"), Party(together, slots=5)
    guests: list[tuple[ActiveUtterance, int, int, int]] = []
    while len(guests) < 10 or party.decoder.active:
        may_join = len(guests) < 10 and len(party.decoder.active) < 5
        if may_join and chance.random() < 0.4:
            drawn_guest = chance.randrange(len(TEXTS)), chance.randrange(1000), chance.randrange(1, 30)
            guests.append((party.join(*drawn_guest), *drawn_guest))
        else:
            party.go_on()
    party.go_on()
    assert sorted(map(id, party.ended)) == sorted(id(utterance) for utterance, *_ in guests)
    assert party.decoder.idle
    assert party.decoder.most_at_once > 2
    for utterance, text, seed, limit in guests:
        expected = tokens_of(single, text, seed, limit)
        after = torch.rand(3, device=DEVICE)
        uttered = single.loop.model.returned(torch.tensor([utterance.drawn]), utterance.stopped)
        assert uttered.flatten().tolist() == expected
        assert torch.equal(torch.rand(3, generator=utterance.random.device, device=DEVICE), after)
    assert stops == any(utterance.stopped for utterance, *_ in guests)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("family", ["chatterbox", "turbo"])
def test_captured_prompts_are_read_beside_the_slots_and_moved_to_their_own(make: Make, family: str) -> None:
    plain, captured = (
        Party(make(family, **BATCHED), slots=3),
        Party(make(family, **BATCHED, prompt="cuda_graph"), slots=3),
    )
    drawn = []
    for party in (plain, captured):
        guests = [party.join(text, 40 + text, 12 + text) for text in range(3)]
        for _ in range(14):
            party.go_on()
        guests.append(party.join(3, 50, 9))  # into a slot that somebody has left
        while not party.decoder.idle:
            party.go_on()
        drawn.append([guest.drawn for guest in guests])
    assert drawn[0] == drawn[1]
    read = captured.decoder.backbone.read
    assert isinstance(read, ReplayedPrompt)
    assert read.graphs.replays == 4
    assert read.graphs.captures < 4
    kept = plain.decoder.backbone, captured.decoder.backbone
    assert kept[0].rows == kept[1].rows == kept[1].keys[0].size(0) - captured.decoder.rows_per_slot


def test_rows_of_other_sampling_do_not_disturb_each_other(make: Make, tokens_of: TokensOf) -> None:
    party = Party(make(**BATCHED), slots=4)
    kinds: tuple[dict[str, float], ...] = (
        {},
        {"temperature": 0.4},
        {"top_p": 0.5},
        {"repetition_penalty": 2.0, "min_p": 0.0, "cfg_weight": 0.0},
    )
    guests = [party.join(1, 7, 20, **kind) for kind in kinds]
    while not party.decoder.idle:
        party.go_on()
    for guest, kind in zip(guests, kinds, strict=True):
        single = make(decode="lean", sampling=kind)
        assert guest.drawn == tokens_of(single, 1, 7, 20)


def test_who_is_left_moves_together(make: Make, tokens_of: TokensOf) -> None:
    """The step shrinks to the bucket of those who are there, and nobody notices."""
    single, party = make(decode="lean"), Party(make(**BATCHED), slots=8)
    limits = (2, 3, 4, 5, 2, 3, 25, 24)
    guests = [party.join(0, seed, limit) for seed, limit in enumerate(limits)]
    for _ in range(6):
        party.go_on()
    assert sorted(party.decoder.active) == [0, 1]
    assert party.decoder.moves == 2
    while not party.decoder.idle:
        party.go_on()
    assert [guest.drawn for guest in guests] == [tokens_of(single, 0, seed, limit) for seed, limit in enumerate(limits)]


def test_a_party_that_is_given_up_leaves_nothing_behind(make: Make, tokens_of: TokensOf) -> None:
    party = Party(make(**BATCHED), slots=2)
    party.join(0, 1, 20)
    party.go_on()
    party.decoder.abandon()
    assert party.decoder.idle
    again = party.join(1, 5, 20)
    while not party.decoder.idle:
        party.go_on()
    assert again.drawn == tokens_of(make(decode="lean"), 1, 5, 20)
    assert party.ended == [again]


def test_given_tokens_are_spoken_in_the_place_of_drawn_ones(make: Make) -> None:
    speech_ids = tuple(range(100, 124))
    batched = make(length=Length(replay=(speech_ids,) * 4), **BATCHED)
    assert batched.speak(2, 1).tokens.flatten().tolist() == list(speech_ids)


def speech(tokens: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 6561, (tokens,), generator=torch.Generator().manual_seed(seed))


def off_by(item: torch.Tensor, other: torch.Tensor) -> float:
    """Relative: the norm of the difference over the reference's."""
    return float((item.double() - other.double()).norm() / other.double().norm())


class TestSound:
    @pytest.mark.parametrize("family", ["chatterbox", "turbo"])
    @pytest.mark.parametrize("lengths", [(30,), (31, 12, 70), (25, 25)], ids=str)
    def test_each_row_of_a_batch_is_the_single_call(self, make: Make, family: str, lengths: tuple[int, ...]) -> None:
        """The same noise, padding or not: mel and wave within 1e-5 of upstream's own, which is called one by one."""
        upstream, pipeline = make(family, watermark="off"), make(family, **BATCHED)
        s3gen, voice = upstream.tts.s3gen, upstream.tts.conds.gen
        steps = {"n_cfm_timesteps": 2} if s3gen.meanflow else {}
        tokens = [speech(length, seed) for seed, length in enumerate(lengths)]
        batched = BatchedS3Gen(pipeline)
        streams = [RandomStream.seeded(seed, pipeline.device) for seed in range(len(tokens))]
        mels = batched.mels(tokens, streams, pipeline.tts.conds.gen)
        for seed, (speech_ids, mel, stream) in enumerate(zip(tokens, mels, streams, strict=True)):
            torch.manual_seed(seed)
            alone = s3gen.flow_inference(speech_ids.to(DEVICE), ref_dict=voice, finalize=True, **steps)
            torch.manual_seed(seed)
            wave, _ = s3gen.inference(speech_tokens=speech_ids.to(DEVICE), ref_dict=voice, **steps)
            assert mel.shape == alone.shape
            assert off_by(mel, alone) < 1e-5
            assert off_by(batched.wave(mel, stream), wave[0]) < 1e-4

    def test_upstreams_own_batch_is_another(self, make: Make) -> None:
        """Why there is one of our own: even with the same noise, padding leaks into a row's last tokens."""
        flow = make().tts.s3gen.flow
        short, long = speech(20, 0), speech(60, 1)
        embedded = flow.input_embedding(torch.stack([torch.cat([short, short.new_zeros(40)]), long]).to(DEVICE))
        embedded[0, 20:] = 0  # as its mask does
        both, _ = flow.encoder(embedded, torch.tensor([20, 60], device=DEVICE))
        alone, _ = flow.encoder(embedded[:1, :20], torch.tensor([20], device=DEVICE))
        assert off_by(both[0, :40], alone[0]) > 1e-3


class TestWindows:
    @pytest.mark.parametrize("family", ["chatterbox", "turbo"])
    def test_each_stream_sounds_as_it_does_alone(self, make: Make, family: str) -> None:
        """Whoever shares the flow and the vocoder with it, and however long the others' windows are."""
        pipeline = make(family, **STREAMED)
        streamer = streamer_of(pipeline)
        assert streamer is not None
        uttered = [speech(length, length).tolist() for length in (40, 23, 75)]

        def streams() -> tuple[list[Listener], list[Stream]]:
            listeners = [Listener() for _ in uttered]
            voice, t3 = pipeline.tts.conds.gen, pipeline.tts.t3
            return listeners, [
                Stream(streamer.new_design(voice, seed), pipeline.streaming, own, lambda wave: wave, t3)
                for seed, own in enumerate(listeners)
            ]

        arrived, together = streams()
        windows, sizes = WindowBatch(pipeline, streamer.synthesis), []
        for stream, tokens in zip(together, uttered, strict=True):
            stream.end(tokens)
        while due_chunks := {stream: due for stream in together if (due := stream.due())}:
            windows.speak(due_chunks)
            sizes.append(len(due_chunks))
        assert sizes[0] == 3
        assert sizes[-1] == 1
        expected, alone = streams()
        for stream, tokens in zip(alone, uttered, strict=True):
            stream.finish(tokens)
        for item, other in zip(arrived, expected, strict=True):
            assert [piece.samples.numel() for piece in item.deliveries] == [
                piece.samples.numel() for piece in other.deliveries
            ]
            assert off_by(item.wave, other.wave) < 1e-4

    def test_a_last_chunk_that_was_made_early_ends_its_stream(self, make: Make) -> None:
        """Without a look ahead it is made before anybody knows that it is the last."""
        receiver, call = Silent(), Call(0, 0.0)
        chunked = ChunkSynthesizer(make(**BATCHED, stream="revocode"), receiver, patience_seconds=1.0)
        random = RandomStream.of_process(torch.device(DEVICE))
        chunked.take(DrawnTokens(call, random, (1, 2, 3, 4), last=False))
        assert not chunked.work()
        assert receiver.finished == []
        chunked.take(DrawnTokens(call, random, (1, 2, 3, 4), last=True))
        assert receiver.finished == [call]
        assert not chunked.work()
        assert chunked.evidence()["streams"] == 1

    def test_who_would_hear_nothing_first_comes_first(self, make: Make) -> None:
        """And who has nothing yet was promised something by a certain time."""
        chunked = ChunkSynthesizer(make(**STREAMED), Silent(), patience_seconds=1.0)
        rich, poor, new, late = (Call(number, scheduled) for number, scheduled in enumerate((0.0, 0.0, 9.5, 8.0)))
        rich.pieces, poor.pieces = [(1.0, 20.0)], [(2.0, 8.2)]
        for call in (rich, poor, new, late):
            chunked.take(DrawnTokens(call, RandomStream.of_process(torch.device("cpu")), tuple(range(30)), last=False))
        assert sorted(chunked._due, key=chunked._runs_dry) == [late, poor, new, rich]


class Silent:
    """Takes sound, and does nothing with it."""

    def __init__(self) -> None:
        self.finished: list[Call] = []

    def hold(self, call: Call, audio_seconds: float) -> None:
        """Nobody listens."""

    def finish(self, call: Call) -> None:
        """Nobody waits."""
        self.finished.append(call)


PLAN = LoadJob((1, 3), (), ttfa_seconds=60.0, underrun_seconds=0.0, requests=4, warmup=0.0)


def asking(call: Call) -> None:
    call.text_index, call.seed = call.number % len(TEXTS), 50 + call.number


def served(pipeline: Pipeline, listeners: int, **changes: Any) -> tuple[measurements.Level, Any]:
    plan = dataclasses.replace(PLAN, **changes)
    answering = engine(pipeline, plan)
    answering.warm_up()
    return level(answering, plan, CLOSED, listeners, 0, asking), answering


class TestEngine:
    @pytest.mark.parametrize("family", ["chatterbox", "turbo"])
    def test_everybody_gets_the_utterance_of_a_single_run(self, make: Make, family: str) -> None:
        """Tokens and samples, though three are decoded and made into sound together."""
        pipeline, kept = make(family, length=Length(fixed=12), **BATCHED), dict[str, np.ndarray]()

        class Keeping(NoWatermark):
            def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
                kept[hashlib.sha256(wav.tobytes()).hexdigest()] = wav
                return super().apply_watermark(wav, sample_rate)

        pipeline.tts.watermarker = Keeping()
        measured, answering = served(pipeline, 3)
        assert answering.evidence()["slots"] == 3
        assert pipeline.loop.decoder.most_at_once == 3
        calls = [call for call in measured.calls if call.counted]
        assert len(calls) == 4
        single = make(family, length=Length(fixed=12), decode="lean", watermark="off")
        for call in calls:
            uttered = single.speak(call.text_index, call.seed)
            assert call.tokens_sha256 == uttered.tokens_sha256()
            assert call.audio_seconds == (uttered.audio_seconds,)
            as_long = [torch.from_numpy(wav) for wav in kept.values() if len(wav) == uttered.wave.numel()]
            assert min(off_by(wave, uttered.wave[0]) for wave in as_long) < 1e-4
            times = (call.scheduled_seconds, call.started_seconds, *call.arrived_seconds, call.finished_seconds)
            assert list(times) == sorted(times, key=lambda at: at or 0.0)

    def test_a_stack_that_streams_is_heard_before_it_has_ended(self, make: Make) -> None:
        pipeline = make(length=Length(fixed=40), **STREAMED)
        measured, answering = served(pipeline, 3)
        assert answering.streams
        for call in (call for call in measured.calls if call.counted):
            assert len(call.arrived_seconds) > 2
            assert call.arrived_seconds[0] < call.arrived_seconds[-1] == call.finished_seconds
            assert sum(call.audio_seconds) == pytest.approx(40 / 25, abs=0.05)
            assert call.tokens_sha256 == make_streams_tokens(pipeline, call)

    def test_without_a_batch_they_wait_for_each_other(self, make: Make) -> None:
        pipeline = make(length=Length(fixed=6), decode="lean", watermark="off")
        measured, answering = served(pipeline, 2)
        assert answering.slots is None
        ends = [call.finished_seconds or 0.0 for call in measured.calls if call.finished_seconds]
        starts = [call.started_seconds for call in measured.calls if call.finished_seconds]
        assert all((start or 0.0) >= end for start, end in zip(starts[1:], ends, strict=False))

    @pytest.mark.parametrize("slots", [BATCHED, STREAMED], ids=["whole", "streamed"])
    def test_who_draws_no_speech_is_answered_with_silence_and_holds_up_nobody(
        self, make: Make, slots: dict[str, str]
    ) -> None:
        special, speech_tokens = (6600,) * 12, tuple(range(12))
        pipeline = make(length=Length(replay=(special, speech_tokens, special, speech_tokens)), **slots)
        measured, _ = served(pipeline, 2)
        arrived = [(call.text_index, bool(call.audio_seconds)) for call in measured.calls if call.counted]
        assert sorted(arrived) == [(0, False), (1, True), (2, False), (3, True)]
        silent = next(call for call in measured.calls if call.text_index == 0)
        assert silent.finished_seconds is not None
        assert ttfa(silent) == math.inf

    def test_warming_up_leaves_nothing_behind(self, make: Make) -> None:
        pipeline = make(length=Length(fixed=6), **BATCHED)
        answering = engine(pipeline, PLAN)
        assert isinstance(answering, BatchEngine)
        synthesizer = answering._synthesis.synthesizer
        synthesizer.warm_up(5)
        assert synthesizer.evidence() == {"s3gen_calls": 0, "utterances_per_call": 0.0}
        assert answering.answered() == []

    def test_memory_decides_how_many_there_may_be(self, make: Make) -> None:
        pipeline = make(length=Length(fixed=6), **BATCHED)
        item = pipeline.loop.decoder.bytes_of(1, 512) / 2**30
        measured, answering = served(pipeline, 3, memory_gib=2.5 * item)
        assert answering.slots == 2
        assert "3 listeners need as many slots for keys and values, and memory holds 2" in measured.reason
        with pytest.raises(CellError, match="one utterance needs"):
            served(pipeline, 1, memory_gib=0.5 * item)

    def test_what_fails_beside_t3_fails_the_cell(self, make: Make) -> None:
        pipeline = make(length=Length(fixed=6), **BATCHED)

        class Broken(NoWatermark):
            def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
                raise RuntimeError("no mark today")

        pipeline.tts.watermarker = Broken()
        with pytest.raises(RuntimeError, match="no mark today"):
            served(pipeline, 2)

    def test_a_cell_under_load_has_its_record(self, make_job: Callable[..., Job], run_cell: RunCell) -> None:
        plan = dataclasses.replace(PLAN, listeners=(1, 2, 900), rates=(50.0,), requests=2, memory_gib=0.05)
        job = make_job(slots=BATCHED, load=plan, passes=("time", "memory"), fixed_tokens=4)
        cell = run_cell(job)
        assert cell.reason == ""
        assert cell.load is not None
        assert [(item.kind, item.size, bool(item.reason)) for item in cell.load.levels] == [
            ("closed", 1.0, False), ("closed", 2.0, False), ("closed", 900.0, True), ("open", 50.0, False),
        ]  # fmt: skip
        assert cell.evidence["serve"]["most_at_once"] >= 2
        assert cell.evidence["server"]["utterances_per_call"] >= 1.0
        assert cell.memory is not None
        assert cell.memory.kv_cache_bytes
        assert runs.from_json(runs.Cell, runs.to_json(cell)) == cell


@pytest.mark.usefixtures("late")
def test_prompts_are_captured_before_the_clock_starts(make: Make) -> None:
    """Also where steps are not."""
    pipeline = make(length=Length(fixed=4), **BATCHED, prompt="cuda_graph")
    answering = engine(pipeline, PLAN)
    answering.warm_up()
    read = pipeline.loop.decoder.backbone.read
    assert isinstance(read, ReplayedPrompt)
    captures = read.graphs.captures
    assert captures > 0
    level(answering, PLAN, CLOSED, 1, 0, asking)
    assert read.graphs.captures == captures


def test_what_s3gen_needs_is_made_by_its_own_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a captured kernel keeps the priority of the stream that it was captured on."""
    answering = engine(make(length=Length(fixed=6), **BATCHED), PLAN)
    assert isinstance(answering, BatchEngine)
    warmed: list[str] = []
    synthesizer = answering._synthesis.synthesizer
    monkeypatch.setattr(synthesizer, "warm_up", lambda tokens: warmed.append(threading.current_thread().name))
    answering._synthesis.warm_up(5)
    assert [name.partition("_")[0] for name in warmed] == ["s3gen"]
    assert answering._synthesis.idle()


@pytest.mark.usefixtures("late")
def test_a_captured_prompt_and_the_batchs_own_sampler_are_seen(make: Make) -> None:
    """However often the batch has got new memory."""
    pipeline = make(length=Length(fixed=6), **BATCHED, prompt="cuda_graph")
    pipeline.speak(0, 1)
    served(pipeline, 3)
    pipeline.warm_call = attest.record_warm_call(pipeline, 0, 3)
    measured = common.attest(pipeline, pipeline.slots)
    assert measured["sampler"]["draws"] > 0
    assert measured["prompt"]["replays"] > 0
    assert measured["serve"]["slots"] == 3


def make_streams_tokens(pipeline: Pipeline, call: measurements.Request) -> str:
    """What the same stack draws for one alone."""
    return pipeline.speak(call.text_index, call.seed).tokens_sha256()


SENSIBLE = {"decode": "lean", "cache": "static", "sampler": "lean", "s3gen_attention": "sdpa", "serve": "batched"}


@pytest.mark.parametrize(
    "slots",
    [
        {"decode": "upstream"}, {"cache": "dynamic"}, {"sampler": "upstream"}, {"sampler": "triton"},
        {"s3gen_attention": "upstream"}, {"dtype": "tf32"}, {"s3gen_dtype": "tf32"}, {"attention": "sdpa_math"},
        {"s3gen_compile": "reduce-overhead"}, {"vocoder": "graph"},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_in_a_batch_is_refused(slots: dict[str, str]) -> None:
    assert rules.conflict(SENSIBLE, family="chatterbox", cfg_weight=None) == ""
    assert rules.conflict({**SENSIBLE, **slots}, family="chatterbox", cfg_weight=None)


GRAPHS = {**BATCHED, "decode": "cuda_graph"}


@pytest.mark.gpu
class TestOnGpu:
    @pytest.mark.parametrize("family", ["chatterbox", "turbo"])
    @pytest.mark.parametrize("attention", ["sdpa", "triton"])
    def test_captured_steps_draw_what_eager_steps_draw(
        self, make: Make, tokens_of: TokensOf, family: str, attention: str
    ) -> None:
        """In every bucket, with joins and leaves between replays."""
        drawn = []
        for slots in ({**BATCHED, "attention": attention}, {**GRAPHS, "attention": attention}):
            party = Party(make(family, **slots), slots=8)
            guests = []
            for number, limit in enumerate((3, 20, 7, 30, 5, 12, 9, 25)):
                guests.append(party.join(number % 4, number, limit))
                party.go_on()
            while not party.decoder.idle:
                party.go_on()
            drawn.append([guest.drawn for guest in guests])
        assert drawn[0] == drawn[1]
        graphs = party.decoder.graphs
        assert graphs is not None
        assert graphs.captures >= 3
        single = make(family, decode="lean")
        assert drawn[1] == [tokens_of(single, n % 4, n, limit) for n, limit in enumerate((3, 20, 7, 30, 5, 12, 9, 25))]

    def test_s3gens_graphs_make_what_eager_makes(self, make: Make) -> None:
        made = []
        for slots in (BATCHED, {**GRAPHS, "s3gen_graph": "bucket"}):
            pipeline = make(**slots)
            streams = [RandomStream.seeded(seed, pipeline.device) for seed in range(3)]
            tokens = [speech(length, length).to(DEVICE) for length in (30, 12, 70)]
            made.append(BatchedS3Gen(pipeline).mels(tokens, streams, pipeline.tts.conds.gen))
        assert all(off_by(item, other) < 1e-5 for item, other in zip(*made, strict=True))

    def test_more_listeners_get_more_done(self, make: Make) -> None:
        plan = dataclasses.replace(PLAN, listeners=(1, 4, 16), requests=32, warmup=0.5)
        pipeline = make(length=Length(fixed=50), **GRAPHS)
        answering = engine(pipeline, plan)
        answering.warm_up()
        load = measurements.LoadResult(60.0, 0.0, ())
        throughput = [
            LevelFigures(load, level(answering, plan, CLOSED, listeners, 0, asking)).throughput or 0.0
            for listeners in plan.listeners
        ]
        assert throughput[1] > 1.5 * throughput[0]
        assert throughput[2] > 1.2 * throughput[1]
