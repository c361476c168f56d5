from __future__ import annotations

from pathlib import Path

import pytest

from refusals import STACKS, Refusal
from ttsbench.errors import UsageError
from ttsbench.scenarios.schema import parse

pytest_plugins = ("refusals",)


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
    ("override", "output"),
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
def test_mistakes_in_overrides(refusal: Refusal, tmp_path: Path, override: str, output: str) -> None:
    (line,) = refusal(f"name: a\n{STACKS}matrix: {{workload.length: [natural]}}\n", override)
    assert line.startswith(output.replace("{base}", str(tmp_path)))


@pytest.mark.parametrize("override", ["measure.repeats", "=3", "measure..repeats=3", "", ".=1", "a." * 100 + "a=1"])
def test_overrides_that_are_none(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=r"is not key=value\. Write the path of one value"):
        parse(f"name: a\n{STACKS}", "a", tmp_path, [override])
