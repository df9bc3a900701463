"""Newest frame of each camera, and their grouping into sets."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class CameraFrame:
    """One image message as received.

    stamp: capture time (ns) on the node's clock; arrival: time.monotonic() at the callback (s);
    first: the arrival of the first frame of this stamp, which FrameBuffer fills in.
    """

    message: Any
    stamp: int
    arrival: float
    first: float = 0.0


class FrameBuffer:
    """Buffer of the newest frame of every camera; it returns complete sets.

    A set is complete when each camera has delivered since the last set was taken and the stamps lie
    within `max_spread` of each other. Waiting for every camera keeps a set from pairing a new frame
    with one that was used before. A camera silent for longer than `patience` (s; unlimited at
    first) is not waited for: None takes its place in the sets until it delivers again.
    """

    def __init__(self, num_cameras: int, max_spread: float) -> None:
        """max_spread: largest difference between the stamps of one set (s)."""
        self.max_spread = max_spread
        self.patience = math.inf
        self._since = self._since_set = time.monotonic()
        self._lock = threading.Lock()
        self._newest: list[CameraFrame | None] = [None] * num_cameras
        self._is_new = [False] * num_cameras
        self._smallest_spread = math.inf
        self.replaced = 0

    def put(self, camera: int, frame: CameraFrame) -> bool:
        """Store a frame over the camera's older one; return whether a complete set is there."""
        with self._lock:
            self.replaced += self._is_new[camera]
            last = self._newest[camera]
            repeats = last is not None and last.stamp == frame.stamp
            self._newest[camera] = replace(frame, first=last.first if repeats else frame.arrival)
            self._is_new[camera] = True
            if all(self._is_new):
                self._smallest_spread = min(self._smallest_spread, _spread(self._newest))
            return self._is_complete()

    def take(self) -> list[CameraFrame | None] | None:
        """Return one frame per camera and mark them used, or None where no set is complete."""
        with self._lock:
            if not self._is_complete():
                return None
            self._is_new = [False] * len(self._is_new)
            self._since_set, self._smallest_spread = time.monotonic(), math.inf
            present = self._present()
            return [f if there else None for f, there in zip(self._newest, present, strict=True)]

    def arrivals(self) -> list[float | None]:
        """Return when each camera last delivered (time.monotonic(), s)."""
        with self._lock:
            return [frame.arrival if frame else None for frame in self._newest]

    def newest(self) -> list[CameraFrame | None]:
        """Return the newest frame of each camera, used or not."""
        with self._lock:
            return list(self._newest)

    def silence(self) -> list[float]:
        """Return for how long (s) each camera was silent, or awaited where it never came."""
        with self._lock:
            return self._silence()

    def missing(self) -> list[int]:
        """Return the cameras that are not waited for, where there are others."""
        with self._lock:
            present = self._present()
        return [camera for camera, there in enumerate(present) if not there and any(present)]

    def clear(self) -> None:
        """Drop all frames, and count the time without a set from now on."""
        with self._lock:
            self._since = self._since_set = time.monotonic()
            self._smallest_spread = math.inf
            self._newest = [None] * len(self._newest)
            self._is_new = [False] * len(self._is_new)

    def spread(self) -> float:
        """Return the spread of the newest stamps (s); 0.0 until every camera has delivered."""
        with self._lock:
            return _spread(self._newest) if all(self._newest) else 0.0

    def apart(self, patience: float) -> tuple[float, list[int]] | None:
        """Return why no set is complete though every camera delivers, None if that is not so.

        Args:
            patience: time (s) without a set before it is reported.

        Returns:
            The smallest spread (s) seen since the last set, and the cameras with the oldest and the
            newest stamp.
        """
        with self._lock:
            waits = time.monotonic() - self._since_set > patience
            if not waits or self._smallest_spread <= self.max_spread or not all(self._newest):
                return None
            if math.isinf(self._smallest_spread):
                return None
            stamps = [frame.stamp for frame in self._newest]
            ends = sorted({stamps.index(min(stamps)), stamps.index(max(stamps))})
            return self._smallest_spread, ends

    def _silence(self) -> list[float]:
        now = time.monotonic()
        return [now - (frame.arrival if frame else self._since) for frame in self._newest]

    def _present(self) -> list[bool]:
        return [silence <= self.patience for silence in self._silence()]

    def _is_complete(self) -> bool:
        present = self._present()
        news = [new for new, there in zip(self._is_new, present, strict=True) if there]
        if not news or not all(news):
            return False
        frames = [f for f, there in zip(self._newest, present, strict=True) if there]
        return _spread(frames) <= self.max_spread


def _spread(frames: list[CameraFrame]) -> float:
    stamps = [frame.stamp for frame in frames]
    return (max(stamps) - min(stamps)) * 1e-9
