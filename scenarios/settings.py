"""What model, workload and device mean together, at each point of the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from ttsbench.errors import UsageError
from ttsbench.model.families import FAMILIES, names
from ttsbench.records.points import Point, value_text
from ttsbench.scenarios import files
from ttsbench.scenarios.cells import at_point
from ttsbench.scenarios.fakes import FakeEngine
from ttsbench.scenarios.kinds import Section, check_device
from ttsbench.scenarios.mistakes import MistakeCollector, describe_error, shown
from ttsbench.scenarios.models import HUB, SECTIONS, TEXT_SOURCES, Length, Model, Voice, Workload
from ttsbench.scenarios.yaml_source import Keys

_T = TypeVar("_T")
_SectionT = TypeVar("_SectionT", bound=Section)
Problems = Iterator[tuple[Keys, str]]


@dataclass
class _Reader:
    """Reads each file once, however many points name it."""

    cache: dict[tuple[Any, str], Any] = field(default_factory=dict)

    def __call__(self, read: Callable[[Path], _T], path: str) -> _T:
        if (read, path) not in self.cache:
            try:
                self.cache[read, path] = read(Path(path))
            except UsageError as error:
                self.cache[read, path] = error
        content = self.cache[read, path]
        if isinstance(content, UsageError):
            raise content
        return cast(_T, content)


@dataclass(frozen=True)
class _Setting:
    """What is said by which model. What could not be understood has its default here and is named `wrong`."""

    model: Model
    workload: Workload
    wrong: frozenset[str]
    read: _Reader

    def understood(self, *names: str) -> bool:
        """Whether these keys of model and workload were understood."""
        return self.wrong.isdisjoint(names)


def check_points(
    data: Mapping[str, Any],
    base: Path,
    matrix: Mapping[str, Sequence[Any]],
    points: Sequence[Point],
    mistakes: MistakeCollector,
) -> None:
    """Notes every mistake that shows at one of the points."""
    reader = _Reader()
    for point in points:
        for keys, problem in _problems(at_point(data, point), base, reader):
            mistakes.add(_place_of(keys, point, matrix), problem)


def _place_of(keys: Keys, point: Point, matrix: Mapping[str, Sequence[Any]]) -> Keys:
    """The place in the file that put the wrong value there: a value of the matrix, or the key itself."""
    for axis, value in point.items():
        varied = tuple(axis.split("."))
        whole_section = len(keys) < min(2, len(varied))
        if not whole_section and all(key == part for key, part in zip(keys, varied, strict=False)):
            index = [value_text(item) for item in matrix[axis]].index(value_text(value))
            return "matrix", axis, index, *keys[len(varied) :]
    return keys


def _problems(data: Mapping[str, Any], base: Path, reader: _Reader) -> Problems:
    model, wrong_in_model, in_model = _validated(Model, data.get("model", {}), base, "model")
    workload, wrong_in_workload, in_workload = _validated(Workload, data.get("workload", {}), base, "workload")
    yield from in_model
    yield from in_workload
    if data.get("fake") is not None:
        yield from _validated(FakeEngine, data["fake"], base, "fake")[2]
    yield from _device_problems(data.get("device", "auto"))
    setting = _Setting(model, workload, frozenset(wrong_in_model + wrong_in_workload), reader)
    for rule in RULES:
        yield from rule(setting)


def _device_problems(device: Any) -> Problems:
    if not isinstance(device, str):
        yield ("device",), f"should be text, not {shown(device)}"
        return
    try:
        check_device(device)
    except PydanticCustomError as error:
        yield ("device",), error.message()


def _validated(
    kind: type[_SectionT], data: Any, base: Path, name: str
) -> tuple[_SectionT, list[str], list[tuple[Keys, str]]]:
    """A section without the keys that are wrong, those keys, and what is wrong with them."""
    context = {"base": base}
    try:
        return kind.model_validate(data, context=context), [], []
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems: list[tuple[Keys, str]] = []
    for detail in details:
        keys: Keys = (name, *detail["loc"])
        problems.append((keys, describe_error(detail, SECTIONS.get(keys[:-1]))))
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    valid = {key: value for key, value in data.items() if key not in wrong} if isinstance(data, Mapping) else {}
    unknown = wrong if isinstance(data, Mapping) else kind.model_fields
    return kind.model_validate(valid, context=context), [f"{name}.{key}" for key in unknown], problems


def _weights_exist(setting: _Setting) -> Problems:
    model = setting.model
    if model.synthetic or not setting.understood("model.weights"):
        return
    for key in ("size", "dtype", "seed"):
        if key in model.model_fields_set:
            yield ("model", key), f"is for synthetic weights only; {_describe_weights(model)} have their own"
    if model.weights != HUB and not files.is_folder(Path(model.weights)):
        yield (
            ("model", "weights"),
            f"there is no folder {model.weights:.200}; weights are synthetic, hub, or a folder with a checkpoint",
        )


def _describe_weights(model: Model) -> str:
    return "those from the hub" if model.weights == HUB else "those in a folder"


def _backbones_only_run_forwards(setting: _Setting) -> Problems:
    model, forward = setting.model, setting.workload.forward
    family = FAMILIES[model.family]
    if family.speaks() or not setting.understood("model.family", "workload.forward"):
        return
    if forward is None:
        yield ("model", "family"), f"{family.name} is a backbone without the rest; it needs workload.forward"
    if not model.synthetic and setting.understood("model.weights"):
        yield ("model", "weights"), f"of {family.name} there are synthetic ones only"


def _forwards_stand_alone(setting: _Setting) -> Problems:
    workload = setting.workload
    if workload.forward is None or not setting.understood("workload.forward"):
        return
    sections = {
        **{source: getattr(workload, source) is not None for source in TEXT_SOURCES},
        "length": workload.length != Length.model_construct(),
        "voice": workload.voice != Voice.model_construct(),
        "language": workload.language is not None,
        "load": workload.load is not None,
        "streaming": workload.streaming is not None,
        "clip_voice": workload.clip_voice,
        "sampling": bool(workload.sampling.set_values()),
    }
    for key, present in sections.items():
        if present and setting.understood(f"workload.{key}"):
            yield ("workload", key), "has no part in workload.forward, which runs the backbone alone"


def _language_fits(setting: _Setting) -> Problems:
    family, language = FAMILIES[setting.model.family], setting.workload.language
    if language and language not in family.languages and setting.understood("model.family", "workload.language"):
        takers = " and ".join(names(lambda other: language in other.languages))
        yield ("workload", "language"), f"only the {takers} family takes a language; this is {family.name}"


def _sampling_fits(setting: _Setting) -> Problems:
    family = FAMILIES[setting.model.family]
    if not setting.understood("model.family", "workload.sampling"):
        return
    for key in setting.workload.sampling.set_values():
        if key not in family.sampling:
            allowed = ", ".join(family.sampling)
            yield ("workload", "sampling", key), f"{family.name} does not take it; allowed: {allowed}"


def _texts_can_be_read(setting: _Setting) -> Problems:
    if setting.workload.file and setting.understood("workload.file"):
        try:
            setting.read(files.read_utterances, setting.workload.file)
        except UsageError as error:
            yield ("workload", "file"), error.problem


def _voice_can_be_used(setting: _Setting) -> Problems:
    voice = setting.workload.voice
    if not setting.understood("workload.voice"):
        return
    seconds, key = voice.synthetic, "synthetic"
    if voice.wav:
        key = "wav"
        try:
            seconds = setting.read(files.sound_seconds, voice.wav)
        except UsageError as error:
            yield ("workload", "voice", "wav"), error.problem
            return
    needed = FAMILIES[setting.model.family].voice_seconds_min
    if seconds is not None and needed and seconds <= needed and setting.understood("model.family"):
        problem = f"{setting.model.family} needs a voice of more than {needed:g} s; this one has {seconds:.3g} s"
        yield ("workload", "voice", key), problem


def _voices_can_be_prepared(setting: _Setting) -> Problems:
    """What is said of a reference needs one."""
    workload = setting.workload
    if not setting.understood("workload.voice", "workload.streaming", "workload.clip_voice") or workload.forward:
        return
    if workload.load is not None and workload.streaming is not None and workload.streaming.prepare_voice:
        yield (
            ("workload", "streaming", "prepare_voice"),
            "has no part in workload.load, whose listeners share one voice",
        )
        return
    if workload.voice.wav or workload.voice.synthetic is not None:
        return
    needs = "needs a recording to prepare; give workload.voice: {wav: …} or {synthetic: 10}"
    if workload.clip_voice:
        yield ("workload", "clip_voice"), needs
    if workload.streaming is not None and workload.streaming.prepare_voice:
        yield ("workload", "streaming", "prepare_voice"), needs


def _replay_fits_the_texts(setting: _Setting) -> Problems:
    workload = setting.workload
    if not workload.length.replay or not setting.understood("workload.length"):
        return
    keys = ("workload", "length", "replay")
    try:
        lists = len(setting.read(files.read_replay, workload.length.replay))
    except UsageError as error:
        yield keys, error.problem
        return
    texts = _number_of_texts(setting)
    if texts is not None and texts != lists:
        yield keys, f"{workload.length.replay} holds {lists} lists of tokens, but the workload has {texts} texts"


def _number_of_texts(setting: _Setting) -> int | None:
    if not setting.understood("workload.texts", "workload.file", "workload.set"):
        return None
    if setting.workload.file is None:
        return len(setting.workload.utterances())
    try:
        return len(setting.read(files.read_utterances, setting.workload.file))
    except UsageError:
        return None


RULES: tuple[Callable[[_Setting], Problems], ...] = (
    _weights_exist,
    _backbones_only_run_forwards,
    _forwards_stand_alone,
    _language_fits,
    _sampling_fits,
    _texts_can_be_read,
    _voice_can_be_used,
    _voices_can_be_prepared,
    _replay_fits_the_texts,
)
