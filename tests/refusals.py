"""Scenarios that must be refused, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ttsbench.errors import ExitCode, ScenarioError
from ttsbench.scenarios.schema import parse

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
