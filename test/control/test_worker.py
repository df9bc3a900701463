"""The worker's thread: newest work only, paced, unbreakable, and it ends on request."""

from __future__ import annotations

import threading
import time

import pytest

from vla_pruner_ros.control.worker import Worker

WAIT = 5.0


class Work:
    """Work that reports when it runs and lasts until allowed to end."""

    def __init__(self):
        self.calls = threading.Semaphore(0)
        self.starts: list[float] = []
        self.proceed = threading.Event()
        self.proceed.set()

    def __call__(self):
        self.starts.append(time.monotonic())
        self.calls.release()
        assert self.proceed.wait(WAIT)

    def started(self, timeout=WAIT) -> bool:
        return self.calls.acquire(timeout=timeout)


@pytest.fixture
def make():
    workers, works = [], []

    def build(work, on_error=lambda error: None, **options):
        workers.append(Worker(work, on_error, **options))
        works.append(work)
        return workers[-1]

    yield build
    for work in works:
        if isinstance(work, Work):
            work.proceed.set()
    assert all(worker.stop(WAIT) for worker in workers)


def test_wake_ups_during_a_call_become_one(make):
    work = Work()
    worker = make(work)
    work.proceed.clear()
    worker.wake()
    assert work.started()
    for _ in range(100):
        worker.wake()
    work.proceed.set()
    assert work.started(), "the newest work must not be lost"
    assert worker.wait_idle(WAIT)
    assert not work.started(timeout=0.05)


def test_calls_keep_their_distance_and_none_is_lost(make):
    work = Work()
    worker = make(work, min_period=lambda: 0.05)
    for _ in range(4):
        worker.wake()
        assert work.started()
    gaps = [b - a for a, b in zip(work.starts, work.starts[1:], strict=False)]
    assert min(gaps) >= 0.049


def test_exceptions_are_handed_over_and_survived(make):
    errors, done = [], threading.Semaphore(0)

    def fail():
        raise ValueError(f"number {len(errors)}")

    worker = make(fail, lambda error: (errors.append(str(error)), done.release()))
    for _ in range(3):
        worker.wake()
        assert done.acquire(timeout=WAIT)
    assert errors == ["number 0", "number 1", "number 2"]
    assert not worker.busy or worker.wait_idle(WAIT)


def test_a_failing_error_handler_is_survived(make):
    """It used to end the thread silently: the node stayed active and never inferred again."""
    done = threading.Semaphore(0)

    def fail():
        done.release()
        raise ValueError

    def fail_again(error):
        raise RuntimeError("the log is full")

    worker = make(fail, fail_again)
    for _ in range(2):
        worker.wake()
        assert done.acquire(timeout=WAIT)


def test_stop_is_bounded_while_a_call_hangs(make):
    work = Work()
    worker = make(work)
    work.proceed.clear()
    worker.wake()
    assert work.started()
    assert not worker.wait_idle(0.02)
    start = time.monotonic()
    assert not worker.stop(0.05)
    assert time.monotonic() - start < 1.0
    worker.wake()
    work.proceed.set()
    assert worker.stop(WAIT)
    assert len(work.starts) == 1, "nothing new is started after a stop"


def test_stop_does_not_wait_for_the_pacing(make):
    work = Work()
    worker = make(work, min_period=lambda: 60.0)
    worker.wake()
    assert work.started()
    worker.wake()
    assert worker.stop(WAIT)
    assert len(work.starts) == 1
