from __future__ import annotations

from pathlib import Path

from ttsbench.instruments.tf32 import ALLOWED, FORBIDDEN, tf32, tf32_setting

ROOT = Path(__file__).parents[2]


def test_it_holds_for_a_block_and_what_was_before_comes_back() -> None:
    before = tf32_setting()
    with tf32():
        assert tf32_setting() == ALLOWED
        with tf32(FORBIDDEN):
            assert tf32_setting() == FORBIDDEN
        assert tf32_setting() == ALLOWED
    assert tf32_setting() == before


def test_nothing_else_sets_it() -> None:
    folders = ("cli", "gating", "optimizations", "reports", "scenarios", "ttsbench")
    files = {file.resolve() for folder in folders for file in (ROOT / folder).rglob("*.py")}
    assert {file.name for file in files if "allow_tf32" in file.read_text()} == {"tf32.py"}
