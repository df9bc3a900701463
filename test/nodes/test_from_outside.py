"""The real process, observed from outside: terminals that stall, signals, loads that last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
from process_helpers import (
    ACTIVATE,
    CONFIGURE,
    WAIT,
    Outside,
    arguments,
    log_stop_and_end,
    moving_subject,
    subject,
)


@contextmanager
def unread(make):
    """The writing end of a pipe or terminal that nobody reads and that takes nothing more."""
    reading, writing = make()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("make", [os.pipe, os.openpty])
def test_a_terminal_that_nobody_reads_stops_nothing_but_the_log(make):
    """The whole process froze in mid-motion at its next line, SIGTERM included."""
    with unread(make) as terminal, moving_subject(output=terminal) as (outside, process):
        log_stop_and_end(outside, process, 40)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_in_a_stop(number):
    with moving_subject() as (outside, process):
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(WAIT) == 0
        outside.until(lambda: outside.stops(begun), "the stop")
        last = outside.stops(begun)[-1].at
        assert not outside.motions(last)
        assert outside.moving_twist_stands() == 0.0


LOAD = """
import sys, time
from vla_pruner_ros.models.cancellation import check_cancelled
from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.nodes.vla_pruner.node import VlaPrunerNode

def load(settings):
    for _ in range(600):
        time.sleep(0.1)
        {check}
    raise RuntimeError("nobody cancelled")

sys.exit(run_node(lambda: VlaPrunerNode(sys.argv[1], load=load), []))
"""


@pytest.mark.parametrize(
    ("check", "longest", "code"), [("check_cancelled()", 6.0, 0), ("pass", 12.0, 1)]
)
def test_sigterm_ends_a_load(check, longest, code):
    """Also one that never looks whether it was cancelled."""
    outside = Outside()
    script = LOAD.format(check=check)
    process = subprocess.Popen([sys.executable, "-c", script, outside.name])
    try:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        client = outside.node.create_client(ChangeState, f"/{outside.name}/change_state")
        assert client.wait_for_service(WAIT)
        client.call_async(ChangeState.Request(transition=Transition(id=CONFIGURE)))
        outside.until(lambda: outside.state() == "configuring", "the load")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == code
        assert time.monotonic() - begun < longest
    finally:
        process.kill()
        process.wait()
        outside.close()


def test_the_successor_of_a_killed_node_can_be_activated():
    """A process that saw the killed node sees its name for about 20 s; a new process does not."""
    with subject(num_threads=1) as (outside, process):
        assert outside.state() == "unconfigured"
        process.kill()
        process.wait()
        killed = time.monotonic()
        seen = len(outside.sentences)
        successor = subprocess.Popen(arguments(outside.name))
        try:  # the services of the killed one are still in the graph: wait for the new one
            outside.until(lambda: len(outside.sentences) > seen, "the successor")
            assert outside.change_state(CONFIGURE)
            outside.until(lambda: outside.change_state(ACTIVATE), "the activation", 2 * WAIT)
            assert time.monotonic() - killed < 60.0
        finally:
            successor.kill()
            successor.wait()


REFUSED = "Another node named"


def test_a_successor_that_saw_the_killed_node_gives_the_time_and_activates_after_it(tmp_path):
    """It must refuse: nobody can tell a killed node from one that still drives the arm."""
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    with (
        logs[0].open("w") as log,
        logs[1].open("w") as other_log,
        subject(output=log) as (outside, first),
    ):
        outside.until(lambda: outside.state() == "unconfigured", "the first node")
        second = subprocess.Popen(arguments(outside.name), stdout=other_log, stderr=other_log)
        try:
            names = outside.node.get_node_names
            outside.until(lambda: names().count(outside.name) == 2, "both in the graph")

            def both(transition: int, text: str) -> None:
                """Ask both for a transition, one of which answers first, until each has logged."""
                assert outside.change_state(transition) == (transition == CONFIGURE)
                outside.until(lambda: all(text in log.read_text() for log in logs), text)

            both(CONFIGURE, "explains the actions")
            both(ACTIVATE, REFUSED)
            first.kill()
            first.wait()
            killed = time.monotonic()
            assert not outside.change_state(ACTIVATE)
            assert outside.state() == "inactive"
            told = lambda: "after about 20 s" in outside.sentences[-1]
            outside.until(told, "the time in the diagnostics")
            outside.until(lambda: outside.change_state(ACTIVATE), "the activation", 2 * WAIT)
            assert time.monotonic() - killed < 40.0
            outside.start_camera()
            outside.until_moving()
        finally:
            second.kill()
            second.wait()
