"""Actions that are still to be carried out, in step with the clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class PlannedAction:
    """One action of a chunk.

    values: [n] of an end effector: displacement x y z (m), roll pitch yaw (rad); or the arm's joint
    targets (rad or m); then the grippers' openings 0..1, from index first_gripper on.
    pose: [7] to reach instead of the displacement: x y z (m), quaternion x y z w; None if there is
    a displacement. step: index in its chunk; sequence: the inference;
    image_stamp: when the image behind it was taken, on the node's clock (ns); captured: the same
    time of playback (ns); epoch: of the gate when it was computed.
    """

    values: np.ndarray
    step: int
    sequence: int
    image_stamp: int
    epoch: int
    captured: int = 0
    first_gripper: int = 6
    pose: np.ndarray | None = None

    def lateness(self, now: int, period: float) -> float:
        """Return how far (s) `now`, on playback time (ns), is past the time it was meant for.

        Action i of a chunk is meant for i periods (s) after its image.
        """
        return (now - self.captured) * 1e-9 - self.step * period


class ActionQueue:
    """Queue of chunks played at a fixed period; a new chunk replaces the rest of the old one.

    Latency compensation: action i of a chunk is meant for [t + i p, t + (i + 1) p) after the image
    at time t. When the chunk arrives, actions whose interval has passed are skipped. The last one
    is always kept: otherwise a policy with one action per image would never move.
    Not thread safe; the node holds its gate around every call.
    """

    def __init__(self) -> None:
        self._waiting: list[PlannedAction] = []
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next(self) -> PlannedAction | None:
        """Next action to come out, None if the queue is empty."""
        return self._waiting[0] if self._waiting else None

    @property
    def waiting(self) -> tuple[PlannedAction, ...]:
        """The actions that wait, in order."""
        return tuple(self._waiting)

    def replace(
        self,
        chunk: list[PlannedAction],
        now: int,
        period: float,
        compensate: bool = True,
        blend_steps: int = 0,
    ) -> None:
        """Replace the waiting actions by a chunk.

        Args:
            chunk: actions in order.
            now: playback time (ns).
            period: time between actions (s).
            compensate: skip the actions whose time has passed.
            blend_steps: over that many actions, go linearly from the old chunk to the new one.
        """
        passed = self._passed(chunk, now, period) if compensate else 0
        self.skipped += passed
        old, new = self._waiting, chunk[passed:]
        self._waiting = blend(old, new, blend_steps)

    def pop(self) -> PlannedAction | None:
        """Remove and return the next action, None if the queue is empty."""
        return self._waiting.pop(0) if self._waiting else None

    def clear(self) -> None:
        """Remove all actions."""
        self._waiting.clear()

    @staticmethod
    def _passed(chunk: list[PlannedAction], now: int, period: float) -> int:
        if not chunk:
            return 0
        age = (now - chunk[0].captured) * 1e-9
        return min(max(0, int(age / period)), len(chunk) - 1)


def blend(old: list[PlannedAction], new: list[PlannedAction], steps: int) -> list[PlannedAction]:
    """Return `new` with its first `steps` actions mixed with `old`, the new share growing.

    The gripper is not mixed: half open is neither of the two commands.
    """
    blended = list(new)
    for i in range(min(steps, len(old), len(new))):
        share = (i + 1) / (steps + 1)
        values = share * new[i].values + (1.0 - share) * old[i].values
        grippers = slice(new[i].first_gripper, None)
        values[grippers] = new[i].values[grippers]
        blended[i] = replace(new[i], values=values.astype(np.float32))
    return blended
