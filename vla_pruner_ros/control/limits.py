"""Limits of every action before it may move the arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class NotFiniteError(ValueError):
    """Error of an action with NaN or infinity, which cannot be carried out."""


@dataclass(frozen=True)
class ActionLimits:
    """Largest motion of one action.

    max_translation: length of dx dy dz (m); max_rotation: length of droll dpitch dyaw (rad);
    max_gripper_step: change of the gripper opening (1 = from closed to open);
    workspace: lowest and highest x y z of the end effector (m) in the action frame, or None.
    """

    max_translation: float
    max_rotation: float
    max_gripper_step: float = 1.0
    workspace: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None

    def apply(
        self,
        action: np.ndarray,
        gripper: float | None = None,
        position: np.ndarray | None = None,
        pending: np.ndarray | Sequence[np.ndarray] = (),
    ) -> tuple[np.ndarray, list[str]]:
        """Return (action within the limits, names of the limits that were met).

        action: [7] dx dy dz (m), droll dpitch dyaw (rad), gripper (0..1); gripper: the last
        commanded opening, None before the first; position: end effector x y z (m), needed if a
        workspace is set; pending: translations [3] (m) that were commanded and that the position
        may not show yet. Displacements are shortened and keep their direction. At the workspace's
        walls only the part that leads out is removed.

        Raises:
            NotFiniteError: the action holds NaN or infinity.
            ValueError: the shape is not [7], or a workspace is set and no finite position given.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,):
            raise ValueError(f"An action has 7 values, got shape {action.shape}")
        if not np.isfinite(action).all():
            raise NotFiniteError(f"The action holds values that are not finite: {action.tolist()}")
        met: list[str] = []
        limited = action.copy()
        limited[:3] = _shorten(action[:3], self.max_translation, "translation", met)
        limited[3:6] = _shorten(action[3:6], self.max_rotation, "rotation", met)
        limited[6] = self._limit_gripper(action[6], gripper, met)
        if self.workspace is not None:
            limited[:3] = self._keep_inside(limited[:3], position, pending, met)
        return limited, met

    def _limit_gripper(self, target: float, last: float | None, met: list[str]) -> float:
        low = 0.0 if last is None else max(0.0, last - self.max_gripper_step)
        high = 1.0 if last is None else min(1.0, last + self.max_gripper_step)
        clipped = min(max(target, low), high)
        if abs(clipped - target) > 1e-6:
            met.append("gripper")
        return clipped

    def _keep_inside(
        self,
        translation: np.ndarray,
        position: np.ndarray | None,
        pending: np.ndarray | Sequence[np.ndarray],
        met: list[str],
    ) -> np.ndarray:
        if position is None or not np.isfinite(position).all():
            raise ValueError("A workspace is set but the end effector's position is not known")
        low, high = (np.asarray(corner, dtype=np.float64) for corner in self.workspace)
        # Each pending motion may or may not have happened: the worse is assumed, axis by axis.
        under_way = np.reshape(pending, (-1, 3))
        room_down = np.minimum(low - position - under_way.clip(max=0.0).sum(axis=0), 0.0)
        room_up = np.maximum(high - position - under_way.clip(min=0.0).sum(axis=0), 0.0)
        # Outside already: only motion back towards the box is allowed.
        inside = np.clip(translation, room_down, room_up)
        if not np.allclose(inside, translation, atol=1e-9):
            met.append("workspace")
        return inside


def _shorten(vector: np.ndarray, longest: float, name: str, met: list[str]) -> np.ndarray:
    largest = float(np.abs(vector).max())
    if largest == 0.0:
        return vector
    length = largest * float(np.linalg.norm(vector / largest))  # no overflow for huge values
    if length <= longest:
        return vector
    met.append(name)
    return (vector / largest) * (longest / (length / largest))
