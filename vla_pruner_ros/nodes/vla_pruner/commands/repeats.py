"""Repetition of a stop, because one message may be lost on the way."""

from __future__ import annotations

from vla_pruner_ros.control.clock import Instant

STOPS = 4
"""Messages of one stop, and zero twists at the end of a motion: as many as MoveIt Servo sends
(num_outgoing_halt_msgs_to_publish)."""

STOP_PERIOD = 0.02
"""Seconds between two messages of one stop, at least. All are out before another program can take
over the arm."""


class StopRepeats:
    """Count of the messages that are left of a stop. The caller holds the gate's lock."""

    def __init__(self) -> None:
        self._left = self._sent = 0

    @property
    def pending(self) -> bool:
        """True if messages are left."""
        return self._left > 0

    def begin(self, now: Instant) -> None:
        """Note that the first message of a stop goes out now."""
        self._left, self._sent = STOPS - 1, now.steady

    def cancel(self) -> None:
        """Leave out the rest: a motion begins, or the arm is gone."""
        self._left = 0

    def take(self, now: Instant) -> bool:
        """Return whether a message is due now, and count it."""
        if not self._left or now.steady - self._sent < STOP_PERIOD * 1e9:
            return False
        self._left, self._sent = self._left - 1, now.steady
        return True
