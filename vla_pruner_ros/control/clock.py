"""Time for motion: steady, unless it is simulated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

STEP_TOLERANCE = 5_000_000
"""Nanoseconds the node's clock may fall back against steady time before it counts as a step."""


@dataclass(frozen=True)
class Instant:
    """One instant on the clocks that matter, in ns.

    stamp: the node's clock, which message stamps refer to; it may jump.
    steady: time since an arbitrary start; it never jumps.
    playback: the time by which actions are played, see MotionClock.
    """

    stamp: int
    steady: int
    playback: int


class MotionClock:
    """The clocks of a node read together; any thread may read.

    Playback time is steady time, so that a step of the computer's clock cannot prolong a motion.
    In a simulation it is simulated time plus the steady time since that last advanced: an action
    keeps its length at every speed of the simulation, and still ends if the simulation stops.
    """

    def __init__(
        self,
        stamp_now: Callable[[], int],
        is_simulated: Callable[[], bool],
        steady_now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Read the clocks for the first time.

        Args:
            stamp_now: the node's clock (ns).
            is_simulated: whether that clock follows /clock.
            steady_now: steady time (ns).
        """
        self._stamp_now, self._is_simulated, self._steady_now = stamp_now, is_simulated, steady_now
        self._lock = threading.Lock()
        self._advanced_to, self._advanced_at = -1, steady_now()
        self._offset: int | None = None

    @property
    def is_simulated(self) -> bool:
        """True if the node follows /clock."""
        return self._is_simulated()

    def read(self) -> Instant:
        """Return the present time on all clocks."""
        with self._lock:
            stamp, steady = self._stamp_now(), self._steady_now()
            if stamp != self._advanced_to:
                self._advanced_to, self._advanced_at = stamp, steady
            simulated = stamp + steady - self._advanced_at
            return Instant(stamp, steady, simulated if self._is_simulated() else steady)

    def stood_still(self) -> float:
        """Return for how long (s of steady time) the simulated clock has not advanced."""
        if not self._is_simulated():
            return 0.0
        now = self.read()
        with self._lock:
            return (now.steady - self._advanced_at) * 1e-9

    def stepped_back(self) -> bool:
        """Return whether the computer's clock was set back since the last call.

        rclpy reports jumps of simulated time alone.
        """
        with self._lock:
            before, stamp, after = self._steady_now(), self._stamp_now(), self._steady_now()
            last, self._offset = self._offset, stamp - after
            if self._is_simulated():
                self._offset = None
                return False
            # The thread may have slept between two readings: only what is certain counts.
            return last is not None and stamp - before < last - STEP_TOLERANCE
