"""A policy without a model, for measuring the server alone: its step time is commanded."""

from __future__ import annotations

import time

import numpy as np

from vla_pruner_ros.models.policy import ActionChunk, Observation, PruningReport
from vla_pruner_ros.pruning.config import PruningConfig

PATCHES = 256


class ArtificialPolicy:
    """A VlaPolicy whose step takes fixed_ms + token_ms x keep_ratio, and whose history counts.

    An action is [steps since the history was cleared, mean brightness, keep_ratio, 0, 0, 0, 1].
    """

    family, trained, can_miss_cameras = "artificial", False, False

    def __init__(
        self,
        fixed_ms: float = 0.0,
        token_ms: float = 0.0,
        num_cameras: int = 2,
        state_dim: int = 8,
        chunk_size: int = 8,
    ) -> None:
        self._fixed, self._token = 1e-3 * fixed_ms, 1e-3 * token_ms
        self.num_cameras, self.state_dim, self.chunk_size = num_cameras, state_dim, chunk_size
        self.pruning = PruningConfig()
        self._steps = 0

    def act(self, observation: Observation) -> ActionChunk:
        """See VlaPolicy.act."""
        start = time.perf_counter()
        seconds = self._fixed + self._token * self.pruning.keep_ratio
        if seconds > 0.0:
            time.sleep(seconds)
        self._steps += 1
        row = np.zeros(7, dtype=np.float32)
        row[:3] = self._steps, observation.images[0].mean() / 255.0, self.pruning.keep_ratio
        row[-1] = 1.0
        report = self._report(time.perf_counter() - start)
        return ActionChunk(np.tile(row, (self.chunk_size, 1)), report)

    def _report(self, seconds: float) -> PruningReport:
        kept = max(1, round(PATCHES * self.pruning.keep_ratio))
        return PruningReport(
            [np.arange(kept, dtype=np.int32)] * self.num_cameras,
            (16, 16),
            PATCHES * self.num_cameras,
            kept * self.num_cameras,
            kept * self.num_cameras,
            self.pruning.method,
            history_length=self._steps,
            timings={"total": seconds},
        )

    def reset(self) -> None:
        """See VlaPolicy.reset."""
        self._steps = 0

    def save_history(self) -> int:
        """See ServablePolicy."""
        return self._steps

    def restore_history(self, saved: int | None) -> None:
        """See ServablePolicy."""
        self._steps = saved or 0
