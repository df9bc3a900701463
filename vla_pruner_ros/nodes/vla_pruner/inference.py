"""One inference: newest frames and settings in, a chunk or a reason out. Runs on the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.control.frames import CameraFrame
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.instruction_and_state import state_from_joint_state
from vla_pruner_ros.models.policy import ActionChunk, Observation, PolicyError, VlaPolicy
from vla_pruner_ros.nodes.vla_pruner.not_ready import NotReady
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.nodes.vla_pruner.readiness import silent_state

CLOCK_TOLERANCE = 0.05
"""A stamp this far (s) in the future is taken for jitter between clocks."""


@dataclass(frozen=True)
class Task:
    """What one inference works on; epoch and settings are those of its start.

    frames: one per camera, None for one that inference goes on without; one at least is there.
    """

    frames: list[CameraFrame | None]
    instruction: str
    joint_state: Any | None
    joint_state_arrival: float
    settings: NodeSettings
    epoch: int
    memory: int
    now: int

    @property
    def present(self) -> list[CameraFrame]:
        return [frame for frame in self.frames if frame]

    @property
    def header(self) -> Any:
        """Of the first image there is."""
        return self.present[0].message.header

    @property
    def stamp(self) -> int:
        """Of the oldest image (ns)."""
        return min(frame.stamp for frame in self.present)


@dataclass(frozen=True)
class Result:
    """A chunk, the observation behind it and when it was computed (ns, s)."""

    task: Task
    observation: Observation
    chunk: ActionChunk
    seconds: float


class InferenceRunner:
    """Owns the policy and what it remembers; only the worker's thread calls it."""

    def __init__(self, policy: VlaPolicy) -> None:
        self.policy = policy
        self._memory: int | None = None
        self._last_start = float("-inf")

    def run(self, task: Task) -> Result:
        """Run the policy on a task.

        Raises:
            NotReady: the frames are too old or a state is missing.
            ValueError: an image or joint state cannot be converted.
            PolicyError: the policy refused, or its actions are not finite or not [steps, 7].
        """
        self._check_age(task)
        observation = Observation(
            [to_rgb(frame.message) if frame else None for frame in task.frames],
            task.instruction,
            self._state(task),
        )
        self._prepare(task)
        start = time.perf_counter()
        chunk = self.policy.act(observation)
        seconds = time.perf_counter() - start
        if chunk.actions.ndim != 2 or chunk.actions.shape[1] != 7 or not len(chunk.actions):
            raise PolicyError(
                f"The policy's actions have shape {list(chunk.actions.shape)} instead of "
                "[steps, 7]; they were dropped. Check the checkpoint's action head"
            )
        if not np.isfinite(chunk.actions).all():
            raise PolicyError(
                "The policy's actions are not finite; they were dropped. Check the checkpoint's "
                "statistics and the dtype"
            )
        return Result(task, observation, chunk, seconds)

    def _check_age(self, task: Task) -> None:
        limit = task.settings.max_image_age
        age = (task.now - task.stamp) * 1e-9
        if age > limit:
            raise NotReady(
                f"The newest image is {age:.2f} s old, older than max_image_age {limit:.2f} s: "
                "check the camera, the network and that the clocks are synchronised"
            )
        if age < -max(CLOCK_TOLERANCE, limit):
            raise NotReady(
                f"The newest image is stamped {-age:.2f} s in the future: synchronise the clocks "
                "of the camera's computer and this one"
            )

    def _state(self, task: Task) -> np.ndarray | None:
        if not self.policy.state_dim:
            return None
        silent = silent_state(task.joint_state_arrival, task.settings)
        if silent:
            raise NotReady(silent)
        return state_from_joint_state(task.joint_state, task.settings.state_joints)

    def _prepare(self, task: Task) -> None:
        now = time.monotonic()
        gap = now - self._last_start
        if task.memory != self._memory or gap > task.settings.relevance_timeout:
            self.policy.reset()
        self._memory, self._last_start = task.memory, now
        if self.policy.pruning != task.settings.pruning:
            self.policy.pruning = task.settings.pruning
