"""A trajectory of joint positions followed in time, as a JointTrajectoryController does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FollowedTrajectory:
    """Positions to pass through; between them straight lines.

    names: joints. times: [points] seconds from the start, increasing. positions: [points, joints].
    start: [joints] where they were led when it began (rad or m); began: at that time (s).
    """

    names: tuple[str, ...]
    times: np.ndarray
    positions: np.ndarray
    start: np.ndarray
    began: float

    @staticmethod
    def checked(
        names: Sequence[str],
        times: Sequence[float],
        positions: Sequence[Sequence[float]],
        known: dict[str, float],
        now: float,
    ) -> FollowedTrajectory:
        """Check a trajectory as JointTrajectoryController does.

        Args:
            known: where every joint is led now.

        Raises:
            ValueError: unknown joints, no points, uneven lengths, times that do not increase, or
                positions that are not finite.
        """
        unknown = [name for name in names if name not in known]
        table = np.asarray(positions, dtype=np.float64)
        seconds = np.asarray(times, dtype=np.float64)
        if unknown:
            raise ValueError(f"it names joints that are not there: {', '.join(unknown)}")
        if table.ndim != 2 or not len(table) or table.shape != (len(seconds), len(names)):
            raise ValueError("its points do not have one position a joint")
        if not np.isfinite(table).all():
            raise ValueError("its positions are not finite")
        if seconds[0] <= 0.0 or (np.diff(seconds) <= 0.0).any():
            raise ValueError(f"its times do not increase: {seconds.tolist()}")
        start = np.array([known[name] for name in names])
        return FollowedTrajectory(tuple(names), seconds, table, start, now)

    def at(self, now: float) -> dict[str, float]:
        """Return where the joints are led at a time (s)."""
        seconds = np.concatenate([[0.0], self.times])
        table = np.concatenate([self.start[None], self.positions])
        elapsed = now - self.began
        return {
            name: float(np.interp(elapsed, seconds, table[:, column]))
            for column, name in enumerate(self.names)
        }
