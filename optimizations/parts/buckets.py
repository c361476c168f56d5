"""Lengths in buckets: what is compiled or captured for one length then serves all of its bucket."""

from __future__ import annotations


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
