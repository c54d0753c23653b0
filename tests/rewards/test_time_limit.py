import asyncio
import signal
import threading
import time

import pytest

from sightline.rewards.time_limit import SIGNAL, BackgroundCall, TimeUp, call_within


def sleeper():
    time.sleep(30)


def spinner():
    while True:
        pass


def swallower():
    while True:
        try:
            time.sleep(30)
        except Exception:
            return "swallowed"


async def slow_coroutine():
    await asyncio.sleep(30)


@pytest.mark.parametrize("function", [sleeper, spinner, swallower])
def test_a_call_that_takes_too_long_is_ended_where_it_stands(function):
    handler, started = signal.getsignal(signal.SIGURG), time.perf_counter()
    with pytest.raises(TimeUp) as caught:
        call_within(0.1, function)
    assert time.perf_counter() - started < 5
    assert function.__name__ in [frame.name for frame in caught.value.where]
    assert signal.getsignal(signal.SIGURG) is handler


def test_a_coroutine_that_takes_too_long_is_cancelled_and_located():
    with pytest.raises(TimeUp) as caught:
        call_within(0.1, slow_coroutine)
    assert [frame.name for frame in caught.value.where] == ["slow_coroutine"]


def test_a_call_from_another_thread_has_the_same_limit():
    caught = []

    def run():
        try:
            call_within(0.1, spin_until, stop)
        except TimeUp as error:
            caught.append(error)

    stop = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    stop.set()
    assert [frame.name for frame in caught[0].where if frame.name == "spin_until"]


def spin_until(stop):
    while not stop.is_set():
        time.sleep(0.01)


def test_a_function_may_set_its_own_alarm():
    rung = []

    def with_alarm():
        previous = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(0.2)
        signal.signal(signal.SIGALRM, previous)
        return "done"

    assert call_within(5.0, with_alarm) == "done"
    assert rung == [True]


def test_what_the_call_returns_or_raises_comes_back():
    assert call_within(5.0, sorted, [2, 1]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        call_within(5.0, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        BackgroundCall(5.0, lambda: 1 / 0).result()


def test_time_that_is_up_before_the_call_begins_leaves_nothing_after(monkeypatch):
    """As on a machine that was suspended while the watching thread started."""
    before, start = signal.getsignal(SIGNAL), threading.Thread.start

    def suspended(thread):
        start(thread)
        time.sleep(0.2)

    with monkeypatch.context() as patch, pytest.raises(TimeUp):
        patch.setattr(threading.Thread, "start", suspended)
        call_within(0.05, int)
    assert signal.getsignal(SIGNAL) == before
    assert "time limit" not in [thread.name for thread in threading.enumerate()]
