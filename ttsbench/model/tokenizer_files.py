"""Tokenizer files of the true layout and vocabulary size, made from alphabets alone: no trained merges are needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

from ttsbench.model.families import CANGJIE, LANGUAGES

ENGLISH_TOKENS = 704
MULTILINGUAL_TOKENS = 2454
GPT2_MERGES = 50_000
GPT2_TOKENS = 50_276

# The ids that T3's configuration names; upstream's tokenizers look for the rest by name.
_FIXED = {0: "[STOP]", 1: "[UNK]", 2: "[SPACE]", 3: "[PAD]", 4: "[SEP]", 5: "[CLS]", 6: "[MASK]", 255: "[START]"}
_LETTERS_BY_FREQUENCY = "etaoinshrdlcumwfgypbvkjxqz"
_END_OF_TEXT = "<|endoftext|>"
_EVENTS = (
    "breath", "chuckle", "clap", "clear_throat", "cough", "cry", "gasp", "groan", "growl", "hum", "laugh", "mumble",
    "scream", "shush", "sigh", "sniff", "snort", "whisper", "yawn",
)  # fmt: skip

# Lower case and NFKD, as upstream prepares multilingual text.
_SCRIPTS = (
    (0x0021, 0x007E), (0x00A1, 0x00FF), (0x0300, 0x036F), (0x0390, 0x03CE), (0x0430, 0x045F), (0x05B0, 0x05EA),
    (0x060C, 0x0652), (0x0900, 0x097F), (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0x2010, 0x2027),
    (0x3001, 0x3011), (0x3041, 0x3096), (0x3099, 0x309C), (0x30A1, 0x30FC),
)  # fmt: skip
_LATIN = ((0x0021, 0x007E), (0x00A1, 0x00FF), (0x2013, 0x2026))

# Enough for Chinese text to take upstream's Cangjie path; the character's code is the one Cangjie 5 gives.
_CANGJIE = {"日": "a", "月": "b", "金": "c", "木": "d", "水": "e", "火": "f", "土": "g", "竹": "h", "十": "j",
            "大": "k", "中": "l", "一": "m", "弓": "n", "人": "o", "心": "p", "手": "q", "口": "r", "山": "u",
            "女": "v", "田": "w", "卜": "y", "你": "onf", "好": "vnd", "明": "ab", "林": "dd"}  # fmt: skip


def write_english(folder: Path) -> None:
    """tokenizer.json with 704 tokens."""
    write_json(folder / "tokenizer.json", _grapheme_tokenizer(_characters(_LATIN), (), ENGLISH_TOKENS))


def write_multilingual(folder: Path) -> None:
    """The grapheme tokenizer with 2454 tokens, and Cangjie both where the hub has it and where its cache would."""
    tags = [f"[{name}]" for name in (*LANGUAGES, *(f"cj_{key}" for key in "abcdefghijklmnopqrstuvwxyz.0123456789"))]
    tokenizer = _grapheme_tokenizer(_characters(_SCRIPTS), tags, MULTILINGUAL_TOKENS)
    write_json(folder / "grapheme_mtl_merged_expanded_v1.json", tokenizer)
    # Upstream asks for this file with the checkpoint's folder as the hub's cache: laid out so, it is found offline.
    cache = folder / "models--ResembleAI--chatterbox"
    commit = "0" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit, encoding="utf-8")
    (cache / "snapshots" / commit).mkdir(parents=True)
    for path in (folder / CANGJIE, cache / "snapshots" / commit / CANGJIE):
        write_json(path, [f"{character}\t{code}" for character, code in _CANGJIE.items()])


def write_gpt2(folder: Path) -> None:
    """The files of a GPT-2 tokenizer: 256 bytes, 50,000 merges, the end of text, and 19 sound events."""
    merges = list(islice(_gpt2_merges(), GPT2_MERGES))
    tokens = [*_byte_characters(), *(left + right for left, right in merges), _END_OF_TEXT]
    events = {f"[{event}]": len(tokens) + index for index, event in enumerate(_EVENTS)}
    write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
    write_json(folder / "added_tokens.json", events)
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END_OF_TEXT)
    write_json(folder / "special_tokens_map.json", ends)
    added = {_END_OF_TEXT: len(tokens) - 1, **events}
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": 1024,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): _added(token, special=token == _END_OF_TEXT) for token, i in added.items()},
        **ends,
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_json(path: Path, data: Any) -> None:
    """JSON in a form that depends on nothing but the data."""
    path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def _grapheme_tokenizer(characters: Iterable[str], tags: Iterable[str], count: int) -> dict[str, Any]:
    pairs = list(_pairs())
    tokens = dict(_FIXED)
    free = (index for index in range(count) if index not in _FIXED)
    names = chain(tags, characters, (a + b for a, b in pairs), (a + b + c + d for (a, b), (c, d) in _quads(pairs)))
    tokens.update(zip(free, names, strict=False))
    vocabulary = {tokens[index]: index for index in range(count)}
    specials = sorted((vocabulary[token], token) for token in (*_FIXED.values(), *tags))
    merges = [pair for pair in pairs if pair[0] + pair[1] in vocabulary]
    merges += [(a + b, c + d) for (a, b), (c, d) in _quads(pairs) if a + b + c + d in vocabulary]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, **_added(token, special=True)} for index, token in specials],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _added(token: str, *, special: bool) -> dict[str, Any]:
    rules = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": token, **rules, "special": special}


def _characters(ranges: Iterable[tuple[int, int]]) -> list[str]:
    return [chr(code) for first, last in ranges for code in range(first, last + 1)]


def _gpt2_merges() -> Iterator[tuple[str, str]]:
    """First what makes words short, a leading space included; a word of n letters comes to about n/4 + 1 tokens."""
    pairs = list(_pairs())
    space = "Ġ"
    yield from pairs
    yield from ((space, letter) for letter in _LETTERS_BY_FREQUENCY + _LETTERS_BY_FREQUENCY.upper())
    yield from ((space, a + b) for a, b in pairs)
    for (a, b), (c, d) in _quads(pairs):
        yield (a + b, c + d)
        yield (space + a + b, c + d)


def _pairs() -> Iterator[tuple[str, str]]:
    """All pairs of letters, the most frequent first."""
    letters = _LETTERS_BY_FREQUENCY
    yield from sorted(product(letters, letters), key=lambda pair: (sum(map(letters.index, pair)), pair))


def _quads(pairs: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of the 160 most frequent pairs: 25,600, which is what GPT-2's merges leave room for."""
    top = range(160)
    yield from ((pairs[i], pairs[j]) for i, j in sorted(product(top, top), key=lambda ij: (sum(ij), ij)))


def _byte_characters() -> list[str]:
    """A printable character for each byte, in GPT-2's order: the printable ones first, as themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in printable] + [chr(0x100 + index) for index in range(256 - len(printable))]
