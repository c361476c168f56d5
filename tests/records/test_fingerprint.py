from __future__ import annotations

import pytest

from ttsbench.records import fingerprint

HERE = {
    "gpu": {"name": "H200", "driver": "570"},
    "ttsbench": {"sha256": "a", "git_commit": "b"},
    "packages": {"torch": "2"},
}


@pytest.mark.parametrize(
    ("dotted", "value"),
    [("gpu.name", "H200"), ("packages", {"torch": "2"}), ("gpu.mig", None), ("gpu.name.x", None), ("x.y", None)],
)
def test_what_is_not_there_is_none(dotted: str, value: object) -> None:
    assert fingerprint.look_up(HERE, dotted) == value


def test_another_driver_is_another_machine_and_no_other_code() -> None:
    other = {**HERE, "gpu": {"name": "H200", "driver": "575"}}
    assert fingerprint.differing(fingerprint.MACHINE, HERE, other) == ["gpu.driver"]
    assert fingerprint.differing(fingerprint.ENVIRONMENT, HERE, other) == ["gpu"]
    assert fingerprint.differing(fingerprint.CODE, HERE, other) == []


def test_a_machine_is_named_for_its_gpu_or_else_its_cpu() -> None:
    assert fingerprint.machine_name(HERE) == "H200"
    assert fingerprint.machine_name({"gpu": None, "cpu": {"model": "EPYC"}}) == "EPYC"
    assert fingerprint.machine_name({}) == "an unknown machine"
