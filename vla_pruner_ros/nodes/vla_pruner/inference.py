"""One inference: newest frames and settings in, a chunk or a reason out. Runs on the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.control.frames import CameraFrame
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.instruction_and_state import policy_state
from vla_pruner_ros.models.policy import (
    ActionChunk,
    InputError,
    Observation,
    PolicyError,
    VlaPolicy,
)
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.robots import Commands, Measured, RobotProfile, as_seen, decode_actions


@dataclass(frozen=True)
class Task:
    """Input of one inference; epoch and settings are those of its start.

    frames: one per camera, None for one that inference goes on without; one at least is there.
    joint_state: the newest message, None if there is none. measured: the robot at that time, and
    state_stamp of its oldest joint (ns, 0 if none). now: when it was put together.
    """

    frames: list[CameraFrame | None]
    instruction: str
    joint_state: Any | None
    measured: Measured
    state_stamp: int
    settings: NodeSettings
    epoch: int
    memory: int
    now: Instant

    @property
    def present(self) -> list[CameraFrame]:
        """Frames of the cameras that are there."""
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
    """A chunk, the observation behind it and how long (s) it took.

    commands: the chunk in SI units, None if no profile explains its numbers.
    """

    task: Task
    observation: Observation
    chunk: ActionChunk
    seconds: float
    commands: Commands | None = None


class InferenceRunner:
    """Owns the policy and what it remembers; only the worker's thread calls it."""

    def __init__(self, policy: VlaPolicy, profile: RobotProfile | None) -> None:
        self.policy, self.profile = policy, profile
        self._memory: int | None = None
        self._last_start = float("-inf")

    def run(self, task: Task) -> Result:
        """Run the policy on a task.

        Raises:
            InputError: an image or joint state cannot be used.
            PolicyError: the policy refused, or its actions are not finite or not what the robot's
                profile explains.
        """
        try:
            observation = self._observe(task)
        except ValueError as error:
            raise InputError(str(error)) from None
        self._prepare(task)
        start = time.perf_counter()
        chunk = self.policy.act(observation)
        seconds = time.perf_counter() - start
        width = self.profile.action_dim if self.profile else None
        shape = chunk.actions.shape
        if len(shape) != 2 or not len(chunk.actions) or width not in (None, shape[1]):
            raise PolicyError(
                f"The policy's actions have shape {list(shape)} instead of "
                f"[steps, {width or 'numbers'}]; they were dropped. Check the checkpoint's action "
                "head and the robot's profile"
            )
        if not np.isfinite(chunk.actions).all():
            raise PolicyError(
                "The policy's actions are not finite; they were dropped. Check the checkpoint's "
                "statistics and the dtype"
            )
        return Result(task, observation, chunk, seconds, self._decode(chunk, task))

    def _decode(self, chunk: ActionChunk, task: Task) -> Commands | None:
        """Decode once a chunk, against the state that the policy saw."""
        if self.profile is None:
            return None
        period = 1.0 / task.settings.control_rate
        try:
            return decode_actions(self.profile, chunk.actions, task.measured, period)
        except ValueError as error:
            raise PolicyError(f"The policy's actions were dropped: {error}") from None

    def _observe(self, task: Task) -> Observation:
        state = None
        if self.policy.state_dim:
            joints = task.settings.state_joints
            state = policy_state(self.profile, joints, task.measured, task.joint_state)
        images = [to_rgb(frame.message) if frame else None for frame in task.frames]
        return Observation(as_seen(images, self.profile), task.instruction, state)

    def _prepare(self, task: Task) -> None:
        now = time.monotonic()
        gap = now - self._last_start
        if task.memory != self._memory or gap > task.settings.relevance_timeout:
            self.policy.reset()
        self._memory, self._last_start = task.memory, now
        if self.policy.pruning != task.settings.pruning:
            self.policy.pruning = task.settings.pruning
