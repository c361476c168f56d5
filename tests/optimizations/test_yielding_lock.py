"""A lock that its holder hands on: who waits gets his turn, and nobody else is within meanwhile."""

from __future__ import annotations

import threading
import time

import pytest

from ttsbench.optimizations.parts.yielding_lock import Turnstile

SOON = 5.0


def test_who_steps_aside_comes_back_when_the_other_has_left() -> None:
    turnstile, told, within = Turnstile(), [], threading.Event()

    def capture() -> None:
        with turnstile.held():
            within.set()
            time.sleep(0.05)
            told.append("captured")

    other = threading.Thread(target=capture)
    with turnstile.held(), turnstile.held():
        with turnstile.aside():
            other.start()
            assert within.wait(SOON)
        told.append("back")
    other.join(SOON)
    assert told == ["captured", "back"]
    with turnstile.held():  # all of it was handed back
        pass


def test_who_waits_is_let_by_at_the_holders_moment_and_not_before() -> None:
    turnstile, told, waits = Turnstile(), [], threading.Event()

    def capture() -> None:
        waits.set()
        with turnstile.held():
            told.append("captured")

    with turnstile.held():
        other = threading.Thread(target=capture)
        other.start()
        assert waits.wait(SOON)
        time.sleep(0.05)
        told.append("drawn")
        while not turnstile._waiting:
            time.sleep(0.001)
        turnstile.let_pass()
        told.append("drawn on")
    other.join(SOON)
    assert told == ["drawn", "captured", "drawn on"]


def test_many_threads_are_never_within_at_once() -> None:
    turnstile, within, most = Turnstile(), [0], [0]

    def work(times: int, lets_pass: bool) -> None:
        for _ in range(times):
            with turnstile.held(), turnstile.held():
                within[0] += 1
                most[0] = max(most[0], within[0])
                time.sleep(0.0002)
                within[0] -= 1
                if lets_pass:
                    turnstile.let_pass()

    threads = [threading.Thread(target=work, args=(60, number % 2 == 0)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]


def test_an_error_within_gives_it_back() -> None:
    turnstile = Turnstile()
    with pytest.raises(ZeroDivisionError), turnstile.held():
        1 / 0  # noqa: B018
    entered = threading.Event()

    def enter() -> None:
        with turnstile.held():
            entered.set()

    threading.Thread(target=enter).start()
    assert entered.wait(SOON)


def test_who_does_not_hold_it_lets_nobody_pass() -> None:
    turnstile = Turnstile()
    turnstile.let_pass()
    with turnstile.held():
        other = threading.Thread(target=turnstile.let_pass)
        other.start()
        other.join(SOON)
        assert turnstile._holder == threading.get_ident()
