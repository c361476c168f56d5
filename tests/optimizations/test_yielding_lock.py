"""A lock that its holder hands on: who waits gets his turn, and nobody else is within meanwhile."""

from __future__ import annotations

import threading
import time

import pytest

from ttsbench.optimizations.parts.yielding_lock import YieldingLock

SOON = 5.0


def test_who_steps_aside_comes_back_when_the_other_has_left() -> None:
    lock, output, within = YieldingLock(), [], threading.Event()

    def capture() -> None:
        with lock.held():
            within.set()
            time.sleep(0.05)
            output.append("captured")

    other = threading.Thread(target=capture)
    with lock.held(), lock.held():
        with lock.released():
            other.start()
            assert within.wait(SOON)
        output.append("back")
    other.join(SOON)
    assert output == ["captured", "back"]
    with lock.held():  # all of it was handed back
        pass


def test_who_waits_is_let_by_at_the_holders_moment_and_not_before() -> None:
    lock, output, waits = YieldingLock(), [], threading.Event()

    def capture() -> None:
        waits.set()
        with lock.held():
            output.append("captured")

    with lock.held():
        other = threading.Thread(target=capture)
        other.start()
        assert waits.wait(SOON)
        time.sleep(0.05)
        output.append("drawn")
        while not lock._waiting:
            time.sleep(0.001)
        lock.let_others_in()
        output.append("drawn on")
    other.join(SOON)
    assert output == ["drawn", "captured", "drawn on"]


def test_many_threads_are_never_within_at_once() -> None:
    lock, within, most = YieldingLock(), [0], [0]

    def work(times: int, lets_pass: bool) -> None:
        for _ in range(times):
            with lock.held(), lock.held():
                within[0] += 1
                most[0] = max(most[0], within[0])
                time.sleep(0.0002)
                within[0] -= 1
                if lets_pass:
                    lock.let_others_in()

    threads = [threading.Thread(target=work, args=(60, number % 2 == 0)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]


def test_an_error_within_gives_it_back() -> None:
    lock = YieldingLock()
    with pytest.raises(ZeroDivisionError), lock.held():
        1 / 0  # noqa: B018
    entered = threading.Event()

    def enter() -> None:
        with lock.held():
            entered.set()

    threading.Thread(target=enter).start()
    assert entered.wait(SOON)


def test_who_does_not_hold_it_lets_nobody_pass() -> None:
    lock = YieldingLock()
    lock.let_others_in()
    with lock.held():
        other = threading.Thread(target=lock.let_others_in)
        other.start()
        other.join(SOON)
        assert lock._holder == threading.get_ident()
