"""An arm outside the node's process, whose pose comes late, seldom, or not at all any more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from process_helpers import ACTIVATE, CONFIGURE, WAIT, Outside

HALF = 0.05
"""Half the width of the box (m); its middle is where the arm starts."""
CENTRE = np.array([0.0, 0.0, 0.3])
TICK = 0.005
TOLERANCE = 1e-4
"""Allowance (m) for what is not the node's: the arm here moves in ticks."""
NODE = Path(__file__).parents[1] / "helpers" / "controlled_node.py"


class Arm:
    """An arm that begins each action `delay` seconds after it came and carries it out evenly.

    An action or a stop replaces the one before. farthest: how far (m) from the middle it went on
    any axis. pose_period: seconds between its poses. ahead: seconds by which the clock that stamps
    them is ahead. is_stuck: the last pose is repeated, with its old stamp.
    """

    def __init__(
        self,
        outside: Outside,
        delay: float = 0.0,
        pose_period: float = 0.05,
        ahead: float = 0.0,
    ) -> None:
        self.farthest = self.path = 0.0
        self.is_stuck = False
        self._outside, self._delay, self._pose_period = outside, delay, pose_period
        self._ahead = ahead
        self._position, self._velocity, self._until = CENTRE.copy(), np.zeros(3), 0.0
        self._commands: list[tuple[float, np.ndarray, float]] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        outside.on_action = self._on_action
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _on_action(self, message) -> None:
        t, duration = message.translation, message.duration
        seconds = 0.0 if message.stop else duration.sec + duration.nanosec * 1e-9
        with self._lock:
            starts = time.monotonic() + self._delay
            self._commands.append((starts, np.array([t.x, t.y, t.z]), seconds))

    def _run(self) -> None:
        last = next_pose = time.monotonic()
        shown, stamp = self._position.copy(), self._outside.stamp(-self._ahead)
        while not self._done.wait(TICK):
            now = time.monotonic()
            self._move(last, now)
            last = now
            if now >= next_pose:
                next_pose = max(next_pose + self._pose_period, now)
                if not self.is_stuck:
                    shown, stamp = self._position.copy(), self._outside.stamp(-self._ahead)
                self._outside.send_pose(shown, stamp=stamp)

    def _move(self, last: float, now: float) -> None:
        """Carry out what was due between two moments."""
        with self._lock:
            while last < now:
                due = self._commands[0][0] if self._commands else np.inf
                end = min(now, max(due, last))
                moves = max(0.0, min(end, self._until) - last)
                self._position += moves * self._velocity
                self.path += moves * float(np.linalg.norm(self._velocity))
                last = end
                if due <= last:
                    _, translation, seconds = self._commands.pop(0)
                    self._velocity = translation / seconds if seconds else np.zeros(3)
                    self._until = last + seconds
            self.farthest = max(self.farthest, float(np.abs(self._position - CENTRE).max()))


@contextmanager
def driven_arm(
    delay: float = 0.0, pose_period: float = 0.05, ahead: float = 0.0, **parameters: Any
):
    """A node that drives an arm steadily into one corner of its box, then into the other one."""
    outside = Outside()
    low, high = (CENTRE - HALF).tolist(), (CENTRE + HALF).tolist()
    given = {"instruction": "push", "max_translation": 0.05, "workspace": [*low, *high]}
    given |= parameters
    command = [sys.executable, str(NODE), outside.name, "--ros-args"]
    for name, value in given.items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": python_path()})
    arm = Arm(outside, delay, pose_period, ahead)
    try:
        assert outside.change_state(CONFIGURE)
        assert outside.change_state(ACTIVATE)
        outside.start_camera()
        outside.until_moving()
        yield outside, arm
    finally:
        process.kill()
        process.wait()
        arm.close()
        outside.close()


def python_path() -> str:
    return f"{NODE.parent}:{os.environ.get('PYTHONPATH', '')}"


def until_driven(outside: Outside, arm: Arm, path: float) -> None:
    """Wait until the arm has gone so far (m), to and fro; check that it met its walls."""
    begin = arm.path
    outside.until(lambda: arm.path > begin + path, f"a path of {path} m", 2 * WAIT)
    assert arm.farthest > 0.8 * HALF


def test_a_republisher_stuck_on_an_old_pose_stops_the_arm_in_its_box():
    """The arm left a box of this size by 291 mm in 15 s."""
    with driven_arm() as (outside, arm):
        until_driven(outside, arm, 0.1)
        arm.is_stuck = True
        outside.until(lambda: "max_state_age" in outside.sentences[-1], "the cause")
        outside.until(lambda: outside.moving_twist_stands() == 0.0, "the stop")
        path = arm.path
        for _ in range(2):  # seconds of diagnostics, with images and the old pose all along
            seen = len(outside.sentences)
            outside.until(lambda seen=seen: len(outside.sentences) > seen, "diagnostics")
        assert arm.path == path
        arm.is_stuck = False
        until_driven(outside, arm, 0.1)
        assert arm.farthest <= HALF + TOLERANCE


def test_a_pose_once_a_second_keeps_the_arm_in_its_box_at_50_hz():
    """It left it by 97 mm: 20 motions alone were remembered."""
    with driven_arm(pose_period=1.0, control_rate=50.0, max_state_age=2.5) as (outside, arm):
        until_driven(outside, arm, 0.2)
        assert arm.farthest <= HALF + TOLERANCE


def test_a_pose_that_is_stamped_in_the_future_keeps_the_arm_in_its_box():
    """It counted as measured now, though it had come 0.4 s before."""
    with driven_arm(pose_period=0.4, ahead=0.45, control_rate=50.0) as (outside, arm):
        until_driven(outside, arm, 0.2)
        assert arm.farthest <= HALF + TOLERANCE


def test_a_republisher_stuck_on_a_pose_of_the_future_stops_the_arm_in_its_box():
    """Its pose was fresh by arrival, and measured now by its stamp, for 0.5 s."""
    with driven_arm(ahead=0.45, control_rate=50.0) as (outside, arm):
        for _ in range(3):
            until_driven(outside, arm, 0.1)
            arm.is_stuck = True
            outside.until(lambda: "max_state_age" in "".join(outside.sentences[-1:]), "the cause")
            outside.until(lambda: outside.moving_twist_stands() == 0.0, "the stop")
            arm.is_stuck = False
            outside.until_moving()
        assert arm.farthest <= HALF + TOLERANCE


def test_an_arm_that_answers_late_stays_in_its_box_and_is_measured():
    """It left it by 25 mm: a constant of 0.2 s stood in no document."""
    with driven_arm(delay=0.4, arm_latency=0.45) as (outside, arm):
        until_driven(outside, arm, 0.3)
        assert arm.farthest <= HALF + TOLERANCE
        outside.until(lambda: "arm_latency_measured" in outside.values, "the measured latency")
        assert 0.25 < float(outside.values["arm_latency_measured"]) < 0.6
