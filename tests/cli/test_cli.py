"""The commands as a user meets them: what they print, how they end, and what they leave on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ttsbench import __version__
from ttsbench.cli import app, arguments
from ttsbench.errors import ExitCode
from ttsbench.model.families import files_of
from ttsbench.records import measurements, runs
from ttsbench.reports import metrics
from ttsbench.reports.tables import run_tables
from ttsbench.running import host

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "run", "profile", "kernels", "show", "history", "export", "compare", "gate", "bisect", "calibrate", "selftest",
    "doctor", "list", "validate", "schema", "checkpoint", "overhead",
)  # fmt: skip
GOOD = "name: s\nmodel: {size: tiny}\ndevice: cpu\nworkload: {texts: [Hello.]}\nstacks: {upstream: {}}\n"
LOCAL = GOOD.replace("size: tiny", "weights: weights")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Ttsbench = Callable[..., Ended]


@pytest.fixture
def ttsbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ttsbench:  # fmt: skip
    """Runs the console script here, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TTSBENCH_CACHE", str(tmp_path / "cache"))

    def called(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ttsbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return called


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(ttsbench: Ttsbench, *arguments: str) -> str:
    """The one line that a wrong command line or scenario gets; nothing is written."""
    before = files_below(Path.cwd())
    ended = ttsbench(*arguments)
    assert ended.code == ExitCode.USAGE, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("ttsbench: ")
    assert files_below(Path.cwd()) == before
    return lines[0]


ALIAS_BOMB = "name: s\na: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("", "s.yaml is empty"),
        ("# only a remark\n", "s.yaml is empty"),
        ("name: s\nstacks: {upstream: {}\nmeasure: {repeats: 1}\n", "s.yaml: line 3: this is not YAML"),
        ("name: s\n\tstacks: {}\n", "s.yaml: line 2: this is not YAML"),
        (GOOD + "mesure: {repeats: 1}\n", "line 6: mesure: unknown key; did you mean 'measure'?"),
        (GOOD + "measure: {repeat: 1}\n", "did you mean 'repeats'?"),
        (GOOD.replace("upstream: {}", "a: {decoder: lean}"), "unknown slot; did you mean 'decode'?"),
        (GOOD.replace("upstream: {}", "a: {decode: leen}"), "'leen' is no option of decode; did you mean 'lean'?"),
        (GOOD.replace("chatterbox", "").replace("size: tiny", "family: turbbo"), "did you mean 'turbo'?"),
        (GOOD + "measure: {repeats: often}\n", "line 6: measure.repeats: "),
        (GOOD + "measure: {repeats: -1}\n", "line 6: measure.repeats: "),
        (GOOD + "measure: {processes: 0}\n", "line 6: measure.processes: "),
        (GOOD.replace("stacks: {upstream: {}}", "stacks: 5"), "line 5: stacks: "),
        (GOOD.replace("stacks: {upstream: {}}", "stacks: {}"), "line 5: stacks: "),
        (GOOD + "matrix: {workload.length.fixed: []}\n", "line 6: matrix.workload.length.fixed: "),
        (GOOD + "baseline: upsteam\n", "'upsteam' is no stack; did you mean 'upstream'?"),
        (GOOD.replace("upstream: {}", "a: {}, a: {}"), "line 5: stacks.a: given twice"),
        (GOOD.replace("name: s", "name: a/b"), "line 1: name: "),
        (GOOD.replace("name: s", "name: a..b"), "line 1: name: "),
        (GOOD.replace("name: s", "name: ../../a"), "line 1: name: "),
        (GOOD.replace("upstream: {}", "../a: {}"), "line 5: "),
        (ALIAS_BOMB, "aliases unfold into more than"),
        (GOOD + "description: !!python/object/apply:os.getcwd []\n", "Python tag"),
        (GOOD.replace("[Hello.]", "[]"), "line 4: workload.texts: "),
        (GOOD.replace("texts: [Hello.]", "file: latin.txt"), "latin.txt is not UTF-8: line 2 holds the byte 0xe9"),
        (GOOD.replace("texts: [Hello.]", "file: none.txt"), "there is no file"),
        (GOOD.replace("texts: [Hello.]", "voice: {wav: none.wav}"), "there is no file"),
        (GOOD.replace("texts: [Hello.]", "voice: {wav: empty.wav}"), "empty.wav is not a sound file"),
        (GOOD.replace("texts: [Hello.]", "voice: {wav: latin.txt}"), "latin.txt is not a sound file"),
        (LOCAL, "there is no folder"),
    ],
)
def test_a_wrong_scenario_gets_one_line(ttsbench: Ttsbench, tmp_path: Path, text: str, output: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    (tmp_path / "latin.txt").write_bytes("one\ncafé\n".encode("latin-1"))
    (tmp_path / "empty.wav").touch()
    lines = {refused(ttsbench, command, "s.yaml") for command in ("run", "validate")}
    assert len(lines) == 1
    assert output in lines.pop()


def test_all_mistakes_are_told_each_on_its_line(ttsbench: Ttsbench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD + "mesure: {}\nbaseline: none\n")
    ended = ttsbench("validate", "s.yaml")
    assert ended.code == ExitCode.USAGE
    assert [line.partition(": line ")[2][:2] for line in ended.err.splitlines()] == ["6:", "7:"]


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("run", "none.yaml"), "there is no scenario 'none.yaml'"),
        (("run", "quickstrat"), "did you mean 'quickstart'?"),
        (("run", "."), "is a folder, not a file to read"),
        (("run",), "give a SCENARIO, or --resume RUN"),
        (("run", "quickstart", "--resume", "runs/x"), "give a SCENARIO, or --resume RUN"),
        (("run", "--resume", "runs/none"), "there is no runs/none"),
        (("run", "--resume", "."), "holds no journal.jsonl"),
        (("run", "--resume", "good.yaml"), "good.yaml:1 is not JSON"),
        (("run", "good.yaml", "--output", "good.yaml"), "good.yaml is a file, not a folder for runs"),
        (("run", "good.yaml", "--output", "good.yaml/runs"), "cannot be made: Not a directory"),
        (("run", "good.yaml", "--only", "upsteam"), "did you mean 'upstream'?"),
        (("run", "good.yaml", "--set", "measure.repeats"), "is not key=value"),
        (("run", "good.yaml", "--set", "measure.repeats=-1"), "--set measure.repeats"),
        (("validate", "none.yaml"), "there is no scenario"),
        (("show", "none"), "there is no none"),
        (("show", "."), "holds no run.json"),
        (("show", "good.yaml"), "good.yaml is not JSON"),
        (("show", "x" * 300), "is too long for a path"),
        (("run", "--resume", "x" * 300), "cannot be read: File name too long"),
        (("list", "nonsense"), "there is no listing 'nonsense'; allowed: options, scenarios, slots"),
        (("list", "slot"), "did you mean 'slots'?"),
        (("checkpoint", "x", "--family", "turbbo"), "did you mean 'turbo'?"),
        (("checkpoint", "x", "--size", "big"), "there is no size 'big'"),
        (("checkpoint", "x", "--dtype", "int8"), "there is no dtype 'int8'"),
        (("overhead", "--size", "big"), "there is no size 'big'"),
        (("profile",), "give a SCENARIO, or --diff A B"),
        (("profile", "quickstart", "--diff", "a", "b"), "give a SCENARIO, or --diff A B"),
        (("profile", "--diff", "a", "b"), "there is no a"),
        (("profile", "good.yaml", "--stack", "upsteam"), "did you mean 'upstream'?"),
        (("profile", "good.yaml", "--steps", "0"), "a window of 0 decode steps cannot be profiled; 1 to 1000"),
        (("profile", "good.yaml", "--steps", "1001"), "1 to 1000 are allowed"),
        (("profile", "good.yaml", "--set", "matrix={workload.seed: [0, 1]}"), "makes 2 cells of the stack 'upstream'"),
        (("profile", "claims-a", "--set", "device=cpu"), "a profile is of a whole utterance"),
    ],
)
def test_a_wrong_argument_gets_one_line(
    ttsbench: Ttsbench, tmp_path: Path, arguments: tuple[str, ...], output: str
) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    assert output in refused(ttsbench, *arguments)


@pytest.mark.parametrize("arguments", [("nonsense",), ("run", "--nonsense"), ("overhead", "--pairs", "-1")])
def test_what_typer_refuses_ends_with_the_same_code(ttsbench: Ttsbench, arguments: tuple[str, ...]) -> None:
    ended = ttsbench(*arguments)
    assert ended.code == ExitCode.USAGE
    assert "Error: " in ended.err
    assert "Traceback" not in ended.err


def write_weights(folder: Path) -> None:
    """Whole by their headers, with nothing in them."""
    folder.mkdir()
    header = json.dumps({"a": {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]}}).encode()
    for name in files_of("chatterbox").names:
        if name.endswith(".safetensors"):
            (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
        elif name.endswith(".pt"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr("data", bytes(64))
        else:
            (folder / name).write_text("{}")


def test_whole_local_weights_are_planned(ttsbench: Ttsbench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(LOCAL)
    write_weights(tmp_path / "weights")
    ended = ttsbench("run", "s.yaml", "--plan")
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("name", ["ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors", "tokenizer.json"])
def test_weights_that_lack_a_file_are_refused(ttsbench: Ttsbench, tmp_path: Path, name: str) -> None:
    (tmp_path / "s.yaml").write_text(LOCAL)
    write_weights(tmp_path / "weights")
    (tmp_path / "weights" / name).unlink()
    assert f"weights lacks {name}" in refused(ttsbench, "run", "s.yaml")


@pytest.mark.parametrize("name", ["t3_cfg.safetensors", "conds.pt", "tokenizer.json"])
def test_truncated_weights_are_refused(ttsbench: Ttsbench, tmp_path: Path, name: str) -> None:
    (tmp_path / "s.yaml").write_text(LOCAL)
    write_weights(tmp_path / "weights")
    path = tmp_path / "weights" / name
    path.write_bytes(path.read_bytes()[:-1])
    assert f"weights is damaged: {name} (" in refused(ttsbench, "run", "s.yaml")


def test_a_device_that_no_cell_uses_need_not_be_there(
    ttsbench: Ttsbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host.machine().has_cuda:
        pytest.skip("there is a GPU here")
    (tmp_path / "s.yaml").write_text(GOOD.replace("device: cpu", "device: cuda") + "matrix: {device: [cpu]}\n")
    monkeypatch.setattr("ttsbench.running.runner.execute", lambda *_: None)
    assert ttsbench("run", "s.yaml").code == 0
    [folder] = tmp_path.glob("runs/s-*")
    assert runs.read_run(folder).environment["device"] == "cpu"


def test_a_run_in_which_nothing_can_be_measured_is_not_begun(ttsbench: Ttsbench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD + "measure: {repeats: 1}\n")
    output = refused(ttsbench, "run", "s.yaml", "--set", "workload.sampling.cfg_weight=0")
    assert output.startswith("ttsbench: nothing can be measured here; upstream: the package's own loop crashes")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_before_the_first_job_leaves_nothing(
    ttsbench: Ttsbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    before = files_below(tmp_path)
    monkeypatch.setattr(host, "fingerprint", lambda _: os.kill(os.getpid(), number))
    assert ttsbench("run", "s.yaml").code == ExitCode.INTERRUPTED
    assert files_below(tmp_path) == before


def test_a_signal_while_results_are_written_leaves_them_to_be_resumed(
    ttsbench: Ttsbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    monkeypatch.setattr("ttsbench.running.runner.execute", lambda *_: None)
    report = "ttsbench.reports.pages.report_markdown.report"
    monkeypatch.setattr(report, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert ttsbench("run", "s.yaml").code == ExitCode.INTERRUPTED
    [folder] = tmp_path.glob("runs/s-*")
    assert {path.name for path in folder.iterdir()} == {"journal.jsonl", "run.json", "samples.csv"}


def test_cuda_where_there_is_none_is_refused(ttsbench: Ttsbench, tmp_path: Path) -> None:
    if host.machine().has_cuda:
        pytest.skip("there is a GPU here")
    (tmp_path / "good.yaml").write_text(GOOD)
    output = refused(ttsbench, "run", "good.yaml", "--set", "device=cuda")
    assert "device cuda is asked for, and there is none" in output
    assert "--set device=cpu" in output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_permission_is_refused(ttsbench: Ttsbench, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused(ttsbench, "run", "good.yaml", "--output", "locked")


def test_ctrl_c_before_a_run_is_no_regression(ttsbench: Ttsbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(host, "machine", interrupt)
    ended = ttsbench("run", "quickstart")
    assert ended.code == ExitCode.INTERRUPTED
    assert "Traceback" not in ended.err


def test_what_nobody_foresaw_is_told_in_a_line_and_is_no_regression(
    ttsbench: Ttsbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("of this machine\nand more")

    monkeypatch.setattr(host, "machine", fail)
    ended = ttsbench("doctor")
    output = "ttsbench: internal error: ZeroDivisionError: of this machine (TTSBENCH_DEBUG=1 shows where)\n"
    assert (ended.code, ended.err) == (ExitCode.INTERNAL, output)
    monkeypatch.setenv("TTSBENCH_DEBUG", "1")
    ended = ttsbench("doctor")
    assert ended.code == ExitCode.INTERNAL
    assert ended.err.startswith("Traceback")
    assert ended.err.endswith(output)


PRINTING = ("list", "schema", "validate quickstart", "run quickstart --plan", "--help", "--version")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("line", PRINTING)
def test_an_output_that_cannot_be_written_is_no_regression(line: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "ttsbench", *line.split()],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (ExitCode.INTERNAL, "ttsbench: the output: No space left on device\n")


@pytest.mark.parametrize("line", PRINTING)
def test_a_reader_that_left_is_no_regression(line: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "ttsbench", *line.split()],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (ExitCode.PIPE_CLOSED, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(ttsbench: Ttsbench, command: str) -> None:
    ended = ttsbench(command, "--help")
    assert ended.code == 0
    assert f"Example: ttsbench {command}" in ended.out


def test_help_groups_every_command_and_cuts_no_summary(ttsbench: Ttsbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = ttsbench("--help").out.splitlines()
    titles = [lines.index(f"{group}:") for group in ("Measure", "Understand", "Decide", "Maintain")]
    assert titles == sorted(titles)
    summaries = [line.split(maxsplit=1) for line in lines[titles[0] : lines.index("  Exit codes:")] if "  " in line]
    assert {name for name, _ in summaries} == set(COMMANDS)
    assert all(summary.endswith(".") and "..." not in summary for _, summary in summaries)


def test_help_names_every_exit_code(ttsbench: Ttsbench) -> None:
    codes = ttsbench("--help").out.partition("Exit codes:")[2]
    assert all(f"{code.value}  {code.meaning}\n" in codes for code in ExitCode)


def test_version(ttsbench: Ttsbench) -> None:
    assert ttsbench("--version").out == f"ttsbench {__version__}\n"


def test_list_shows_scenarios_slots_and_options(ttsbench: Ttsbench) -> None:
    output = ttsbench("list").out
    assert all(word in output for word in ("quickstart", "multilingual", "watermark", "decode: lean", "analyzer: off"))
    assert "quickstart" not in ttsbench("list", "slots").out


def test_doctor_says_of_each_option_whether_it_runs(ttsbench: Ttsbench) -> None:
    ended = ttsbench("doctor")
    assert ended.code == 0
    assert "CPU: " in ended.out
    assert "GPU: " in ended.out
    assert any("decode: lean" in line and "runs here" in line for line in ended.out.splitlines())


def test_schema_is_json(ttsbench: Ttsbench) -> None:
    assert {"name", "stacks"} <= set(json.loads(ttsbench("schema").out)["properties"])


def test_validate_counts_the_cells(ttsbench: Ttsbench) -> None:
    assert ttsbench("validate", "quickstart").out == "quickstart: fine, 3 cells\n"


def test_a_plan_starts_and_writes_nothing(
    ttsbench: Ttsbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("ttsbench.running.runner.run_job", lambda *_: pytest.fail("a job was started"))
    ended = ttsbench("run", "quickstart", "--plan", "--set", "device=cpu", "--set", "workload.sampling.cfg_weight=0")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("quickstart: 10 processes\n")
    assert "upstream  cannot run: " in ended.out
    assert ended.out.splitlines()[-1].startswith("about ")
    assert not files_below(tmp_path)


def test_show_prints_a_record(ttsbench: Ttsbench, tmp_path: Path, make_run: Callable[..., runs.Run]) -> None:
    runs.write_run(tmp_path, make_run())
    for where in (".", "run.json"):
        ended = ttsbench("show", where, "--evidence")
        assert ended.code == 0
        assert "upstream" in ended.out
        assert "0.500" in ended.out


def test_show_writes_the_page_again(ttsbench: Ttsbench, tmp_path: Path, make_run: Callable[..., runs.Run]) -> None:
    runs.write_run(tmp_path, make_run(scenario="mine"))
    assert ttsbench("show", ".", "--html", "page.html").out == "page.html\n"
    assert "<h1>mine</h1>" in (tmp_path / "page.html").read_text()
    assert "missing/page.html cannot be written" in refused(ttsbench, "show", ".", "--html", "missing/page.html")


@pytest.mark.parametrize("width", ["20", "80", "300"])
def test_no_figure_is_ever_cut(
    ttsbench: Ttsbench, tmp_path: Path, make_run: Callable[..., runs.Run], make_cell: Callable[..., runs.Cell],
    make_utterance: Callable[..., measurements.Utterance], monkeypatch: pytest.MonkeyPatch, width: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", width)
    times = {stage: measurements.StageTime(1234.5 + n, 2345.6 + n) for n, stage in enumerate(metrics.STAGES)}
    cells = [
        make_cell(
            stack=name, key=name, utterances=(make_utterance(wall_seconds=12345.6, stages=times),),
            memory=measurements.Memory(2**40 + n, 2**41 + n, 2**42, 2**43, 2**44, 2**45, 2**46),
        )
        for n, name in enumerate(["upstream", *(f"a-stack-with-a-long-name-{n}" for n in range(5))])
    ]  # fmt: skip
    run = make_run(cells=tuple(cells))
    runs.write_run(tmp_path, run)
    words = ttsbench("show", ".", "--evidence").out.split()
    shown = [*run_tables.overview(run), *run_tables.stages(run), *run_tables.memory(run)]
    assert {text for table in shown for row in table.texts for text in row[1:]} <= set(words)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'{"schema_version": 99}',
        b'{"schema_version": 1}',
        b"[" * 100_000,
        b'{"schema_version": ' + b"9" * 5000 + b"}",
    ],
)
def test_show_refuses_garbage(ttsbench: Ttsbench, tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "run.json").write_bytes(garbage)
    assert "run.json" in refused(ttsbench, "show", ".")


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]\n", b"{}\n", b'{"header": 3}\n', b"\xff\n", b"[" * 100_000 + b"\n"]
)
def test_resume_refuses_garbage(ttsbench: Ttsbench, tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(garbage)
    assert "journal.jsonl" in refused(ttsbench, "run", "--resume", ".")


def test_completion_knows_the_shipped_scenarios() -> None:
    assert arguments.complete_scenario("qui") == ["quickstart"]
    assert arguments.complete_scenario("nonsense") == []


def test_completion_prints_a_script() -> None:
    script = in_a_process(
        "-m", "ttsbench", "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "COMPLETE" in script
    assert "complete " in script


def test_completion_answers_the_shell() -> None:
    code = "import sys; from ttsbench.cli import app; sys.argv = ['ttsbench']; app.main()"
    words = {"COMP_WORDS": "ttsbench run qui", "COMP_CWORD": "2", "_TTSBENCH_COMPLETE": "complete_bash"}
    assert in_a_process("-c", code, **words).split() == ["quickstart"]


def test_what_only_reads_imports_nothing_heavy(tmp_path: Path, make_run: Callable[..., runs.Run]) -> None:
    runs.write_run(tmp_path, make_run())
    code = f"""
import sys
from ttsbench.cli import app
for line in (
    "--help", "run --help", "validate quickstart", "list", "show {tmp_path}", "run quickstart --plan", "schema"
):
    sys.argv = ["ttsbench", *line.split()]
    try:
        app.main()
    except SystemExit as ended:
        assert not ended.code, line
    heavy = {{"torch", "chatterbox", "transformers", "numpy", "pandas"}} & set(sys.modules)
    assert not heavy, (line, heavy)
"""
    in_a_process("-c", code)


def in_a_process(*arguments: str, **variables: str) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_validate_names_what_cannot_run(ttsbench: Ttsbench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\nstacks: {upstream: {}, graph: {decode: cuda_graph, sampler: lean}}\n")
    ended = ttsbench("validate", str(tmp_path / "s.yaml"))
    assert ended.code == 0
    assert ended.out.startswith(
        "s: 2 cells, 1 of which cannot run\ngraph cannot run: decode: cuda_graph needs cache: static"
    )
