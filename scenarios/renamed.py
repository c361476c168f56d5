"""Keys that had another name in the last version: they are still read, with a note. The next version refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAKE_MOVED = "model.family: fake and model.fake are now the section `fake`"
# The section, the key's name until 0.1, and its present name.
RENAMED = (
    (("workload", "load"), "again", "next_request"),
    (("workload", "streaming"), "first_alone", "pause_for_first_chunk"),
)


def with_present_names(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The data with the present names, and a note for each key that had another one."""
    data, notes = _with_fake_section(data)
    for section, old, new in RENAMED:
        changed = _renamed(_renamed_axis(data, ".".join((*section, old)), ".".join((*section, new))), section, old, new)
        if changed != data:
            notes.append(f"{'.'.join(section)}.{old} is now called {new}")
        data = changed
    return data, tuple(f"{note}; this version of ttsbench reads both" for note in notes)


def _renamed(data: Mapping[str, Any], section: tuple[str, ...], old: str, new: str) -> Mapping[str, Any]:
    """A key that is given under both names stays, and is a mistake like any unknown one."""
    if section:
        inside = data.get(section[0])
        if not isinstance(inside, Mapping):
            return data
        return {**data, section[0]: _renamed(inside, section[1:], old, new)}
    return {new if key == old and new not in data else key: value for key, value in data.items()}


def _renamed_axis(data: Mapping[str, Any], old: str, new: str) -> Mapping[str, Any]:
    return _renamed(data, ("matrix",), old, new)


def _with_fake_section(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """Reads `model: {family: fake, seed: 1, fake: {…}}` as `fake: {seed: 1, …}`."""
    model = data.get("model")
    if not isinstance(model, Mapping) or model.get("family") != "fake":
        return data, []
    parameters = model.get("fake") or {}
    if isinstance(parameters, Mapping) and "seed" in model:
        parameters = {"seed": model["seed"], **parameters}
    changed = {**data, "model": {key: model[key] for key in model if key not in ("family", "seed", "fake")}}
    changed["fake"] = parameters
    if isinstance(matrix := data.get("matrix"), Mapping):
        changed["matrix"] = {axis.replace("model.fake.", "fake."): values for axis, values in matrix.items()}
    return changed, [FAKE_MOVED]
