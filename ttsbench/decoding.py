"""Plain data as dataclasses: whatever does not fit is refused with its place, and nothing is guessed."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ttsbench.errors import RecordError

_T = TypeVar("_T")
TOLD_MAX = 300  # a hostile record's names have any length


def from_json(kind: type[_T], data: Any, where: str = "record") -> _T:
    """Plain data as a record; whatever does not fit is refused with its place, and nothing is guessed."""
    try:
        return typing.cast(_T, _decoder(typing.cast(Any, kind))(data))
    except _Misfit as misfit:
        told = f"{''.join(reversed(misfit.places))} {misfit.problem}".replace("\n", "\\n")
        raise RecordError(where + (told if len(told) <= TOLD_MAX else f"{told[:TOLD_MAX]}…")) from None


class _Misfit(Exception):
    """Data that is no such record; the places are added from the inside out, so that what fits costs nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.places: list[str] = []

    def within(self, place: str) -> _Misfit:
        """The same, one level up."""
        self.places.append(place)
        return self


def _wanted(wanted: str, given: Any) -> _Misfit:
    return _Misfit(f"should be {wanted}, not {given!r:.60}")


# Made once for each type: reading its hints takes longer than reading a record.
@functools.cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda data: data
    if origin in (types.UnionType, typing.Union):
        inner = _decoder(next(a for a in arguments if a is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        return functools.partial(_decode_list, _decoder(arguments[0]))
    if origin is dict:
        return functools.partial(_decode_object, _decoder(arguments[1]))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)
        needed = [
            f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        return functools.partial(_decode_dataclass, kind, {f.name: _decoder(hints[f.name]) for f in fields}, needed)
    return _decode_float if kind is float else functools.partial(_decode_plain, kind)


def _decode_list(decode: Callable[[Any], Any], data: Any) -> Any:
    if not isinstance(data, list | tuple):
        raise _wanted("a list", data)
    found: list[Any] = []
    try:
        for item in data:
            found.append(decode(item))  # noqa: PERF401  (its length is the place of what does not fit)
    except _Misfit as misfit:
        raise misfit.within(f"[{len(found)}]") from None
    return tuple(found)


def _decode_object(decode: Callable[[Any], Any], data: Any) -> Any:
    if not isinstance(data, dict):
        raise _wanted("an object", data)
    found: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in data.items():
            found[str(key)] = decode(item)
    except _Misfit as misfit:
        raise misfit.within(f".{key}") from None
    return found


def _decode_dataclass(kind: Any, decoders: Mapping[str, Callable[[Any], Any]], needed: list[str], data: Any) -> Any:
    if not isinstance(data, dict):
        raise _wanted("an object", data)
    if unknown := data.keys() - decoders.keys():
        raise _Misfit(f"holds a field that this version does not know: {', '.join(sorted(map(str, unknown)))}")
    if missing := [name for name in needed if name not in data]:
        raise _Misfit(f"lacks {', '.join(missing)}")
    name = ""
    found: dict[str, Any] = {}
    try:
        for name, item in data.items():
            found[name] = decoders[name](item)
    except _Misfit as misfit:
        raise misfit.within(f".{name}") from None
    return kind(**found)


def _decode_float(data: Any) -> float:
    if type(data) is float:
        return data
    if data is None:
        return math.nan  # as it was before JSON, which knows no such number
    if type(data) is int and abs(data) <= sys.float_info.max:
        return float(data)
    raise _wanted("a number", data)


def _decode_plain(kind: Any, data: Any) -> Any:
    if type(data) is not kind:
        raise _wanted(f"a {kind.__name__}", data)
    return data
