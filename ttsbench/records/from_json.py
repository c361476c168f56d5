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
Decoder = Callable[[Any], Any]
MESSAGE_CHARACTERS_MAX = 300  # a hostile record's names have any length


def from_json(kind: type[_T], data: Any, where: str = "record") -> _T:
    """Plain data as a record; whatever does not fit is refused with its place, and nothing is guessed."""
    try:
        return typing.cast(_T, _decoder(typing.cast(Any, kind))(data))
    except _Misfit as misfit:
        message = f"{''.join(reversed(misfit.places))} {misfit.problem}".replace("\n", "\\n")
        raise RecordError(
            where + (message if len(message) <= MESSAGE_CHARACTERS_MAX else f"{message[:MESSAGE_CHARACTERS_MAX]}…")
        ) from None


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


def _expected(kind: str, data: Any) -> _Misfit:
    return _Misfit(f"should be {kind}, not {data!r:.60}")


# Made once for each type: reading its hints takes longer than reading a record.
@functools.cache
def _decoder(kind: Any) -> Decoder:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda data: data
    if origin in (types.UnionType, typing.Union):
        inner = _decoder(next(a for a in arguments if a is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        return _list_of(_decoder(arguments[0]))
    if origin is dict:
        return _object_of(_decoder(arguments[1]))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return _record_of(kind, {field.name: _decoder(hints[field.name]) for field in dataclasses.fields(kind)})
    return _float if kind is float else _plain(kind)


def _list_of(decode: Decoder) -> Decoder:
    def decode_list(data: Any) -> tuple[Any, ...]:
        if not isinstance(data, list | tuple):
            raise _expected("a list", data)
        items: list[Any] = []
        try:
            for item in data:
                items.append(decode(item))  # noqa: PERF401  (its length is the place of what does not fit)
        except _Misfit as misfit:
            raise misfit.within(f"[{len(items)}]") from None
        return tuple(items)

    return decode_list


def _object_of(decode: Decoder) -> Decoder:
    def decode_object(data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise _expected("an object", data)
        values: dict[str, Any] = {}
        key: Any = None
        try:
            for key, item in data.items():
                values[str(key)] = decode(item)
        except _Misfit as misfit:
            raise misfit.within(f".{key}") from None
        return values

    return decode_object


def _record_of(kind: Any, decoders: Mapping[str, Decoder]) -> Decoder:
    # It is made without its constructor, so that there must be nothing else for it to do.
    assert not hasattr(kind, "__post_init__"), kind
    fields = dataclasses.fields(kind)
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    factories = {f.name: f.default_factory for f in fields if f.default_factory is not dataclasses.MISSING}

    make = _slotted(kind) if hasattr(kind, "__slots__") else functools.partial(_with_dict, kind)

    # Called half a million times for a thousand runs: it looks for what is wrong only once something is.
    def decode_record(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _expected("an object", data)
        values = defaults.copy()
        name = ""
        try:
            for name, item in data.items():
                values[name] = decoders[name](item)
        except _Misfit as misfit:
            raise misfit.within(f".{name}") from None
        except KeyError:
            unknown = sorted(map(str, data.keys() - decoders.keys()))
            raise _Misfit(f"holds a field that this version does not know: {', '.join(unknown)}") from None
        for name, factory in factories.items():
            if name not in values:
                values[name] = factory()
        if len(values) < len(decoders):
            raise _Misfit(f"lacks {', '.join(name for name in decoders if name not in values)}")
        return make(values)

    return decode_record


def _with_dict(kind: type, fields: dict[str, Any]) -> Any:
    # Its own constructor would set them one by one past its guard, which is a third of reading a record.
    record: Any = object.__new__(kind)
    record.__dict__.update(fields)
    return record


def _slotted(kind: Any) -> Callable[[dict[str, Any]], Any]:
    setters = [(name, getattr(kind, name).__set__) for name in kind.__slots__]

    def make(fields: dict[str, Any]) -> Any:
        record = object.__new__(kind)
        for name, set_field in setters:
            set_field(record, fields[name])
        return record

    return make


def _float(data: Any) -> float:
    if type(data) is float:
        return data
    if data is None:
        return math.nan  # as it was before JSON, which knows no such number
    if type(data) is int and abs(data) <= sys.float_info.max:
        return float(data)
    raise _expected("a number", data)


def _plain(kind: type) -> Decoder:
    def decode_plain(data: Any) -> Any:
        if type(data) is not kind:
            raise _expected(f"a {kind.__name__}", data)
        return data

    return decode_plain
