"""What an option and a slot are, and the families of models that an option may be for. No torch."""

from __future__ import annotations

from dataclasses import dataclass

UTTERANCE_FAMILIES = ("chatterbox", "turbo", "nano", "multilingual")
LLAMA_FAMILIES = ("chatterbox", "multilingual")
# Backbones without a pipeline around them, and those whose layers are Llama's.
SPARK_TTS = "spark-tts"
# No model at all: figures with known noise, to test what is made of them. It has upstream's options and no others.
FAKE = "fake"
FAMILIES = (*UTTERANCE_FAMILIES, SPARK_TTS, FAKE)
LLAMA_LAYERS = (*LLAMA_FAMILIES, SPARK_TTS)


@dataclass(frozen=True)
class Option:
    """One way to fill a slot, and what it takes."""

    name: str
    summary: str
    changes_output: str = ""
    families: tuple[str, ...] = FAMILIES
    needs_cuda: bool = False
    needs_package: str = ""
    needs_capability: tuple[int, int] = (0, 0)
    how_to_get: str = ""
    # Of one that captures or compiles: which option does the same work eagerly, and whether Inductor is at work.
    eager: str = ""
    inductor: bool = False


@dataclass(frozen=True)
class Slot:
    """One decision about the pipeline."""

    name: str
    summary: str
    options: tuple[Option, ...]

    @property
    def default(self) -> str:
        """Upstream's own behaviour."""
        return self.options[0].name

    def option(self, name: str) -> Option:
        """The option of that name."""
        return next(option for option in self.options if option.name == name)
