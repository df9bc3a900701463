"""Does a policy see its images?

Some combinations of checkpoint and library versions fail silently: whatever the camera shows, the
action stays the same.
"""

from __future__ import annotations

import numpy as np

from vla_pruner_ros.models.policy import Observation, VlaPolicy

TRIAL_SIZE = (480, 640)
"""Rows and columns of the trial images."""


def uses_image(policy: VlaPolicy, instruction: str) -> bool:
    """Run a policy on a black and a white image; return whether its actions differ.

    The policy's history is empty afterwards.

    Raises:
        PolicyError: as act().
    """
    return not np.array_equal(*trial_actions(policy, instruction))


def trial_actions(policy: VlaPolicy, instruction: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a policy's actions [steps, numbers] on a black and on a white image.

    The policy's history is empty afterwards.

    Raises:
        PolicyError: as act().
    """
    black, white = (_act_on(policy, level, instruction) for level in (0, 255))
    policy.reset()
    return black, white


def _act_on(policy: VlaPolicy, level: int, instruction: str) -> np.ndarray:
    policy.reset()
    image = np.full((*TRIAL_SIZE, 3), level, dtype=np.uint8)
    state = np.zeros(policy.state_dim) if policy.state_dim else None
    observation = Observation([image] * policy.num_cameras, instruction, state)
    return policy.act(observation).actions
