"""Texts that a model cannot read to their end: Llama's crash it, and GPT-2's tokenizer cuts them without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttsbench.errors import CellError


def refuse_long_texts(tts: Any, texts: Sequence[str], language: str | None) -> None:
    limit = tts.tokenizer.model_max_length if tts.t3.is_gpt else tts.t3.hp.max_text_tokens
    for number, text in enumerate(texts, start=1):
        if (count := _tokens(tts, text, language)) > limit:
            raise CellError(
                f"text {number} has {len(text):,} characters, which are {count:,} text tokens; this model reads at "
                f"most {limit:,}: split it into several texts"
            )


def _tokens(tts: Any, text: str, language: str | None) -> int:
    if tts.t3.is_gpt:
        return len(tts.tokenizer(text).input_ids)
    options = {"language_id": language or "en"} if tts.t3.hp.is_multilingual else {}
    return int(tts.tokenizer.text_to_tokens(text, **options).size(1))
