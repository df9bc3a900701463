"""A policy that moves two arms by joints, and whose faults the soak test commands."""

from __future__ import annotations

import numpy as np

from vla_pruner_lab.reliability.policy import STEPS, SoakPolicy
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.robots import load_profile

ROBOT = "aloha"
PROFILE = load_profile(ROBOT)
ARMS = [n for n, name in enumerate(PROFILE.action_names) if name in PROFILE.joints]
GRIPPERS = [n for n in range(PROFILE.action_dim) if n not in ARMS]
START = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0] * 2)
"""Positions at which the arms begin and to which they return (rad)."""
REACH, STEP = 0.3, 0.02
"""Largest distance from START, and of two targets of a chunk (rad)."""


class JointSoakPolicy(SoakPolicy):
    """Wanders around START with the image's brightness, each joint in its own phase."""

    robot = ROBOT
    state_dim = PROFILE.state_dim

    def calm(self, observation: Observation) -> np.ndarray:
        """Return a chunk of small motions, float32 [STEPS, 14]; the image decides which."""
        angle = float(observation.images[0].mean()) / 255.0 * 2.0 * np.pi
        target = START + REACH * np.sin(angle + np.arange(len(START)))
        return self._chunk(observation, target, 0.5 + 0.5 * np.sin(angle))

    def beyond(self, observation: Observation) -> np.ndarray:
        """Lead every joint and gripper out of its range, step by step: float32 [STEPS, 14]."""
        return self._chunk(observation, START + 50.0, 7.0)

    def jumping(self, observation: Observation) -> np.ndarray:
        """Begin half a radian away from one joint of the right arm: float32 [STEPS, 14]."""
        chunk = self.calm(observation)
        chunk[:, ARMS[7]] += 0.5
        return chunk

    def not_a_number(self, observation: Observation) -> np.ndarray:
        """Return a chunk with one NaN, float32 [STEPS, 14]."""
        chunk = self.calm(observation)
        chunk[STEPS // 2, GRIPPERS[1]] = np.nan
        return chunk

    def infinite(self, observation: Observation) -> np.ndarray:
        """Return a chunk of infinite numbers, float32 [STEPS, 14]."""
        return np.full((STEPS, PROFILE.action_dim), np.inf, dtype=np.float32)

    def huge(self, observation: Observation) -> np.ndarray:
        """Return a chunk of huge numbers, float32 [STEPS, 14]."""
        return np.full((STEPS, PROFILE.action_dim), -1e30, dtype=np.float32)

    def misshapen(self, observation: Observation) -> np.ndarray:
        """Return a chunk of another shape, float32 [STEPS, 7]."""
        return np.zeros((STEPS, 7), dtype=np.float32)

    def _chunk(self, observation: Observation, target: np.ndarray, opening: float) -> np.ndarray:
        chunk = np.empty((STEPS, PROFILE.action_dim), dtype=np.float32)
        here = START if observation.state is None else np.asarray(observation.state)[ARMS]
        here = np.clip(here, -100.0, 100.0)  # a driver that lies must not overflow float32
        reach = STEP * np.arange(1, STEPS + 1)[:, None]
        chunk[:, ARMS] = here + np.clip(target - here, -reach, reach)
        chunk[:, GRIPPERS] = opening
        return chunk
