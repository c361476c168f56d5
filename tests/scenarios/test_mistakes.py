from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusals import STACKS, Refusal
from ttsbench.errors import suggest
from ttsbench.optimizations import registry

pytest_plugins = ("refusals",)

# The first three lines of every text are the name and the stacks, so that what is at fault begins on line 5.
ONE_MISTAKE = {
    "unknown key": (
        "measures: {}",
        (
            "line 5: measures: unknown key; did you mean 'measure'? (allowed: baseline, claims, description, device, "
            "exclude, fake, matrix, measure, model, name, quality, stacks, workload)"
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
            "(allowed: chatterbox, multilingual, nano, spark-tts, turbo)"
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
            "line 5: a�b�[1m: unknown key; allowed: baseline, claims, description, device, exclude, fake, matrix, "
            "measure, model, name, quality, stacks, workload"
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
        "line 7: exclude[0].workload.seed: 3 is not one of its values: 1, 2",
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


@pytest.mark.parametrize(("text", "output"), ONE_MISTAKE.values(), ids=ONE_MISTAKE)
def test_one_mistake_is_one_line(refusal: Refusal, tmp_path: Path, text: str, output: str) -> None:
    assert refusal(f"name: a\n{STACKS}{text}\n") == [output.replace("{base}", str(tmp_path))]


@pytest.mark.parametrize("name", ["a/b", "..", "a..b", "../a", "A", "", ".a", "a b", "a\\b", "a" * 65, "ä"])
def test_names_that_could_not_be_folders(refusal: Refusal, name: str) -> None:
    (output,) = refusal(f"# comment\nname: {json.dumps(name)}\n{STACKS}")
    assert output.startswith("line 2: name: ")
    assert "cannot be the name" in output
    assert "lower-case letters" in output


STACK_MISTAKES = {
    "unknown slot": (
        "stacks: {lean: {decoder: lean}}",
        f"line 2: stacks.lean.decoder: unknown slot; {suggest('decoder', registry.BY_NAME)}",
    ),
    "unknown option": (
        "stacks:\n  upstream: {}\n  lean:\n    decode: leen",
        (
            "line 5: stacks.lean.decode: 'leen' is no option of decode; did you mean 'lean'? "
            "(allowed: cuda_graph, lean, persistent, upstream)"
        ),
    ),
    "a boolean where there is no on or off": (
        "stacks: {lean: {decode: on}}",
        "line 2: stacks.lean.decode: 'on' is no option of decode; allowed: cuda_graph, lean, persistent, upstream",
    ),
    "a list of options": (
        "stacks: {lean: {decode: [lean]}}",
        "line 2: stacks.lean.decode: a list is no option of decode; allowed: cuda_graph, lean, persistent, upstream",
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


@pytest.mark.parametrize(("text", "output"), STACK_MISTAKES.values(), ids=STACK_MISTAKES)
def test_mistakes_in_stacks(refusal: Refusal, text: str, output: str) -> None:
    assert output in refusal(f"name: a\n{text}\n")


def test_all_mistakes_are_told_together_and_none_twice(refusal: Refusal) -> None:
    output = refusal(
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
    assert [line.split(" ", 3)[:3] for line in output] == [
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
