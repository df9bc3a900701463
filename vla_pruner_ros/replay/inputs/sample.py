"""Input of one inference: an instant and its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.instruction_and_state import (
    clean_instruction,
    state_from_joint_state,
)
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.replay.inputs.recorded import Recorded


@dataclass(frozen=True)
class ReplayInput:
    """Messages of one inference; pixels are converted on demand.

    stamp: of the first image there is (ns). images: None for a camera the node went on without.
    image_stamps: of each camera's image (ns), 0 for one that is not there. state_stamp: of the
    joint state (ns), 0 where there is none.
    reset: why the temporal relevance is cleared before this inference, "" if it is not.
    recorded: the node's recorded output, if any. problem: why the policy cannot run, "" if it can.
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

    def observation(self, joints: Sequence[str], takes_state: bool) -> Observation:
        """Convert the messages as the node does.

        Raises:
            ValueError: a message cannot be converted; the error names it and the reason.
        """
        if self.problem:
            raise ValueError(self.problem)
        state = None
        if takes_state:
            if self.state is None:
                raise ValueError("no joint state was received before this image")
            state = state_from_joint_state(self.state, joints)
        images = [None if message is None else to_rgb(message) for message in self.images]
        return Observation(images, clean_instruction(self.instruction), state)
