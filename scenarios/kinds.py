"""What a single value of a scenario may be, and what every section of one has in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ttsbench.errors import suggest
from ttsbench.scenarios import files

_Filled = TypeVar("_Filled", tuple[str, ...], tuple[Any, ...], dict[str, Any])

NAME_PATTERN = r"[a-z0-9][a-z0-9_.-]{0,63}"
DEVICE_PATTERN = r"auto|cpu|cuda(:[0-9]{1,3})?"
VOICE_SECONDS_MAX = 300
SEED_MAX = 2**31 - 1  # leaves room for seeds counted up from it


def refused(problem: str) -> PydanticCustomError:
    """A mistake in our own words."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem})


class Section(BaseModel):
    """Nothing is coerced, nothing unknown is dropped."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)


@dataclass(frozen=True)
class OneOf:
    """Text that must be one of a few names."""

    names: tuple[str, ...]

    def check(self, value: str) -> str:
        """The name, or a mistake that says what is allowed."""
        if value not in self.names:
            raise refused(f"'{value:.60}' is not allowed here; {suggest(value, self.names)}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}


def absolute(value: str, info: ValidationInfo) -> str:
    """A path, relative to the scenario's folder if it is relative."""
    base = (info.context or {}).get("base")
    if base is None:
        return value
    try:
        path = Path(value).expanduser()
    except RuntimeError:  # ~nobody
        path = Path(value)
    return str(Path(base).absolute() / path)


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value) or ".." in value:
        allowed = "lower-case letters, digits, '_', '-' and single '.', at most 64, a letter or digit first"
        raise refused(f"{value!r:.80} cannot be the name, because folders are named after it; allowed: {allowed}")
    return value


def check_device(value: str) -> str:
    """The device, or a mistake that says what is allowed."""
    if not re.fullmatch(DEVICE_PATTERN, value):
        raise refused(f"'{value:.60}' is no device; allowed: auto, cpu, cuda, cuda:N with N the number of a GPU")
    return value


def _speakable(value: str) -> str:
    if not value.strip():
        raise refused("the text is blank; there is nothing to say")
    if not any(character.isalnum() for character in value):
        raise refused(f"the text {value.strip()!r:.40} has no letter and no digit; there is nothing to say")
    if len(value) > files.TEXT_CHARACTERS_MAX:
        raise refused(f"the text has {len(value):,} characters; at most {files.TEXT_CHARACTERS_MAX:,} are read")
    return value


def not_empty(value: _Filled) -> _Filled:
    """Refuses a list or mapping without entries."""
    if not value:
        raise refused("is empty; it needs at least one entry")
    return value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def present(value: Any) -> Any:
    """Refuses a key without a value."""
    if value is None:
        raise refused("has no value")
    return value


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})]
AsTuple = BeforeValidator(_tuple)
FilePath = Annotated[str, Field(min_length=1), AfterValidator(absolute)]
Device = Annotated[str, AfterValidator(check_device), Field(json_schema_extra={"pattern": f"^({DEVICE_PATTERN})$"})]
Utterance = Annotated[str, AfterValidator(_speakable)]
Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=VOICE_SECONDS_MAX, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10_000)]
