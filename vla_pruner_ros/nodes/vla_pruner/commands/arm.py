"""The interface of commands to an arm, of whatever kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vla_pruner_ros.control.action_queue import PlannedAction
from vla_pruner_ros.control.clock import Instant


@dataclass(frozen=True)
class Play:
    """One action to carry out now.

    planned: the action. rest: those behind it in the queue. period: its length (s).
    starts_chunk: it is the first that is played of its chunk. now: the present time.
    """

    planned: PlannedAction
    rest: Sequence[PlannedAction]
    period: float
    starts_chunk: bool
    now: Instant


class Arm(Protocol):
    """Commands of one kind. The caller holds the gate's lock around every call."""

    def begin(self) -> None:
        """Clear earlier commands; called when motion is allowed."""
        ...

    def play(self, play: Play) -> None:
        """Limit and publish one action.

        Raises:
            ValueError: the action is not carried out and nothing is published; the message gives
                the reason.
        """
        ...

    def command(self, now: Instant) -> bool:
        """Publish what is due between two actions; return whether the arm may still be moving."""
        ...

    def drop(self) -> None:
        """Drop what is under way, because a stop follows."""
        ...

    def hold(self, now: Instant) -> bool:
        """Publish the stop: stay at the measured place. Return whether there was one to publish."""
        ...

    def repeat_hold(self, now: Instant) -> None:
        """Publish the last stop again, to the same place: the arm must not creep."""
        ...
