"""The gate on a true model: real modules at tiny size on the CPU, in real processes, two versions of this very code."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from ttsbench.errors import ExitCode

SCENARIO = """
name: tiny
model: {size: tiny}
device: cpu
workload: {texts: [One short sentence.], length: {fixed: 8}}
stacks: {lean: {decode: lean, watermark: "off"}}
measure: {processes: 2, warmup: 1, repeats: 12, passes: [time]}
"""
BEFORE = '        self._remember(self.tts.s3gen, "inference")\n'
# Of an utterance so short, the estimator's solve takes about 60 %.
SLOWER_CFM = """
        import time
        solve = self.tts.s3gen.flow.decoder.forward

        def slower(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            found = solve(*args, **kwargs)
            spent = time.perf_counter() - began
            while time.perf_counter() - began < 1.24 * spent:
                pass
            return found

        self.tts.s3gen.flow.decoder.forward = slower
"""
PLANTED = 0.15
SECONDS_MAX = 240  # 60 to 90 where nothing else runs
SAME_CODE_TIMES = 20
SAME_CODE_SECONDS_MAX = 600  # 215 for all 15 pairs, which most of them take

pytestmark = pytest.mark.alone


@pytest.mark.timeout(SECONDS_MAX + 60)
def test_a_planted_slowdown_of_one_stage_is_found_and_named(bench: Any) -> None:
    """Where the machine is so busy that it cannot be seen, the gate has to say that, and must not pass it."""
    bench.scenario.write_text(SCENARIO)
    bench.change("ttsbench/model/pipeline.py", BEFORE, BEFORE + SLOWER_CFM)
    try:
        ended = bench.gate("--base", "HEAD", seconds_max=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        pytest.skip(f"too busy a machine: no verdict within {SECONDS_MAX} s")
    assert ended.returncode in (ExitCode.SLOWER, ExitCode.INCONCLUSIVE), ended.stdout + ended.stderr
    [result] = json.loads((bench.folder() / "comparison.json").read_text())["comparisons"]
    rtf = result["figures"]["rtf"]
    if ended.returncode == ExitCode.INCONCLUSIVE:
        assert rtf["high"] > 1 + PLANTED
        pytest.skip(f"too busy a machine: {rtf['low']:.2f} to {rtf['high']:.2f}, {rtf['reason']}; {result['notes']}")
    assert 1.03 < rtf["low"] < 1 + PLANTED < 1.5
    assert any(note.startswith("lean: cfm took") for note in result["notes"]), result["notes"]
    assert "second series, RTF: 1." in ended.stdout
    assert bench.worktrees() == 1


@pytest.mark.timeout(SAME_CODE_TIMES * SAME_CODE_SECONDS_MAX)
def test_the_same_code_is_never_called_slower(bench: Any) -> None:
    bench.scenario.write_text(SCENARIO)
    ended = [bench.gate("--base", "HEAD", seconds_max=SAME_CODE_SECONDS_MAX).returncode for _ in range(SAME_CODE_TIMES)]
    assert set(ended) <= {ExitCode.OK, ExitCode.INCONCLUSIVE}, ended
