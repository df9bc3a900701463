"""Age limits of received messages, by stamp and by arrival. Decided here alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from vla_pruner_ros.control.clock import Instant

CLOCK_TOLERANCE = 0.05
"""Seconds a stamp may lie in the future: jitter between clocks."""

M = TypeVar("M")


@dataclass(frozen=True)
class Received(Generic[M]):
    """A message with its times.

    stamp: when it was measured, on the node's clock (ns), 0 if the sender gave none.
    arrival: time of receipt, on steady time (ns).
    first: when the first message of this stamp came: a repetition is no news.
    """

    message: M
    stamp: int
    arrival: int
    first: Instant

    @classmethod
    def now(cls, message: M, stamp: int, now: Instant, last: Received | None) -> Received[M]:
        """Return a message as it came now, after `last`."""
        repeats = last is not None and stamp != 0 and stamp == last.stamp
        return cls(message, stamp, now.steady, last.first if repeats else now)

    def age_by_arrival(self, now: Instant) -> float:
        """Return the seconds since it came."""
        return (now.steady - self.arrival) * 1e-9

    def age_by_stamp(self, now: Instant) -> float:
        """Return the seconds since its stamp, negative if that lies in the future."""
        return (now.stamp - self.stamp) * 1e-9 if self.stamp else 0.0

    def measured(self, now: Instant) -> int:
        """Return when it was measured, on playback time (ns): not after it came, whatever its
        stamp."""
        age = self.age_by_stamp(now)
        return min(now.playback - round(max(0.0, age) * 1e9), self.first.playback)

    def repeated_for(self, now: Instant) -> float:
        """Return for how long (s) messages of this stamp have come."""
        return (now.steady - self.first.steady) * 1e-9


def is_silent(received: Received | None, limit: float, now: Instant) -> bool:
    """Return whether nothing came for `limit` seconds, or never."""
    return received is None or received.age_by_arrival(now) > limit


def repeat_problem(what: str, seconds: float, limit: float, limit_name: str) -> str:
    """Return a sentence if one stamp has come again and again for longer than a limit (s), else "".

    A sender that is stuck, and whose clock is ahead, has stamps that are not old yet.
    """
    if seconds <= limit:
        return ""
    return (
        f"{what} repeats a stamp that came {seconds:.2f} s ago, longer than {limit_name} "
        f"{limit:.2f} s: check its sender"
    )


def stamp_problem(what: str, age: float, limit: float, limit_name: str) -> str:
    """Return a sentence if a stamp's age (s) is no age to act on, else "".

    Args:
        what: subject of the sentence, such as "The newest image".
        age: now minus the stamp (s).
        limit: the oldest allowed (s); limit_name: its parameter.
    """
    if age > limit:
        return (
            f"{what} is {age:.2f} s old, older than {limit_name} {limit:.2f} s: "
            "check its sender, the network and that the clocks are synchronised"
        )
    if age < -max(CLOCK_TOLERANCE, limit):
        return (
            f"{what} is stamped {-age:.2f} s in the future: synchronise the clocks of the "
            "computer that sends it and of this one"
        )
    return ""
