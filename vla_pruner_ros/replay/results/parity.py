"""Parity of recorded and replayed actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.replay.inputs.recorded import Kept, Recorded
from vla_pruner_ros.replay.replayer import Run
from vla_pruner_ros.replay.results.action_space import ActionSpace
from vla_pruner_ros.replay.results.comparison import Compared, Reference, compare_run

RECORDED_ACTIONS = "recorded"

TOLERANCE = 1e-4
"""Largest difference of any number of a chunk (m, rad, opening) that counts as equal, for float32
on one class of device; other devices and dtypes need more, see --tolerance."""


@dataclass(frozen=True)
class Parity:
    """recorded: inferences in the bag. comparable: whose whole history is in the bag and could be
    replayed. equal: of these, within the tolerance. largest: greatest difference among them.
    kept_equal: of these, with exactly the recorded kept tokens."""

    recorded: int
    comparable: int
    equal: int
    kept_equal: int
    largest: float
    tolerance: float
    compared: tuple[Compared, ...]

    @property
    def holds(self) -> bool:
        """True if all comparable inferences are equal, and there is one."""
        return self.comparable > 0 and self.equal == self.comparable


def recorded_reference(inferences: Sequence[Recorded]) -> Reference:
    """Return the recorded actions as a reference; chunks without steps are left out."""
    usable = {i: r for i, r in enumerate(inferences) if r.actions.size}
    return Reference(
        RECORDED_ACTIONS,
        {index: recorded.actions for index, recorded in usable.items()},
        {index: r.kept for index, r in usable.items() if r.kept is not None},
    )


def check_parity(
    run: Run,
    inferences: Sequence[Recorded],
    tolerance: float = TOLERANCE,
    space: ActionSpace | None = None,
) -> Parity:
    """Compare a replay under the recorded settings with the recorded actions."""
    compared = compare_run(run, recorded_reference(inferences), space=space)
    known = [one for one in compared if one.step.history_known]
    close = [one for one in known if one.difference.largest <= tolerance]
    return Parity(
        recorded=len(inferences),
        comparable=len(known),
        equal=sum(_same_length(one, inferences[one.step.index]) for one in close),
        kept_equal=sum(_same_kept(one.step.kept, inferences[one.step.index].kept) for one in known),
        largest=max((one.difference.largest for one in known), default=float("nan")),
        tolerance=tolerance,
        compared=tuple(compared),
    )


def gap_remarks(run: Run) -> list[str]:
    """Return remarks on inferences that depend on frames outside the bag."""
    uncovered = sum(not step.history_known for step in run.done)
    if not uncovered:
        return []
    return [
        f"{uncovered} recorded inferences remember frames that are not in the bag (recording began "
        "later, or messages were lost); they are replayed but not counted in the parity"
    ]


def _same_length(one: Compared, recorded: Recorded) -> bool:
    return len(one.step.actions) == len(recorded.actions)


def _same_kept(ours: Kept | None, theirs: Kept | None) -> bool:
    if ours is None or theirs is None or len(ours.indices) != len(theirs.indices):
        return False
    return all(map(np.array_equal, ours.indices, theirs.indices))
