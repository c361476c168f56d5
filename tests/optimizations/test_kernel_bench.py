"""`ttsbench kernels`: what it refuses, what it calls wrong, what it writes. Timing itself needs a GPU."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ttsbench.cli import app
from ttsbench.errors import ExitCode
from ttsbench.optimizations.kernels import catalog, kernel
from ttsbench.records.kernels import DTYPES, KernelRun, KernelTiming, MeasuredCeilings
from ttsbench.reports.pages import kernels_plot
from ttsbench.reports.tables import kernels as report
from ttsbench.running import host, kernel_bench

ON_CPU = pytest.mark.skipif(host.machine().has_cuda, reason="this is about machines without a GPU")
Kernels = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kernels:
    """Runs the command here; its exit code and what it printed."""

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ttsbench", "kernels", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return called


def plant(monkeypatch: pytest.MonkeyPatch, name: str, contender: str, forward: Callable[..., Any]) -> None:
    """Puts a contender into the place of another."""
    cases = catalog.cases()
    change: dict[str, Any] = {{"triton": "ours", "eager": "reference"}[contender]: forward}
    planted = replace(cases[name], **change)
    monkeypatch.setattr(catalog, "cases", lambda: {**cases, name: planted})


def test_the_names_that_are_read_from_the_files_are_those_of_the_cases() -> None:
    assert tuple(catalog.cases()) == catalog.case_names()
    assert tuple(kernel.DTYPES) == DTYPES


def test_an_unknown_name_is_refused_with_the_nearest_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from ttsbench.cli import app; sys.argv = ['ttsbench', 'kernels', 'rms_nrom', '--output', 'out']\n"
        "try: app.main()\nfinally: print('torch' in sys.modules)"
    )
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=path,
                           check=False)  # fmt: skip
    assert ended.returncode == ExitCode.USAGE
    assert "there is no kernel 'rms_nrom'; did you mean 'rms_norm'? (allowed: add_rms_norm, " in ended.stderr
    assert ended.stdout.strip() == "False"
    assert list(tmp_path.iterdir()) == []


def test_only_the_dtypes_that_are_asked_for(kernels: Kernels) -> None:
    code, _, err = kernels("rope", "--dtype", "bf61")
    assert code == ExitCode.USAGE
    assert "'bf61'" in err
    assert "bf16" in err
    code, out, _ = kernels("rope", "--dtype", "fp16", "-q")
    assert code == ExitCode.OK
    assert "fp16" in out
    assert "bf16" not in out


def test_what_was_measured_before_somebody_stopped_it_is_kept(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = kernel_bench.row_of

    def stop_at_the_third(case: Any, shape: Any, dtype: str, *rest: Any, **named: Any) -> Any:
        if dtype == "fp16":
            raise KeyboardInterrupt
        return whole(case, shape, dtype, *rest, **named)

    monkeypatch.setattr(kernel_bench, "row_of", stop_at_the_third)
    code, out, _ = kernels("rope", "-q", "--output", str(tmp_path))
    assert code == ExitCode.INTERRUPTED
    assert "stopped after 2 rows" in out
    written = json.loads((tmp_path / "kernels.json").read_text())
    assert not written["complete"]
    assert {row["dtype"] for row in written["rows"]} == {"fp32"}


def test_a_folder_that_cannot_be_made_is_refused_first(kernels: Kernels, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out, err = kernels("rope", "--output", str(tmp_path / "file"))
    assert (code, out) == (ExitCode.USAGE, "")
    assert "cannot be made" in err


@ON_CPU
def test_without_a_gpu_all_are_checked_and_nothing_is_timed(kernels: Kernels, tmp_path: Path) -> None:
    code, out, err = kernels("--output", str(tmp_path / "out"))
    assert code == ExitCode.OK, out + err
    assert "timing needs a GPU" in out
    written = json.loads((tmp_path / "out" / "kernels.json").read_text())
    rows = written["rows"]
    assert {row["kernel"] for row in rows} == set(catalog.case_names())
    assert {(row["kernel"], row["dtype"], row["contender"]) for row in rows} == {
        (kernel, dtype, contender)
        for kernel in catalog.case_names()
        for dtype in ("fp32", "fp16", "bf16")
        for contender in ("eager", "triton")
    }
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["microseconds"] == {} for row in rows)
    assert written["ceilings"] is None
    assert written["environment"]["packages"]["torch"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "kernels.csv", "kernels.json"}


@ON_CPU
@pytest.mark.parametrize(
    ("forward", "output"),
    [
        (lambda x, weight: x * weight, "exceeds"),
        (lambda x, weight: torch.empty_like(x).fill_(torch.nan), "values that are not finite"),
        (lambda x, weight: x[:1], "shape (1, 257), not (3, 257)"),
    ],
)
def test_a_wrong_kernel_is_told_and_ends_with_5(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, forward: Callable[..., Any], output: str
) -> None:
    plant(monkeypatch, "rms_norm", "triton", forward)
    code, out, _ = kernels("rms_norm", "-q")
    assert code == ExitCode.QUALITY
    assert "wrong: small 3×257 bf16 triton:" in " ".join(out.split())
    assert output in " ".join(out.split())


@ON_CPU
def test_a_kernel_that_is_right_only_once_is_wrong(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh inputs on each check: an answer kept from the first does not pass."""
    kept: list[torch.Tensor] = []

    def remembers(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        kept.append(torch.nn.functional.silu(gate) * up)
        return next(answer for answer in kept if answer.dtype == gate.dtype)

    plant(monkeypatch, "silu_mul", "triton", remembers)
    assert kernels("silu_mul", "-q")[0] == ExitCode.QUALITY


@ON_CPU
def test_a_wrong_gradient_is_wrong(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    def detached(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(gate) * up + 0 * gate - (up - up.detach())

    plant(monkeypatch, "silu_mul_grad", "triton", detached)
    assert kernels("silu_mul_grad", "-q")[0] == ExitCode.QUALITY


@ON_CPU
def test_a_sampler_that_leaves_its_token_unwritten_is_wrong(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    plant(monkeypatch, "sampler_gpt2", "triton", lambda *inputs: inputs[-1])
    assert kernels("sampler_gpt2", "-q")[0] == ExitCode.QUALITY


@ON_CPU
def test_a_kernel_that_raises_is_a_row_and_the_others_go_on(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of resource\nand more")

    plant(monkeypatch, "rope", "triton", raises)
    code, out, _ = kernels("rope", "silu_mul", "-q")
    assert code == ExitCode.CELL_FAILED
    assert "fp16 triton: out of resource" in " ".join(out.split())
    assert "silu_mul" in out


@ON_CPU
def test_a_twin_that_is_wrong_is_told_and_does_not_fail_ours(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    plant(monkeypatch, "rms_norm", "eager", lambda x, weight: x)
    code, out, _ = kernels("rms_norm", "-q")
    assert code == ExitCode.OK
    assert "wrong: small 3×257 fp32 eager" in " ".join(out.split())


def test_bytes_are_those_of_inputs_and_outputs_and_twice_with_a_gradient() -> None:
    inputs = (torch.empty(2, 8), torch.empty(2, 8))
    outputs = (torch.empty(2, 8),)
    assert kernel_bench.bytes_of(catalog.cases()["silu_mul"], inputs, outputs) == 3 * 64
    with_gradients = (*outputs, *inputs)
    # gate and up twice, the gradient of the output; the output and two gradients written.
    assert kernel_bench.bytes_of(catalog.cases()["silu_mul_grad"], inputs, with_gradients) == (4 + 1 + 3) * 64


@pytest.fixture
def timed() -> KernelRun:
    """Eager at 10 µs warm, ours at 4; 40 MB at 4 TB/s take 10 µs at least, and ours takes 12.5 cold."""

    def row(contender: str, graph: float, cold: float, **changes: Any) -> KernelTiming:
        times = {"graph": (graph, graph * 0.9, graph * 1.1), "cold": (cold,), "eager": (40.0,)}
        facts = (1e-3, 0.01, 1.6e-2, 40_000_000, 0)
        made = KernelTiming("rms_norm", "Spark 512×896", "bf16", contender, "ok", "", *facts, times)
        return replace(made, **changes)

    rows = (
        row("eager", 10.0, 20.0),
        row("triton", 4.0, 12.5),
        row("liger", 0.0, 0.0, status="wrong", reason="relative error 1.0e+00 exceeds 1.6e-02", microseconds={}),
    )
    return KernelRun(1, "0", {"gpu": {"name": "none"}}, rows, MeasuredCeilings(4e12, {"bf16": 8e14}, 60_000_000))


def test_the_csv_has_a_line_per_row_and_empty_cells_where_there_is_no_figure(timed: KernelRun) -> None:
    eager, ours, wrong = csv.DictReader(io.StringIO(report.to_csv(timed)))
    assert tuple(eager) == report.CSV_COLUMNS
    assert (ours["graph_microseconds"], ours["cold_microseconds"], ours["eager_microseconds"]) == (
        "4.0",
        "12.5",
        "40.0",
    )
    assert float(ours["graph_speed_up"]) == 2.5
    assert float(ours["cold_bytes_per_second"]) == pytest.approx(3.2e12)
    assert float(ours["share_of_ceiling"]) == pytest.approx(0.8)
    assert (wrong["status"], wrong["graph_microseconds"], wrong["share_of_ceiling"]) == ("wrong", "", "")
    assert wrong["reason"].startswith("relative error")


def test_the_ceiling_is_that_of_operations_where_they_take_longer_than_bytes(timed: KernelRun) -> None:
    assert timed.ceilings is not None
    busy = replace(timed.rows[1], flops=4_000_000_000_000 // 400)
    assert timed.ceilings.share(busy) == pytest.approx(1.0)


def test_the_table_shows_times_shares_and_what_was_wrong(timed: KernelRun) -> None:
    (table,) = report.tables(timed)
    eager, ours, wrong = (dict(zip(table.header, row, strict=True)) for row in table.texts)
    assert (ours["graph µs"], ours["cold µs"], ours["rate"]) == ("4.00", "12.50", "3200 GB/s")
    assert (ours["ceiling"], ours["speed-up"], eager["speed-up"]) == ("80%", "2.50×", "1.00×")
    assert (wrong["graph µs"], wrong["cold µs"]) == ("wrong", "–")
    assert any("Spark 512×896 bf16 liger: relative error" in note for note in table.notes)
    assert "copy 4000 GB/s" in report.to_markdown(timed)


def test_the_plot_is_an_svg_and_is_left_out_where_nothing_was_timed(timed: KernelRun) -> None:
    plot = kernels_plot.plot(timed)
    assert plot is not None
    assert xml.etree.ElementTree.fromstring(plot.document).tag.endswith("svg")
    untimed = replace(timed, rows=tuple(replace(row, microseconds={}) for row in timed.rows))
    assert kernels_plot.plot(untimed) is None


@pytest.mark.gpu
class TestOnGpu:
    def test_every_contender_of_every_kernel_is_right_and_timed(self, kernels: Kernels, tmp_path: Path) -> None:
        code, out, err = kernels("--quick", "--output", str(tmp_path))
        assert code == ExitCode.OK, out + err
        written = json.loads((tmp_path / "kernels.json").read_text())
        assert [row for row in written["rows"] if row["status"] != "ok"] == []
        assert [row for row in written["rows"] if set(row["microseconds"]) != {"graph", "cold", "eager"}] == []
        assert {row["contender"] for row in written["rows"]} == {"eager", "compiled", "liger", "triton"}
        assert written["ceilings"]["copy_bytes_per_second"] > 1e11
        assert (tmp_path / "kernels.svg").exists()

    def test_a_cold_l2_costs_what_reading_from_memory_costs(self) -> None:
        """8 MiB are read from the L2 when warm; cold, they come at most as fast as a large copy goes."""
        source = torch.randn(2**21, device="cuda")
        target = torch.empty_like(source)

        def call() -> torch.Tensor:
            return target.copy_(source)

        warm = sorted(kernel_bench.graph_times(call, 20))[10]
        cold = sorted(kernel_bench.cold_times(call, 20))[10]
        assert cold > warm

    def test_a_wrong_kernel_is_never_timed(self, kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
        plant(monkeypatch, "rms_norm", "triton", lambda x, weight: torch.empty_like(x))
        code, out, _ = kernels("rms_norm", "--quick", "-q")
        assert code == ExitCode.QUALITY
        assert "values that are not finite" in out or "exceeds" in out
