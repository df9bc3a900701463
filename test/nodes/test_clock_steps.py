"""The clock of the computer steps, or the simulated one stops, while the arm moves."""

from __future__ import annotations

import mmap
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from process_helpers import (
    ACTIVATE,
    CONFIGURE,
    SHIM,
    compile_shared,
    moving_subject,
    subject,
)
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from vla_pruner_ros.nodes.messages import to_time

ACTION_LENGTH, COMMAND_PERIOD = 0.1, 0.02
LATE = 0.25
"""Lateness (s) that is allowed to a message on a busy machine."""


@contextmanager
def stepping_clock(folder: Path):
    """The environment of a process whose wall clock steps, and the function that steps it."""
    shim = compile_shared(SHIM, folder / "clock_shim.so")
    offset = folder / "offset"
    offset.write_bytes(bytes(8))
    with offset.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        environment = {"LD_PRELOAD": str(shim), "CLOCK_SHIM": str(offset)}

        def step_to(seconds: float) -> None:
            shared[:] = struct.pack("<q", round(seconds * 1e9))

        yield environment, step_to


def longest_standing_twist(seen, since: float) -> float:
    """Return for how long (s) a twist that moves stood without another one."""
    twists = [s for s in seen if s.kind == "twist" and s.at > since]
    ends = [s.at for s in twists[1:]] + [time.monotonic()]
    return max((e - s.at for s, e in zip(twists, ends, strict=True) if s.moves), default=0.0)


def test_steps_of_the_computers_clock_prolong_no_motion(tmp_path):
    """After a step back the last twist stood as long as anyone looked, diagnostics OK."""
    with (
        stepping_clock(tmp_path) as (environment, step_to),
        moving_subject(environment, control_rate=10.0) as (outside, _),
    ):
        for offset in (-20.0, -20.3, 3600.0):
            step_to(offset)
            stepped = time.monotonic()
            outside.until(lambda: outside.stops(stepped), "a stop at the step")  # noqa: B023
            assert longest_standing_twist(outside.seen, stepped - 0.05) < ACTION_LENGTH + LATE
            outside.clock_offset = offset  # the camera follows
            outside.until_moving()


def test_a_frozen_simulated_clock_ends_the_motion_though_images_come():
    with subject(use_sim_time="true") as (outside, _):
        clock = outside.node.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        simulated, running, done = [1000.0], threading.Event(), threading.Event()
        running.set()
        outside.stamp = lambda age=0.0: to_time(round((simulated[0] - age) * 1e9))

        def tick() -> None:
            while not done.wait(0.01):
                if running.is_set():
                    simulated[0] += 0.01
                clock.publish(Clock(clock=outside.stamp()))

        ticker = threading.Thread(target=tick)
        ticker.start()
        try:
            assert outside.change_state(CONFIGURE)
            assert outside.change_state(ACTIVATE)
            outside.start_camera()
            outside.until_moving()
            running.clear()
            frozen = time.monotonic()
            outside.until(lambda: "clock" in outside.sentences[-1], "the cause in the diagnostics")
            assert outside.moving_twist_stands() == 0.0
            assert longest_standing_twist(outside.seen, frozen) < ACTION_LENGTH + LATE
            running.set()
            outside.until_moving()
        finally:
            done.set()
            ticker.join()
