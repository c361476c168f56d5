from __future__ import annotations

import json
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ttsbench.errors import ExitCode, ScenarioError, UsageError, suggest
from ttsbench.optimizations import registry
from ttsbench.scenarios import files
from ttsbench.scenarios.schema import load, parse, resolve, shipped

Refusal = Callable[..., list[str]]

STACKS = "stacks:\n  upstream: {}\n  lean: {decode: lean}\n"


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    """The mistakes of a text that must be refused, one line each, without the name of the source."""

    def refuse(text: str, *overrides: str) -> list[str]:
        with pytest.raises(ScenarioError) as caught:
            parse(text, "my.yaml", tmp_path, overrides)
        assert caught.value.exit_code == ExitCode.USAGE
        lines = str(caught.value).splitlines()
        assert all(line.startswith("my.yaml: ") for line in lines)
        return [line.removeprefix("my.yaml: ") for line in lines]

    return refuse


def write_wav(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * round(16_000 * seconds)))
    return path


# The first three lines of every text are the name and the stacks, so that what is at fault begins on line 5.
ONE_MISTAKE = {
    "unknown key": (
        "measures: {}",
        (
            "line 5: measures: unknown key; did you mean 'measure'? (allowed: baseline, claims, description, device, "
            "exclude, matrix, measure, model, name, quality, stacks, workload)"
        ),
    ),
    "unknown key in a section": (
        "measure:\n  repeat: 3",
        (
            "line 6: measure.repeat: unknown key; did you mean 'repeats'? "
            "(allowed: passes, processes, repeats, start, timeout_seconds, warmup)"
        ),
    ),
    "wrong type": ("measure: {repeats: many}", "line 5: measure.repeats: should be a whole number, not 'many'"),
    "a boolean is no number": (
        "measure: {repeats: yes}",
        "line 5: measure.repeats: should be a whole number, not true",
    ),
    "a fraction is no count": ("measure: {repeats: 2.5}", "line 5: measure.repeats: should be a whole number, not 2.5"),
    "a number is no text": ("description: 5", "line 5: description: should be text (quote it if it is), not 5"),
    "a section that is a list": ("measure: [1]", "line 5: measure: should be a mapping (key: value), not a list"),
    "a section without a value": ("measure:", "line 5: measure: should be a mapping (key: value), not nothing"),
    "negative count": ("measure: {repeats: -1}", "line 5: measure.repeats: must be at least 1, not -1"),
    "zero": ("measure: {warmup: 0}", "line 5: measure.warmup: must be at least 1, not 0"),
    "endless time-out": (
        "measure: {timeout_seconds: .inf}",
        "line 5: measure.timeout_seconds: should be a finite number, not inf",
    ),
    "unknown pass": (
        "measure:\n  passes:\n  - time\n  - memry",
        (
            "line 8: measure.passes[1]: 'memry' is not allowed here; did you mean 'memory'? "
            "(allowed: cold, energy, memory, quality, time)"
        ),
    ),
    "no time pass": (
        "measure: {passes: [memory]}",
        "line 5: measure.passes: time is missing; it is the pass that everything else is compared by",
    ),
    "a pass twice": ("measure: {passes: [time, time]}", "line 5: measure.passes: a pass is named twice"),
    "family": (
        "model: {family: chaterbox}",
        (
            "line 5: model.family: 'chaterbox' is not allowed here; did you mean 'chatterbox'? "
            "(allowed: chatterbox, fake, multilingual, nano, spark-tts, turbo)"
        ),
    ),
    "weights that are not there": (
        "model: {weights: hubb}",
        (
            "line 5: model.weights: there is no folder {base}/hubb; "
            "weights are synthetic, hub, or a folder with a checkpoint"
        ),
    ),
    "empty weights": ("model: {weights: ''}", "line 5: model.weights: is empty"),
    "size of weights from the hub": (
        "model:\n  weights: hub\n  size: tiny",
        "line 7: model.size: is for synthetic weights only; those from the hub have their own",
    ),
    "device": (
        "device: gpu",
        "line 5: device: 'gpu' is no device; allowed: auto, cpu, cuda, cuda:N with N the number of a GPU",
    ),
    "two sources of text": (
        "workload:\n  set: 5s\n  texts: [Hello.]",
        "line 7: workload.texts: give only one of texts, file and set; set is given too",
    ),
    "unknown set": (
        "workload: {set: 12s}",
        "line 5: workload.set: '12s' is not allowed here; did you mean '15s'? (allowed: 10s, 117-characters, 15s, 5s)",
    ),
    "no texts": ("workload: {texts: []}", "line 5: workload.texts: is empty; it needs at least one entry"),
    "texts that are one text": ("workload: {texts: Hello.}", "line 5: workload.texts: should be a list, not 'Hello.'"),
    "empty text": (
        "workload:\n  texts:\n  - Hello.\n  - ''",
        "line 8: workload.texts[1]: the text is blank; there is nothing to say",
    ),
    "blank text": (
        "workload: {texts: [' \t']}",
        "line 5: workload.texts[0]: the text is blank; there is nothing to say",
    ),
    "text of punctuation only": (
        "workload: {texts: ['... ?!']}",
        "line 5: workload.texts[0]: the text '... ?!' has no letter and no digit; there is nothing to say",
    ),
    "chunks for nobody": (
        "workload:\n  streaming: {}",
        "line 6: workload.streaming: cuts chunks, and no stack streams; give one of them stream: windowed",
    ),
    "voice to prepare that is not there": (
        "workload:\n  clip_voice: true",
        "line 6: workload.clip_voice: needs a recording to prepare; give workload.voice: {wav: …} or {synthetic: 10}",
    ),
    "endless text": (
        f"workload: {{texts: [{'a' * 20_001}]}}",
        "line 5: workload.texts[0]: the text has 20,001 characters; at most 20,000 are read",
    ),
    "text file that is not there": ("workload: {file: t.txt}", "line 5: workload.file: there is no file {base}/t.txt"),
    "length": (
        "workload: {length: short}",
        "line 5: workload.length: should be one of natural, {fixed: …}, {replay: …}",
    ),
    "two lengths": (
        "workload: {length: {fixed: 3, replay: x}}",
        "line 5: workload.length: should be one of natural, {fixed: …}, {replay: …}",
    ),
    "no length": ("workload: {length: {fixed: }}", "line 5: workload.length.fixed: has no value"),
    "length 0": ("workload: {length: {fixed: 0}}", "line 5: workload.length.fixed: must be at least 1, not 0"),
    "length beyond the model": (
        "workload: {length: {fixed: 4001}}",
        "line 5: workload.length.fixed: must be at most 4000, not 4001",
    ),
    "unknown length": (
        "workload: {length: {fixd: 3}}",
        "line 5: workload.length.fixd: unknown key; did you mean 'fixed'? (allowed: fixed, replay)",
    ),
    "replay file that is not there": (
        "workload: {length: {replay: r.json}}",
        "line 5: workload.length.replay: there is no file {base}/r.json",
    ),
    "voice that is not there": (
        "workload: {voice: {wav: v.wav}}",
        "line 5: workload.voice.wav: there is no file {base}/v.wav",
    ),
    "voice of no length": (
        "workload: {voice: {synthetic: 0}}",
        "line 5: workload.voice.synthetic: must be more than 0, not 0",
    ),
    "voice too short for turbo": (
        "model: {family: turbo}\nworkload: {voice: {synthetic: 5}}",
        "line 6: workload.voice.synthetic: turbo needs a voice of more than 5 s; this one has 5 s",
    ),
    "language of an English model": (
        "workload: {language: en}",
        "line 5: workload.language: only the multilingual family takes a language; this is chatterbox",
    ),
    "unknown language": (
        "model: {family: multilingual}\nworkload: {language: EN}",
        (
            "line 6: workload.language: 'EN' is not allowed here; allowed: ar, da, de, el, en, es, fi, fr, he, hi, it, "
            "ja, ko, ms, nl, no, pl, pt, ru, sv, sw, tr, zh"
        ),
    ),
    "sampling of another family": (
        "model: {family: nano}\nworkload:\n  sampling:\n    cfg_weight: 0.5",
        (
            "line 8: workload.sampling.cfg_weight: nano does not take it; "
            "allowed: temperature, top_p, top_k, repetition_penalty"
        ),
    ),
    "top_k with Llama": (
        "workload: {sampling: {top_k: 3}}",
        (
            "line 5: workload.sampling.top_k: chatterbox does not take it; "
            "allowed: temperature, top_p, min_p, repetition_penalty, cfg_weight, exaggeration"
        ),
    ),
    "temperature 0": (
        "workload: {sampling: {temperature: 0}}",
        "line 5: workload.sampling.temperature: must be more than 0, not 0",
    ),
    "baseline that is no stack": (
        "baseline: upstraem",
        "line 5: baseline: 'upstraem' is no stack; did you mean 'upstream'? (allowed: lean, upstream)",
    ),
    "empty matrix": ("matrix: {}", "line 5: matrix: is empty; it needs at least one entry"),
    "empty axis": (
        "matrix:\n  workload.length.fixed: []",
        "line 6: matrix.workload.length.fixed: is empty; it needs at least one entry",
    ),
    "axis that is no list": (
        "matrix: {workload.length.fixed: 25}",
        "line 5: matrix.workload.length.fixed: should be a list, not 25",
    ),
    "value that is a list": (
        "matrix: {workload.seed: [1, [2]]}",
        "line 5: matrix.workload.seed[1]: should be one value, not a list",
    ),
    "value given twice": ("matrix: {workload.seed: [1, 2, 1]}", "line 5: matrix.workload.seed[2]: 1 is given twice"),
    "invalid value": (
        "matrix:\n  workload.length.fixed:\n  - 25\n  - -1",
        "line 8: matrix.workload.length.fixed[1]: must be at least 1, not -1",
    ),
    "value that fails below": (
        "matrix:\n  workload.length:\n  - natural\n  - {fixed: 0}",
        "line 8: matrix.workload.length[1].fixed: must be at least 1, not 0",
    ),
    "device of the matrix": (
        "matrix: {device: [cpu, 1]}",
        "line 5: matrix.device[1]: should be text, not 1",
    ),
    "unknown option in the matrix": (
        "matrix:\n  slots.analyzer: [upstream, offf]",
        f"line 6: matrix.slots.analyzer[1]: 'offf' is no option of analyzer; {suggest('offf', ['off', 'upstream'])}",
    ),
    "two axes for one thing": (
        "matrix:\n  workload.length: [natural]\n  workload.length.fixed: [25]",
        "line 7: matrix.workload.length.fixed: workload.length varies the same thing; keep one of the two",
    ),
    "family of the matrix that does not take the sampling": (
        "workload:\n  sampling: {cfg_weight: 0.3}\nmatrix:\n  model.family: [chatterbox, turbo]",
        (
            "line 6: workload.sampling.cfg_weight: turbo does not take it; "
            "allowed: temperature, top_p, top_k, repetition_penalty"
        ),
    ),
    "section of a matrix that is no mapping": (
        "workload: 5\nmatrix: {workload.seed: [1]}",
        "line 5: workload: should be a mapping (key: value), not 5",
    ),
    "a key with a line break": (
        '"a\\nb\\e[1m": 1',
        (
            "line 5: a�b�[1m: unknown key; allowed: baseline, claims, description, device, exclude, matrix, measure, "
            "model, name, quality, stacks, workload"
        ),
    ),
    "exclude of an unknown stack": (
        "exclude:\n- {stack: leen}",
        "line 6: exclude[0].stack: 'leen' is no stack; did you mean 'lean'? (allowed: lean, upstream)",
    ),
    "exclude by something else": (
        "matrix: {workload.seed: [1, 2]}\nexclude:\n- stack: lean\n  seed: 1",
        "line 8: exclude[0].seed: neither 'stack' nor a key of the matrix; allowed: stack, workload.seed",
    ),
    "exclude of no value": (
        "matrix: {workload.seed: [1, 2]}\nexclude:\n- {workload.seed: 3}",
        "line 7: exclude[0].workload.seed: 3 is none of its values: 1, 2",
    ),
    "exclude of nothing": ("exclude: [{}]", "line 5: exclude[0]: is empty; it needs at least one entry"),
    "exclude of everything": (
        "exclude: [{stack: lean}, {stack: upstream}]",
        "line 5: exclude: leaves nothing to run",
    ),
    "exclude of the baseline": (
        "exclude: [{stack: upstream}]",
        "line 5: exclude: leaves out the baseline 'upstream' everywhere; nothing could be compared",
    ),
    "too many cells": (
        f"matrix: {{workload.seed: {list(range(120))}, model.seed: {list(range(120))}}}",
        "line 5: matrix: unfolds into more than 10,000 cells, which is the most that is allowed",
    ),
}


@pytest.mark.parametrize(("text", "told"), ONE_MISTAKE.values(), ids=ONE_MISTAKE)
def test_one_mistake_is_one_line(refusal: Refusal, tmp_path: Path, text: str, told: str) -> None:
    assert refusal(f"name: a\n{STACKS}{text}\n") == [told.replace("{base}", str(tmp_path))]


@pytest.mark.parametrize("name", ["a/b", "..", "a..b", "../a", "A", "", ".a", "a b", "a\\b", "a" * 65, "ä"])
def test_names_that_could_not_be_folders(refusal: Refusal, name: str) -> None:
    (told,) = refusal(f"# comment\nname: {json.dumps(name)}\n{STACKS}")
    assert told.startswith("line 2: name: ")
    assert "cannot be the name" in told
    assert "lower-case letters" in told


# Below a stack that streams.
CHUNK_MISTAKES = {
    "{first_tokens: 0}": "first_tokens: must be at least 1, not 0",
    "{growth: -2}": "growth: must be at least 1, not -2",
    "{growth: 0.5}": "growth: must be at least 1, not 0.5",
    "{lookahead_tokens: 2}": "lookahead_tokens: must be at least 5, not 2",
    "{buffer_seconds: 0}": "buffer_seconds: must be at least 0.04, not 0",
    "{prepare_voice: true}": (
        "prepare_voice: needs a recording to prepare; give workload.voice: {wav: …} or {synthetic: 10}"
    ),
}


@pytest.mark.parametrize(("given", "told"), CHUNK_MISTAKES.items(), ids=CHUNK_MISTAKES)
def test_a_mistake_in_chunks_is_one_line(refusal: Refusal, given: str, told: str) -> None:
    text = f"name: a\nstacks:\n  w: {{stream: windowed}}\nworkload:\n  streaming: {given}\n"
    assert refusal(text) == [f"line 5: workload.streaming.{told}"]


def test_an_unknown_design_is_told_with_the_nearest(refusal: Refusal) -> None:
    (line,) = refusal("name: a\nstacks:\n  w: {stream: window}\n")
    assert line.startswith("line 3: stacks.w.stream: 'window' is no option of stream; did you mean 'windowed'?")


@pytest.mark.parametrize(
    ("chunks", "first", "cap", "buffer"),
    [("{}", 4, 64, None), ("{first_tokens: 8}", 8, 64, None), ("{buffer_seconds: 3.5}", 4, 64, 3.5)],
)
def test_chunks_have_defaults_and_read_back_as_they_were(
    tmp_path: Path, chunks: str, first: int, cap: int, buffer: float | None
) -> None:
    text = f"name: a\nstacks: {{w: {{stream: windowed}}}}\nworkload: {{streaming: {chunks}}}\n"
    scenario = parse(text, "my.yaml", tmp_path)
    again = parse(yaml.safe_dump(scenario.understood()), "again.yaml", tmp_path)
    for read in (scenario, again):
        workload = read.cells()[0].workload
        assert workload.streaming is not None
        chosen = workload.streaming.chosen()
        assert (chosen.first_tokens, chosen.cap_tokens, chosen.buffer_seconds) == (first, cap, buffer)


STACK_MISTAKES = {
    "unknown slot": (
        "stacks: {lean: {decoder: lean}}",
        f"line 2: stacks.lean.decoder: unknown slot; {suggest('decoder', registry.BY_NAME)}",
    ),
    "unknown option": (
        "stacks:\n  upstream: {}\n  lean:\n    decode: leen",
        (
            "line 5: stacks.lean.decode: 'leen' is no option of decode; did you mean 'lean'? "
            "(allowed: cuda_graph, lean, upstream)"
        ),
    ),
    "a boolean where there is no on or off": (
        "stacks: {lean: {decode: on}}",
        "line 2: stacks.lean.decode: 'on' is no option of decode; allowed: cuda_graph, lean, upstream",
    ),
    "a list of options": (
        "stacks: {lean: {decode: [lean]}}",
        "line 2: stacks.lean.decode: a list is no option of decode; allowed: cuda_graph, lean, upstream",
    ),
    "no stacks": ("stacks: {}", "line 2: stacks: is empty; it needs at least one entry"),
    "stacks left out": ("device: cpu", "line 1: stacks: is missing"),
    "a list of stacks": ("stacks: [upstream]", "line 2: stacks: should be a mapping (key: value), not a list"),
    "a stack that is text": (
        "stacks: {lean: lean}",
        "line 2: stacks.lean: should be a mapping (key: value), not 'lean'",
    ),
    "two stacks of one name": (
        "stacks:\n  lean: {}\n  lean: {decode: lean}",
        "line 4: stacks.lean: given twice; the first is on line 3",
    ),
    "a stack with a slash": (
        "stacks: {a/b: {}}",
        (
            "line 2: stacks.a/b: 'a/b' cannot name a stack; "
            "allowed: letters, digits and '_', '.', '+', '-', at most 64, a letter or digit first"
        ),
    ),
    "a stack named by a number": ("stacks: {1: {}}", "line 2: stacks: a key must be text; quote it: '1'"),
}


@pytest.mark.parametrize(("text", "told"), STACK_MISTAKES.values(), ids=STACK_MISTAKES)
def test_mistakes_in_stacks(refusal: Refusal, text: str, told: str) -> None:
    assert told in refusal(f"name: a\n{text}\n")


def test_all_mistakes_are_told_together_and_none_twice(refusal: Refusal) -> None:
    told = refusal(
        "name: a/b\n"
        "model: {family: turbo, seed: -1}\n"
        "workload:\n"
        "  texts: [3, '']\n"
        "  seed: x\n"
        "  language: en\n"
        "  sampling: {cfg_weight: 1, temperature: 0}\n"
        "stacks: {lean: {decode: !x lean, watermark: of}}\n"
        "baseline: upstream\n"
        "matrix: {workload.length.fixed: [0], slots.decode: []}\n"
        "exclude: [{stack: leen}]\n"
        "color: red\n",
        "measure.repeats=0",
    )
    assert [line.split(" ", 3)[:3] for line in told] == [
        ["--set", "measure.repeats:", "must"],
        *(
            ["line", f"{line}:", f"{where}:"]
            for line, where in [
                (1, "name"),
                (2, "model.seed"),
                (4, "workload.texts[0]"),
                (4, "workload.texts[1]"),
                (5, "workload.seed"),
                (6, "workload.language"),
                (7, "workload.sampling.temperature"),
                (8, "stacks.lean.decode"),
                (8, "stacks.lean.watermark"),
                (9, "baseline"),
                (10, "matrix.slots.decode"),
                (10, "matrix.workload.length.fixed[0]"),
                (11, "exclude[0].stack"),
                (12, "color"),
            ]
        ),
    ]


def test_a_root_that_is_no_mapping(refusal: Refusal) -> None:
    assert refusal("- name: a\n") == ["line 1: should be a mapping (key: value), not a list"]


def test_yaml_that_does_not_parse(refusal: Refusal) -> None:
    (told,) = refusal("name: a\nstacks: {upstream: {}\nmodel: {}\n")
    assert told.startswith("line 3: this is not YAML: ")


def test_an_alias_bomb(refusal: Refusal) -> None:
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(5))
    (told,) = refusal(bomb)
    assert "the aliases unfold into more than 10,000 values" in told


def test_a_python_tag(refusal: Refusal) -> None:
    (told,) = refusal(f"name: a\n{STACKS}description: !!python/name:os.system\n")
    assert told.startswith("line 5: description: the Python tag !!python/name:os.system is refused")


def test_on_and_off_need_no_quotes(tmp_path: Path) -> None:
    scenario = parse(
        "name: a\nstacks:\n  upstream:\n  x: {watermark: off}\n  y: {}\n"
        "matrix: {slots.watermark: [on, off]}\nexclude: [{stack: y, slots.watermark: off}]\n",
        "a",
        tmp_path,
    )
    assert scenario.stacks == {"upstream": {}, "x": {"watermark": "off"}, "y": {}}
    assert [cell.stack for cell in scenario.cells()] == [
        "upstream",
        "x+watermark=on",
        "x+watermark=off",
        "y+watermark=on",
    ]


def test_defaults(tmp_path: Path) -> None:
    scenario = parse(f"name: a\n{STACKS}", "a", tmp_path)
    assert scenario.measure.passes == ("time", "memory", "energy")
    assert (scenario.measure.warmup, scenario.measure.repeats, scenario.measure.processes) == (2, 5, 3)
    assert (scenario.measure.start, scenario.measure.timeout_seconds) == ("forkserver", 900)
    assert (scenario.model.family, scenario.model.weights, scenario.model.size) == ("chatterbox", "synthetic", "full")
    assert (scenario.device, scenario.baseline) == ("auto", "upstream")
    assert scenario.workload.set == "10s"
    assert (scenario.workload.length.fixed, scenario.workload.length.replay) == (None, None)
    assert (scenario.workload.voice.wav, scenario.workload.voice.synthetic) == (None, None)
    assert scenario.workload.sampling.given() == {}


def test_the_first_stack_is_the_baseline_where_none_is_named_upstream(tmp_path: Path) -> None:
    assert parse("name: a\nstacks: {b: {}, a: {}}", "a", tmp_path).baseline == "b"


def test_files_are_found_from_the_folder_of_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("One.\r\n\r\nTwo.\n", encoding="utf-8")
    (tmp_path / "replay.json").write_text("[[1, 6560], [0]]", encoding="utf-8")
    (tmp_path / "weights").mkdir()
    write_wav(tmp_path / "voice.wav", 5.5)
    file = tmp_path / "a.yaml"
    file.write_text(
        f"name: a\n{STACKS}model: {{family: turbo, weights: weights}}\nworkload:\n"
        "  {file: texts.txt, length: {replay: replay.json}, voice: {wav: voice.wav}}\n"
    )
    cell = load(file).cells()[0]
    assert cell.workload.utterances() == ("One.", "Two.")
    assert cell.workload.replay_tokens() == ((1, 6560), (0,))
    assert cell.workload.voice.wav == str(tmp_path / "voice.wav")
    assert cell.model.weights == str(tmp_path / "weights")


FILE_MISTAKES = {
    "text file that is not UTF-8": ("file: bad", b"Gut.\nSch\xf6n.", "{file} is not UTF-8: line 2 holds the byte 0xf6"),
    "empty text file": ("file: bad", b"\n \n", "{file} is empty; it should hold one text a line"),
    "voice that is text": ("voice: {wav: bad.wav}", b"Hello, I am no wav.", "{file} is not a WAV file"),
    "empty voice": ("voice: {wav: bad.wav}", b"", "{file} is empty"),
    "wav without samples": ("voice: {wav: bad.wav}", b"RIFF\x04\0\0\0WAVE", "{file} is a WAV file without sound in it"),
    "replay that is no JSON": ("length: {replay: bad}", b"[[1, 2]", "{file} is not JSON"),
    "replay with an id that is no speech": (
        "length: {replay: bad}",
        b"[[1], [2, 6561]]",
        "{file}, list 2, item 2: 6561 is no speech token; they are 0 to 6560",
    ),
    "replay with a fraction": ("length: {replay: bad}", b"[[1.5]]", "list 1, item 1: 1.5 is no speech token"),
    "replay with nothing to say": ("length: {replay: bad}", b"[[]]", "{file}, list 1: 0 tokens; 1 to 4,000 are"),
    "replay of another shape": ("length: {replay: bad}", b"[1, 2]", "{file} should hold a JSON list of lists"),
    "replay for fewer texts": (
        "{set: 5s, length: {replay: bad}}",
        b"[[1]]",
        "{file} holds 1 lists of tokens, but the workload has 2 texts",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("workload", "held", "told"), FILE_MISTAKES.values(), ids=FILE_MISTAKES)
def test_files_that_cannot_be_used(refusal: Refusal, tmp_path: Path, workload: str, held: bytes, told: str) -> None:
    path = tmp_path / ("bad.wav" if "wav" in workload else "bad")
    path.write_bytes(held)
    workload = workload if workload.startswith("{") else f"{{{workload}}}"
    (line,) = refusal(f"name: a\n{STACKS}workload:\n  {workload}\n")
    assert line.startswith("line 6: workload.")
    assert told.replace("{file}", str(path)) in line


def test_a_voice_from_a_wav_must_be_long_enough_for_turbo(refusal: Refusal, tmp_path: Path) -> None:
    write_wav(tmp_path / "v.wav", 4.5)
    text = f"name: a\n{STACKS}model: {{family: turbo}}\nworkload: {{voice: {{wav: v.wav}}}}\n"
    assert refusal(text) == ["line 6: workload.voice.wav: turbo needs a voice of more than 5 s; this one has 4.5 s"]


def test_a_point_that_is_left_out_may_be_senseless(tmp_path: Path) -> None:
    scenario = parse(
        f"name: a\n{STACKS}matrix:\n  model.family: [chatterbox, multilingual]\n  workload.language: [null, de]\n"
        "exclude: [{model.family: chatterbox, workload.language: de}]\n",
        "a",
        tmp_path,
    )
    told = {(cell.model.family, cell.workload.language) for cell in scenario.cells()}
    assert told == {("chatterbox", None), ("multilingual", "en"), ("multilingual", "de")}


def test_overrides(tmp_path: Path) -> None:
    text = f"name: a\n{STACKS}workload: {{texts: [Hello.], length: natural}}\nmatrix: {{workload.seed: [1]}}\n"
    overrides = (
        "measure.repeats=7",
        "workload.set=5s",
        "workload.length.fixed=25",
        "device=cuda:1",
        "stacks.lean.watermark=off",
        "stacks.v1.5={decode: lean}",
        "stacks.v1.5.analyzer=upstream",
        "matrix.workload.seed=[3, 4]",
        "measure.repeats=8",
    )
    scenario = parse(text, "a", tmp_path, overrides)
    assert scenario.measure.repeats == 8
    assert (scenario.workload.texts, scenario.workload.set) == (None, "5s")
    assert scenario.workload.length.fixed == 25
    assert scenario.device == "cuda:1"
    assert scenario.stacks == {
        "upstream": {},
        "lean": {"decode": "lean", "watermark": "off"},
        "v1.5": {"decode": "lean", "analyzer": "upstream"},
    }
    assert scenario.matrix == {"workload.seed": (3, 4)}
    assert scenario.overrides == overrides
    assert scenario.text == text


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("measure.repeats=0", "--set measure.repeats: must be at least 1, not 0"),
        ("measure={repeats: 0}", "--set measure.repeats: must be at least 1, not 0"),
        (
            "measure.repeat=3",
            (
                "--set measure.repeat: unknown key; did you mean 'repeats'? "
                "(allowed: passes, processes, repeats, start, timeout_seconds, warmup)"
            ),
        ),
        ("workload.voice.wav=v.wav", "--set workload.voice.wav: there is no file {base}/v.wav"),
        ("matrix.workload.seed=[-1]", "--set matrix.workload.seed[0]: must be at least 0, not -1"),
        (
            "workload.length.fixed=9",
            (
                "--set workload.length.fixed: has no effect, because the matrix varies workload.length; "
                "set matrix.workload.length instead"
            ),
        ),
        ("description=!!python/none", "--set description: the Python tag !!python/none is refused"),
        ("device=[", "--set device: this is not YAML"),
        ("stacks.lean.decode=leen", "--set stacks.lean.decode: 'leen' is no option of decode; did you mean 'lean'?"),
    ],
)
def test_mistakes_in_overrides(refusal: Refusal, tmp_path: Path, override: str, told: str) -> None:
    (line,) = refusal(f"name: a\n{STACKS}matrix: {{workload.length: [natural]}}\n", override)
    assert line.startswith(told.replace("{base}", str(tmp_path)))


@pytest.mark.parametrize("override", ["measure.repeats", "=3", "measure..repeats=3", "", ".=1", "a." * 100 + "a=1"])
def test_overrides_that_are_none(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=r"is not key=value\. Write the path of one value"):
        parse(f"name: a\n{STACKS}", "a", tmp_path, [override])


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (b"", "is empty. A scenario needs at least a name and stacks"),
        (b"# nothing\n", "is empty. A scenario needs at least a name and stacks"),
        (b"name: a\ndescription: sch\xf6n\n", "is not UTF-8: line 2 holds the byte 0xf6"),
        (b"#" * (files.TEXT_BYTES_MAX + 1), "is larger than 1 MiB"),
    ],
)
def test_scenario_files_that_cannot_be_read(tmp_path: Path, held: bytes, told: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(held)
    with pytest.raises(UsageError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file} {told}")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is a folder, not a file to read"):
        load(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"name: a\n{STACKS}", encoding="utf-8-sig")
    assert load(file).name == "a"


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert resolve("quickstart") == shipped()["quickstart"]
    assert resolve("mine.yaml") == Path("mine.yaml")
    with pytest.raises(UsageError, match=r"there is no scenario 'quikstart'.*did you mean 'quickstart'"):
        resolve("quikstart")
    for name in ("\0", "x" * 5000, "\udcff"):
        with pytest.raises(UsageError, match="there is no scenario"):
            resolve(name)


def test_importing_the_schema_imports_nothing_heavy() -> None:
    code = "import sys, ttsbench.scenarios.schema; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
