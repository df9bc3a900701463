"""The actions still to be carried out, in step with the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlannedAction:
    """One action of a chunk.

    values: float32 [7], as ActionChunk.actions; step: index in its chunk; sequence: the inference;
    image_stamp: when the image behind it was taken (ns); epoch: of the gate when it was computed.
    """

    values: np.ndarray
    step: int
    sequence: int
    image_stamp: int
    epoch: int


class ActionQueue:
    """Plays chunks at a fixed period; a new chunk replaces what is left of the old one.

    Latency compensation: action i of a chunk is meant for [t + i p, t + (i + 1) p) after the image
    at time t, so actions whose interval has passed are skipped when the chunk arrives. The last one
    is always kept: a policy that answers with one action per image would otherwise never move.
    Not thread safe; the node holds its gate around every call.
    """

    def __init__(self) -> None:
        self._waiting: list[PlannedAction] = []
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def image_stamp(self) -> int | None:
        """Stamp of the image behind the next action (ns), None where nothing waits."""
        return self._waiting[0].image_stamp if self._waiting else None

    def replace(
        self,
        chunk: list[PlannedAction],
        now: int,
        period: float,
        compensate: bool = True,
        blend_steps: int = 0,
    ) -> None:
        """Put a chunk in place of the actions still waiting.

        now: node clock (ns); period: time between actions (s); compensate: skip what has passed;
        blend_steps: over that many actions, go linearly from the old chunk to the new one.
        """
        passed = self._passed(chunk, now, period) if compensate else 0
        self.skipped += passed
        old, new = self._waiting, chunk[passed:]
        self._waiting = blend(old, new, blend_steps)

    def pop(self) -> PlannedAction | None:
        return self._waiting.pop(0) if self._waiting else None

    def clear(self) -> None:
        self._waiting.clear()

    @staticmethod
    def _passed(chunk: list[PlannedAction], now: int, period: float) -> int:
        if not chunk:
            return 0
        age = (now - chunk[0].image_stamp) * 1e-9
        return min(max(0, int(age / period)), len(chunk) - 1)


def blend(old: list[PlannedAction], new: list[PlannedAction], steps: int) -> list[PlannedAction]:
    """Return `new` with its first `steps` actions mixed with `old`, the new share growing.

    The gripper is not mixed: half open is neither of the two commands.
    """
    blended = list(new)
    for i in range(min(steps, len(old), len(new))):
        share = (i + 1) / (steps + 1)
        values = share * new[i].values + (1.0 - share) * old[i].values
        values[6] = new[i].values[6]
        blended[i] = PlannedAction(
            values.astype(np.float32),
            new[i].step,
            new[i].sequence,
            new[i].image_stamp,
            new[i].epoch,
        )
    return blended
