"""The scenarios that ship with ttsbench, by name. To describe them checks nothing: that takes ten times as long."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def descriptions() -> dict[str, str]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {name: yaml.load(path.read_bytes(), loader).get("description", "") for name, path in shipped().items()}
