"""YAML read without trust: plain data, a line for every place in it, and a bound on everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

NODES_MAX = 10_000
DEPTH_MAX = 32
NUMBER_CHARACTERS_MAX = 40
INTEGER_MAX = 2**63 - 1

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """Something that is no plain YAML."""

    keys: Keys
    line: int
    problem: str


@dataclass
class Document:
    """What was read. Values that could not be understood are None and their places `spoiled`."""

    data: Any = None
    lines: dict[Keys, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    spoiled: set[Keys] = field(default_factory=set)


def read(text: str) -> Document:
    """The one document in the text; whatever is wrong with it stands among its faults, and nothing is raised."""
    walk = _Walk()
    try:
        root = _compose(text)
        if root is not None:
            walk.document.lines[()] = root.start_mark.line + 1
            walk.document.data = walk.plain(root, ())
    except _UnreadableError as error:
        walk.document.data = None
        walk.document.faults.append(error.fault)
    return walk.document


class _UnreadableError(Exception):
    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.fault = Fault((), line, problem)


class _BoundedLoader(yaml.SafeLoader):
    """Stops before a hostile file has cost memory or stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        if self.nodes > NODES_MAX:
            raise ComposerError(None, None, f"more than {NODES_MAX:,} values", _next_mark(self))
        if self.depth > DEPTH_MAX:
            raise ComposerError(None, None, f"nested more than {DEPTH_MAX} deep", _next_mark(self))
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _next_mark(loader: yaml.SafeLoader) -> yaml.Mark:
    mark = loader.peek_event().start_mark  # type: ignore[no-untyped-call]
    assert isinstance(mark, yaml.Mark)
    return mark


def _compose(text: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _BoundedLoader(text)
        root = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            problem = "a second document begins here; a scenario is one document"
            raise _UnreadableError(_next_mark(loader).line + 1, problem)
        return root
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _UnreadableError(line, f"the character U+{_code_point(error):04X} is not allowed in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise _UnreadableError(mark.line + 1 if mark else 1, f"this is not YAML: {reason}") from None
    except (ValueError, OverflowError) as error:
        # PyYAML lets these through for "\UFFFFFFFF" and for a %YAML version of thousands of digits.
        raise _UnreadableError(loader.line + 1 if loader else 1, f"this is not YAML: {error}") from None


def _code_point(error: ReaderError) -> int:
    return ord(error.character) if isinstance(error.character, str) else int(error.character)


def _integer(text: str) -> int | str:
    if ":" in text:  # YAML 1.1 reads 12:30 as 750; nobody means that
        return text
    number = int(_bounded(text).replace("_", ""), 0)
    if abs(number) > INTEGER_MAX:
        raise ValueError(text)
    return number


def _float(text: str) -> float | str:
    if ":" in text:
        return text
    digits = _bounded(text).replace("_", "").lower()
    return float(digits.replace(".", "") if digits.endswith((".inf", ".nan")) else digits)


def _bounded(text: str) -> str:
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise ValueError(text)
    return text


def _boolean(text: str) -> bool:
    return yaml.SafeLoader.bool_values[text.lower()]


_TAG = "tag:yaml.org,2002:"
# Dates stay text: no key takes one, and a scenario may well be named after a day.
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    f"{_TAG}str": str,
    f"{_TAG}timestamp": str,
    f"{_TAG}value": str,
    f"{_TAG}null": lambda text: None,
    f"{_TAG}bool": _boolean,
    f"{_TAG}int": _integer,
    f"{_TAG}float": _float,
}


class _Walk:
    """Unfolds nodes into plain data, aliases included, and writes down where everything stands."""

    def __init__(self) -> None:
        self.document = Document()
        self.unfolded = 0

    def plain(self, node: yaml.Node, keys: Keys) -> Any:
        self.unfolded += 1
        line = node.start_mark.line + 1
        if self.unfolded > NODES_MAX:
            raise _UnreadableError(line, f"the aliases unfold into more than {NODES_MAX:,} values")
        if len(keys) > DEPTH_MAX:
            raise _UnreadableError(line, f"the aliases nest more than {DEPTH_MAX} deep; one may hold itself")
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, keys)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return self._sequence(node, keys)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, keys)
        return self._spoil(keys, line, f"{_tag_name(node.tag)}; only plain YAML is read, so leave the tag out")

    def _scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        line = node.start_mark.line + 1
        try:
            value = _SCALARS[node.tag](node.value)
        except (ValueError, KeyError, OverflowError):
            kind = node.tag.removeprefix(_TAG)
            return self._spoil(keys, line, f"{node.value!r:.50} cannot be read as {kind}; quote it if it is text")
        if isinstance(value, str) and _unprintable(value):
            return self._spoil(keys, line, "a NUL or half of a surrogate pair is no text")
        return value

    def _sequence(self, node: yaml.SequenceNode, keys: Keys) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.document.lines[*keys, index] = item.start_mark.line + 1
            items.append(self.plain(item, (*keys, index)))
        return items

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._key(key_node, keys, line)
            if key is None:
                continue
            if key in mapping:
                first = self.document.lines[*keys, key]
                self.document.faults.append(Fault((*keys, key), line, f"given twice; the first is on line {first}"))
                continue
            self.document.lines[*keys, key] = line
            mapping[key] = self.plain(value_node, (*keys, key))
        return mapping

    def _key(self, node: yaml.Node, keys: Keys, line: int) -> str | None:
        problem = ""
        if node.tag == f"{_TAG}merge":
            problem = "merge keys (<<) are not read; write the keys out"
        elif not isinstance(node, yaml.ScalarNode):
            problem = "a key must be text, not a list or a mapping"
        elif _SCALARS.get(node.tag) is not str:
            problem = f"a key must be text; quote it: {node.value[:40]!r}"
        elif _unprintable(node.value):
            problem = "a NUL or half of a surrogate pair is no text"
        if problem:
            self.document.faults.append(Fault(keys, line, problem))
            return None
        return str(node.value)

    def _spoil(self, keys: Keys, line: int, problem: str) -> None:
        self.document.faults.append(Fault(keys, line, problem))
        self.document.spoiled.add(keys)


def _tag_name(tag: str) -> str:
    if tag.startswith(f"{_TAG}python"):
        return f"the Python tag !!{tag.removeprefix(_TAG)!s:.50} is refused"
    name = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
    return f"the tag {name!s:.50} is unknown or does not fit here"


def _unprintable(text: str) -> bool:
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
