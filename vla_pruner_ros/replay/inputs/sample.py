"""Input of one inference: an instant and its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.instruction_and_state import (
    clean_instruction,
    policy_state,
    state_from_joint_state,
)
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.replay.inputs.recorded import Recorded
from vla_pruner_ros.robots import Measured, RobotProfile, as_seen


@dataclass(frozen=True)
class ReplayInput:
    """Messages of one inference; pixels are converted on demand.

    stamp: of the first image there is (ns). images: None for a camera the node went on without.
    image_stamps: of each camera's image (ns), 0 for one that is not there. state_stamp: of the
    joint state (ns), 0 where there is none.
    reset: why the temporal relevance is cleared before this inference, "" if it is not.
    recorded: the node's recorded output, if any. problem: why the policy cannot run, "" if it can.
    measured: the robot, its joints merged over all topics.
    """

    index: int
    stamp: int
    instruction: str
    images: tuple[Any, ...] = ()
    image_stamps: tuple[int, ...] = ()
    state: Any = None
    state_stamp: int = 0
    reset: str = ""
    recorded: Recorded | None = None
    problem: str = ""
    measured: Measured = field(default_factory=Measured)

    def observation(
        self, joints: Sequence[str], takes_state: bool, profile: RobotProfile | None = None
    ) -> Observation:
        """Convert the messages as the node does.

        Args:
            joints: parameter `state_joints`, the order of the state without a profile.
            takes_state: whether the policy does.
            profile: of the recorded robot, None in bags of earlier releases.

        Raises:
            ValueError: a message cannot be converted; the error names it and the reason.
        """
        if self.problem:
            raise ValueError(self.problem)
        state = None
        if takes_state:
            state = self._state(joints, profile)
        images = [None if message is None else to_rgb(message) for message in self.images]
        return Observation(as_seen(images, profile), clean_instruction(self.instruction), state)

    def _state(self, joints: Sequence[str], profile: RobotProfile | None) -> np.ndarray:
        """Return the state: as it was recorded, else put together from messages."""
        if self.recorded is not None and self.recorded.state:
            return np.array(self.recorded.state)
        if self.measured.joints:
            return policy_state(profile, joints, self.measured, self.state)
        if self.state is None:
            raise ValueError("no joint state was received before this image")
        return state_from_joint_state(self.state, joints)
