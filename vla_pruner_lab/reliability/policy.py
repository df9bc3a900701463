"""A policy whose outputs, timing and failures the soak test commands."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from vla_pruner_ros.models.policy import ActionChunk, Observation, PolicyError, PruningReport
from vla_pruner_ros.pruning.config import PruningConfig

STEPS = 100
"""Long enough that a chunk outlasts every silence, so that only the rules stop it."""
GRID = (4, 4)
STATE_JOINTS = ("shoulder", "elbow")


class SoakPolicy:
    """A VlaPolicy over 16 tokens: it wanders with the image's brightness until a fault is set.

    fault: name of a method below that acts instead, or "".
    """

    family, trained = "soak", True
    can_miss_cameras = False
    robot = "widowx_bridge"
    num_cameras, state_dim, chunk_size = 1, len(STATE_JOINTS), STEPS

    def __init__(self) -> None:
        self.pruning = PruningConfig()
        self.fault = ""
        self.inferences = 0

    def act(self, observation: Observation) -> ActionChunk:
        """Answer as the present fault commands; calmly without one."""
        self.inferences += 1
        answer: Callable[[Observation], np.ndarray] = getattr(self, self.fault or "calm")
        return ActionChunk(answer(observation), self._report())

    def reset(self) -> None:
        """Clear nothing: this policy carries nothing from step to step."""

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Return the image as it is, uint8 [H, W, 3]."""
        return image

    def calm(self, observation: Observation) -> np.ndarray:
        """Return a chunk of small motions, float32 [STEPS, 7]; the image decides which."""
        angle = float(observation.images[0].mean()) / 255.0 * 2.0 * np.pi
        action = [0.01 * np.cos(angle), 0.01 * np.sin(angle), 0, 0, 0, 0.02, angle > np.pi]
        return np.tile(np.array(action, dtype=np.float32), (STEPS, 1))

    def not_a_number(self, observation: Observation) -> np.ndarray:
        """Return a chunk of NaN, float32 [STEPS, 7]."""
        return np.full((STEPS, 7), np.nan, dtype=np.float32)

    def infinite(self, observation: Observation) -> np.ndarray:
        """Return a chunk of infinite numbers, float32 [STEPS, 7]."""
        return np.full((STEPS, 7), -np.inf, dtype=np.float32)

    def huge(self, observation: Observation) -> np.ndarray:
        """Return a chunk of huge numbers, float32 [STEPS, 7]."""
        return np.full((STEPS, 7), 1e30, dtype=np.float32)

    def misshapen(self, observation: Observation) -> np.ndarray:
        """Return a chunk of another shape, float32 [STEPS, 6]."""
        return np.zeros((STEPS, 6), dtype=np.float32)

    def slow(self, observation: Observation) -> np.ndarray:
        """Return a calm chunk, float32 [STEPS, 7], 0.3 s later."""
        time.sleep(0.3)
        return self.calm(observation)

    def refusing(self, observation: Observation) -> np.ndarray:
        """Raise PolicyError instead of returning a chunk, float32 [STEPS, 7]."""
        raise PolicyError("the soak test makes the policy refuse")

    def out_of_memory(self, observation: Observation) -> np.ndarray:
        """Raise MemoryError instead of returning a chunk, float32 [STEPS, 7]."""
        raise MemoryError("the soak test makes the policy run out of memory")

    def _report(self) -> PruningReport:
        total = GRID[0] * GRID[1]
        kept = max(1, round(total * self.pruning.keep_ratio))
        indices = [np.arange(kept, dtype=np.int32)]
        return PruningReport(indices, GRID, total, kept, kept, self.pruning.method)
