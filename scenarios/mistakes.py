"""What is wrong with a scenario, told in its own terms: the line, the place, what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ttsbench.errors import Mistake, suggest
from ttsbench.scenarios.yaml_source import Document, Fault, Keys


class MistakeCollector:
    """Collects mistakes, at most one for a place: what is known to be wrong is not complained about twice."""

    def __init__(self, document: Document) -> None:
        self.lines = document.lines
        self.overridden: set[Keys] = set()
        self.collected: list[Mistake] = []
        self._wrong = set(document.spoiled)
        for fault in document.faults:
            self._note(fault.line, dotted(fault.keys), fault.problem)

    def add(self, keys: Keys, problem: str) -> None:
        """Notes a mistake, unless this place or one above it already has one."""
        if keys in self:
            return
        self._wrong.add(keys)
        if any(keys[:length] in self.overridden for length in range(1, len(keys) + 1)):
            self._note(0, f"--set {dotted(keys)}", problem)
        else:
            self._note(self._line(keys), dotted(keys), problem)

    def add_override(self, keys: Keys, faults: Iterable[Fault]) -> None:
        """Notes that the command line set this place, and what is wrong with the text of the value."""
        self.overridden.add(keys)
        for fault in faults:
            self._wrong.add(keys)
            self._note(0, f"--set {dotted(keys)}", fault.problem)

    def __contains__(self, keys: Keys) -> bool:
        return any(keys[:length] in self._wrong for length in range(len(keys) + 1))

    def _note(self, line: int, where: str, problem: str) -> None:
        self.collected.append(Mistake(line, _one_line(where), _one_line(problem)))

    def _line(self, keys: Keys) -> int:
        return next((self.lines[k] for n in range(len(keys), -1, -1) if (k := keys[:n]) in self.lines), 1)


def dotted(keys: Keys) -> str:
    """`stacks.lean.decode`, `workload.texts[2]`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key:.80}"
    return text.removeprefix(".")


def _one_line(text: str) -> str:
    """Keys and values may hold line breaks and escape sequences; a terminal should see neither."""
    return "".join(character if character.isprintable() else "�" for character in text)


def shown(value: Any) -> str:
    """A value as it may stand in a sentence."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _should_be(expected: str) -> Callable[[dict[str, Any], Any], str]:
    return lambda context, value: f"should be {expected}, not {shown(value)}"


def _at_least(context: dict[str, Any], value: Any) -> str:
    return f"must be at least {context['ge']:g}, not {shown(value)}"


def _above(context: dict[str, Any], value: Any) -> str:
    return f"must be more than {context['gt']:g}, not {shown(value)}"


def _at_most(context: dict[str, Any], value: Any) -> str:
    return f"must be at most {context['le']:g}, not {shown(value)}"


# How each of pydantic's findings is told; `refused` ones carry their own words.
_SENTENCES: Mapping[str, Callable[[dict[str, Any], Any], str]] = {
    "missing": lambda context, value: "is missing",
    "string_type": _should_be("text (quote it if it is)"),
    "int_type": _should_be("a whole number"),
    "float_type": _should_be("a number"),
    "finite_number": _should_be("a finite number"),
    "dict_type": _should_be("a mapping (key: value)"),
    "model_type": _should_be("a mapping (key: value)"),
    "tuple_type": _should_be("a list"),
    "string_too_short": lambda context, value: "is empty",
    "string_too_long": lambda context, value: f"is longer than {context['max_length']} characters",
    "greater_than_equal": _at_least,
    "greater_than": _above,
    "less_than_equal": _at_most,
}


def describe_error(detail: ErrorDetails, parent: type[BaseModel] | None) -> str:
    """One of pydantic's findings in our words; `parent` describes the keys that stand beside it."""
    if detail["type"] == "extra_forbidden" and parent is not None:
        return f"unknown key; {suggest(str(detail['loc'][-1]), parent.model_fields)}"
    sentence = _SENTENCES.get(detail["type"])
    return sentence(detail.get("ctx", {}), detail["input"]) if sentence else detail["msg"]
