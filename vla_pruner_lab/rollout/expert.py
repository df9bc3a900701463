"""MetaWorld's scripted experts, with displacements in metres."""

from __future__ import annotations

import warnings

import numpy as np

from vla_pruner_ros.sim.backend import EXPERTS
from vla_pruner_ros.sim.robot import ACTION_PERIOD, SimulatedRobot
from vla_pruner_ros.sim.tasks import VERSION_SUFFIX

DEFAULT_SPEED = 0.25  # m/s along an axis; MetaWorld's own 0.8 leaves ten frames of an episode
FASTER_TASKS = {"door-open": 0.4}  # m/s; the handle slips from a slower hand
EXPERT_OF = {"push": "pick-place"}
"""Tasks solved by another task's expert. MetaWorld's for push closes the fingers on the way down,
too early for a hand slower than its own; a puck that is grasped and led to a goal on the table
is pushed as well."""


class Expert:
    """Expert that solves the robot's task from the true object positions.

    MetaWorld's experts correct themselves 80 times a second. One action of `duration` is what
    such an expert would command in that time: it is found by running it ahead and rewinding.
    """

    def __init__(self, robot: SimulatedRobot, speed: float | None = None):
        """Create an expert.

        Args:
            speed: m/s along an axis; by default one at which the task's expert succeeds.
        """
        self._robot = robot
        self._policy = EXPERTS[EXPERT_OF.get(robot.task, robot.task) + VERSION_SUFFIX]()
        speed = speed or FASTER_TASKS.get(robot.task, DEFAULT_SPEED)
        self._limit = min(1.0, speed / robot.max_speed)

    def native_action(self) -> np.ndarray:
        """Return MetaWorld's action [4] for this instant, no faster than the expert's speed."""
        with warnings.catch_warnings():  # of actions beyond -1..1, which the next step clips
            warnings.simplefilter("ignore")
            intended = self._policy.get_action(self._robot.observation)
        action = np.clip(intended, -1.0, 1.0)
        action[:3] = np.clip(action[:3], -self._limit, self._limit)
        return action

    def action(self, duration: float = ACTION_PERIOD) -> np.ndarray:
        """Return float32 [7]: displacement (m), zero rotation (rad), gripper 0 closed or 1 open."""
        robot = self._robot
        before = robot.save()
        start = robot.commanded_position()
        effort = 0.0
        for _ in range(max(1, round(duration / robot.control_period))):
            native = self.native_action()
            effort += native[3]
            robot.step_native(native)
        displacement = robot.commanded_position() - start
        robot.restore(before)
        return np.array([*displacement, 0.0, 0.0, 0.0, float(effort <= 0)], np.float32)
