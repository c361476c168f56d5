"""Another value in a place for the length of a block; how everything that is measured or controlled is reached."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any


def replace(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Another value for one attribute, or one key of a mapping; returns what puts the former one back."""
    if isinstance(owner, MutableMapping):
        held = owner[name]
        owner[name] = value
        return functools.partial(owner.__setitem__, name, held)
    inherited, before = name not in vars(owner), getattr(owner, name)
    setattr(owner, name, value)

    def restore() -> None:
        # An instance that had its class's method must not keep a copy of its own.
        if inherited and name in vars(owner):
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    return restore


@contextmanager
def swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value in a place until the end of the block."""
    restore = replace(owner, name, value)
    try:
        yield
    finally:
        restore()


@contextmanager
def wrapped(owner: Any, method: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    with swapped(owner, method, wrapper(getattr(owner, method))):
        yield


@contextmanager
def within(contexts: Iterable[Callable[[], AbstractContextManager[Any]]]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        yield
