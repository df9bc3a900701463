"""The newest frame of each camera, and whether they belong together."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    """One image message as it came.

    stamp: capture time (ns) on the node's clock; arrival: time.monotonic() at the callback (s).
    """

    message: Any
    stamp: int
    arrival: float


class FrameBuffer:
    """Keeps the newest frame of every camera and hands out complete sets.

    A set is complete when each camera has delivered since the last set was taken and the stamps lie
    within `max_spread` of each other. Waiting for every camera keeps a set from pairing a new frame
    with one that was used before.
    """

    def __init__(self, num_cameras: int, max_spread: float) -> None:
        """max_spread: largest difference between the stamps of one set (s)."""
        self.max_spread = max_spread
        self._lock = threading.Lock()
        self._newest: list[Frame | None] = [None] * num_cameras
        self._is_new = [False] * num_cameras
        self.replaced = 0

    def put(self, camera: int, frame: Frame) -> bool:
        """Store a frame over the camera's older one; return whether a complete set is there."""
        with self._lock:
            self.replaced += self._is_new[camera]
            self._newest[camera] = frame
            self._is_new[camera] = True
            return self._is_complete()

    def take(self) -> list[Frame] | None:
        """Return one frame per camera and mark them used, or None where no set is complete."""
        with self._lock:
            if not self._is_complete():
                return None
            self._is_new = [False] * len(self._is_new)
            return list(self._newest)

    def arrivals(self) -> list[float | None]:
        """Return when each camera last delivered (time.monotonic(), s)."""
        with self._lock:
            return [frame.arrival if frame else None for frame in self._newest]

    def clear(self) -> None:
        with self._lock:
            self._newest = [None] * len(self._newest)
            self._is_new = [False] * len(self._is_new)

    def spread(self) -> float:
        """Return the spread of the newest stamps (s); 0.0 until every camera has delivered."""
        with self._lock:
            return self._spread() if all(self._newest) else 0.0

    def _is_complete(self) -> bool:
        return all(self._is_new) and self._spread() <= self.max_spread

    def _spread(self) -> float:
        stamps = [frame.stamp for frame in self._newest]
        return (max(stamps) - min(stamps)) * 1e-9
