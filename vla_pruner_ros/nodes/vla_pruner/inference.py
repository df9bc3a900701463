"""One inference: newest frames and settings in, a chunk or a reason out. Runs on the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.control.frames import CameraFrame
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.instruction_and_state import state_from_joint_state
from vla_pruner_ros.models.policy import (
    ActionChunk,
    InputError,
    Observation,
    PolicyError,
    VlaPolicy,
)
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings


@dataclass(frozen=True)
class Task:
    """Input of one inference; epoch and settings are those of its start.

    frames: one per camera, None for one that inference goes on without; one at least is there.
    now: when it was put together.
    """

    frames: list[CameraFrame | None]
    instruction: str
    joint_state: Any | None
    settings: NodeSettings
    epoch: int
    memory: int
    now: Instant

    @property
    def present(self) -> list[CameraFrame]:
        return [frame for frame in self.frames if frame]

    @property
    def header(self) -> Any:
        """Stamp of the first image there is (ns)."""
        return self.present[0].message.header

    @property
    def stamp(self) -> int:
        """Capture time of the oldest image (ns)."""
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
            InputError: an image or joint state cannot be used.
            PolicyError: the policy refused, or its actions are not finite or not [steps, 7].
        """
        try:
            observation = self._observe(task)
        except ValueError as error:
            raise InputError(str(error)) from None
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

    def _observe(self, task: Task) -> Observation:
        state = None
        if self.policy.state_dim:
            state = state_from_joint_state(task.joint_state, task.settings.state_joints)
        images = [to_rgb(frame.message) if frame else None for frame in task.frames]
        return Observation(images, task.instruction, state)

    def _prepare(self, task: Task) -> None:
        now = time.monotonic()
        gap = now - self._last_start
        if task.memory != self._memory or gap > task.settings.relevance_timeout:
            self.policy.reset()
        self._memory, self._last_start = task.memory, now
        if self.policy.pruning != task.settings.pruning:
            self.policy.pruning = task.settings.pruning
