"""Equality of the histories of replayed and recorded policy, inference by inference."""

from __future__ import annotations

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import find_method
from vla_pruner_ros.replay.inputs.recorded import Recorded


class History:
    """History of the recorded inferences in order; a lost output or image leaves a gap in it.

    The policy's history is the window of action relevance (pruning/relevance.py). The result of a
    pruned step depends on the window before, so a gap lasts. The result of an unpruned step depends
    on its images alone. So the gap is closed by a reset, or by a full window of unpruned steps.
    """

    def __init__(self) -> None:
        self._known = False
        self._unpruned = 0  # steps in a row just before
        self._next_sequence = 0

    def covers(self, recorded: Recorded) -> bool:
        """Return whether everything this inference depends on has been replayed."""
        if self._starts_anew(recorded):
            self._known, self._unpruned = True, 0
        elif recorded.sequence != self._next_sequence:
            self._known, self._unpruned = False, 0
        pruning = recorded.pruning or PruningConfig()
        if self._unpruned >= pruning.temporal_window and not _counts_steps(pruning):
            self._known = True
        return self._known or recorded.is_unpruned

    def _starts_anew(self, recorded: Recorded) -> bool:
        if recorded.resets or recorded.sequence == 0:
            return True
        counts = recorded.pruning is not None and _counts_steps(recorded.pruning)
        return recorded.history_length == 0 and not counts

    def add(self, recorded: Recorded, replayed: bool) -> None:
        """Add the inference last given to covers(); replayed: it has succeeded."""
        self._known = self._known and replayed
        self._unpruned = self._unpruned + 1 if replayed and recorded.is_unpruned else 0
        self._next_sequence = recorded.sequence + 1


def _counts_steps(pruning: PruningConfig) -> bool:
    """Return whether no later frame makes up for a lost one."""
    return find_method(pruning.method).counts_steps
