"""The wait for signals that end a process: one in another's handler, in a burst, while stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from process_helpers import WAIT, moving_subject

from vla_pruner_ros.nodes.process.stop_signal import StopSignal

NESTED = """
import signal, sys
from vla_pruner_ros.nodes.process.stop_signal import StopSignal

told, raised = StopSignal(), []
told.listen()

def again(frame, event, argument):
    if len(raised) < 200:
        raised.append(event)
        signal.raise_signal(signal.SIGTERM)
    return again

sys.settrace(again)
signal.raise_signal(signal.SIGTERM)
assert told.wait()
sys.settrace(None)
assert len(raised) > 10, raised
"""


def test_a_signal_inside_the_handler_of_another_ends_the_wait():
    """Linux signals the end of a parent once for each of its threads. The second handler waited for
    the lock of threading.Event that the first one held, and the arm moved on for good."""
    assert subprocess.run([sys.executable, "-c", NESTED], timeout=WAIT).returncode == 0


def test_a_wait_ends_with_its_time_or_with_the_event():
    told = StopSignal()
    begun = time.monotonic()
    assert not told.wait(0.12)
    assert time.monotonic() - begun >= 0.12
    threading.Timer(0.05, told.set).start()
    assert told.wait()
    assert told.is_set()
    assert told.wait(0.0)
    told.set()


def test_a_burst_of_signals_ends_in_a_stop():
    with moving_subject() as (outside, process):
        begun, numbers = time.monotonic(), random.Random(0)
        for _ in range(400):
            os.kill(process.pid, signal.SIGTERM)
            for _ in range(numbers.randrange(300)):  # microseconds, shorter than any sleep
                pass
        assert process.wait(WAIT) == 0
        outside.until(lambda: outside.stops(begun), "the stop")
        assert outside.moving_twist_stands() == 0.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_came_while_the_process_was_stopped_ends_it(number):
    """Another thread than the main one received it, and the arm moved on until the next signal."""
    with moving_subject() as (outside, process):
        process.send_signal(signal.SIGSTOP)
        process.send_signal(number)
        goes_on = time.monotonic()
        process.send_signal(signal.SIGCONT)
        assert process.wait(WAIT) == 0
        outside.until(lambda: outside.stops(goes_on), "the stop")
        assert outside.moving_twist_stands() == 0.0
