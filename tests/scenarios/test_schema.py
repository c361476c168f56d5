from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import pytest
import yaml

from refusals import STACKS, Refusal
from ttsbench.errors import UsageError
from ttsbench.scenarios import files
from ttsbench.scenarios.schema import load, parse, resolve
from ttsbench.scenarios.shipped import shipped

pytest_plugins = ("refusals",)


def write_wav(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * round(16_000 * seconds)))
    return path


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


@pytest.mark.parametrize(("value", "output"), CHUNK_MISTAKES.items(), ids=CHUNK_MISTAKES)
def test_a_mistake_in_chunks_is_one_line(refusal: Refusal, value: str, output: str) -> None:
    text = f"name: a\nstacks:\n  w: {{stream: windowed}}\nworkload:\n  streaming: {value}\n"
    assert refusal(text) == [f"line 5: workload.streaming.{output}"]


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


def test_a_root_that_is_no_mapping(refusal: Refusal) -> None:
    assert refusal("- name: a\n") == ["line 1: should be a mapping (key: value), not a list"]


def test_yaml_that_does_not_parse(refusal: Refusal) -> None:
    (output,) = refusal("name: a\nstacks: {upstream: {}\nmodel: {}\n")
    assert output.startswith("line 3: this is not YAML: ")


def test_an_alias_bomb(refusal: Refusal) -> None:
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(5))
    (output,) = refusal(bomb)
    assert "the aliases unfold into more than 10,000 values" in output


def test_a_python_tag(refusal: Refusal) -> None:
    (output,) = refusal(f"name: a\n{STACKS}description: !!python/name:os.system\n")
    assert output.startswith("line 5: description: the Python tag !!python/name:os.system is refused")


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
    assert scenario.workload.sampling.set_values() == {}


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
    "voice that is text": ("voice: {wav: bad.wav}", b"Hello, I am no wav.", "{file} is not a sound file"),
    "empty voice": ("voice: {wav: bad.wav}", b"", "{file} is not a sound file"),
    "wav without samples": ("voice: {wav: bad.wav}", b"RIFF\x04\0\0\0WAVE", "{file} is not a sound file"),
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


@pytest.mark.parametrize(("workload", "held", "output"), FILE_MISTAKES.values(), ids=FILE_MISTAKES)
def test_files_that_cannot_be_used(refusal: Refusal, tmp_path: Path, workload: str, held: bytes, output: str) -> None:
    path = tmp_path / ("bad.wav" if "wav" in workload else "bad")
    path.write_bytes(held)
    workload = workload if workload.startswith("{") else f"{{{workload}}}"
    (line,) = refusal(f"name: a\n{STACKS}workload:\n  {workload}\n")
    assert line.startswith("line 6: workload.")
    assert output.replace("{file}", str(path)) in line


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
    output = {(cell.model.family, cell.workload.language) for cell in scenario.cells()}
    assert output == {("chatterbox", None), ("multilingual", "en"), ("multilingual", "de")}


@pytest.mark.parametrize(
    ("held", "output"),
    [
        (b"", "is empty. A scenario needs at least a name and stacks"),
        (b"# nothing\n", "is empty. A scenario needs at least a name and stacks"),
        (b"name: a\ndescription: sch\xf6n\n", "is not UTF-8: line 2 holds the byte 0xf6"),
        (b"#" * (files.TEXT_BYTES_MAX + 1), "is larger than 1 MiB"),
    ],
)
def test_scenario_files_that_cannot_be_read(tmp_path: Path, held: bytes, output: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(held)
    with pytest.raises(UsageError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file} {output}")


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


OLDER = """
name: a
stacks: {upstream: {}, windows: {stream: windowed, decode: lean}}
matrix: {workload.streaming.first_alone: [true, false]}
measure: {passes: [time]}
workload:
  load: {listeners: [1], requests: 4, targets: {ttfa_seconds: 1}, again: played}
"""


def test_keys_under_their_older_names_are_read_with_a_note() -> None:
    older = parse(OLDER, "x", Path())
    newer = parse(OLDER.replace("first_alone", "pause_for_first_chunk").replace("again:", "next_request:"), "x", Path())
    assert [cell.workload for cell in older.cells()] == [cell.workload for cell in newer.cells()]
    assert older.understood() == newer.understood()
    assert newer.notes == ()
    assert [note.partition(" is now")[0] for note in older.notes] == [
        "workload.load.again",
        "workload.streaming.first_alone",
    ]


def test_a_key_under_both_names_is_a_mistake(refusal: Refusal) -> None:
    lines = refusal(OLDER.replace("again: played", "again: played, next_request: delivered"))
    assert any("workload.load.again: unknown key" in line for line in lines)
