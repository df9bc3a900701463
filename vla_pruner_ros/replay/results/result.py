"""Result of a replay, before it is presented."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_pruner_ros.replay.replayer import Run
from vla_pruner_ros.replay.results.action_space import END_EFFECTOR, ActionSpace
from vla_pruner_ros.replay.results.comparison import (
    Compared,
    Reference,
    Summary,
    by_instruction,
    compare_run,
    summarise,
)
from vla_pruner_ros.replay.results.parity import Parity


@dataclass(frozen=True)
class Source:
    """Bag, checkpoint and machine of a replay."""

    bag: str
    checkpoint: str
    family: str
    trained: bool
    device: str
    topics: tuple[str, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Swept:
    """One setting of the sweep against the unpruned actions; overlap_with: source of the
    kept tokens.
    """

    run: Run
    compared: list[Compared]
    overall: Summary
    instructions: dict[str, Summary]
    overlap_with: str


@dataclass
class ReplayResult:
    """The results of one replay.

    damage: unreadable parts of the bag. skipped: messages that were read but could not be used.
    remarks: further peculiarities.
    interrupted: the user stopped it. space: what the numbers of the actions are.
    """

    source: Source
    space: ActionSpace = END_EFFECTOR
    parity: Parity | None = None
    parity_run: Run | None = None
    swept: list[Swept] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    interrupted: bool = False
    run_info: dict[str, str] = field(default_factory=dict)
    """Date, command, machine, load and versions, by name."""

    @property
    def runs(self) -> list[Run]:
        """All runs, the parity run first."""
        first = [self.parity_run] if self.parity_run else []
        return first + [one.run for one in self.swept]

    @property
    def is_empty(self) -> bool:
        """True if no run has a step with actions."""
        return not any(run.done for run in self.runs)

    @property
    def problems(self) -> dict[str, int]:
        """Number of inferences that had each problem in one run or more."""
        places: dict[str, set[int]] = {}
        for run in self.runs:
            for step in run.problems:
                places.setdefault(step.problem, set()).add(step.index)
        return {problem: len(indices) for problem, indices in places.items()}

    @property
    def is_partial(self) -> bool:
        """True if something that the user requested is missing."""
        return bool(self.damage or self.skipped or self.problems or self.interrupted)

    @property
    def reading_seconds(self) -> float:
        """Mean time to read and convert the images of one inference (s)."""
        steps = sum(len(run.steps) for run in self.runs)
        return sum(run.reading_seconds for run in self.runs) / steps if steps else float("nan")


def sweep(runs: list[Run], recorded: Reference, space: ActionSpace = END_EFFECTOR) -> list[Swept]:
    """Compare each run with the first, the unpruned one.

    The overlap is taken with the tokens that the robot kept, if it pruned at all, else with the
    first run of as many tokens.

    Args:
        runs: of the same inputs.
        recorded: the robot's actions.
        space: of all actions.
    """
    if not runs:
        return []
    full = Reference.of_run(runs[0])
    found = []
    for place, run in enumerate(runs):
        kept = recorded if recorded.prunes else _same_budget(runs[1:place], run)
        compared = compare_run(run, full, kept, space)
        summaries = summarise(compared, space), by_instruction(compared, space)
        found.append(Swept(run, compared, *summaries, kept.name))
    return found


def _same_budget(earlier: list[Run], run: Run) -> Reference:
    for other in earlier:
        ours, theirs = run.setting.pruning, other.setting.pruning
        if ours is not None and theirs is not None and ours.keep_ratio == theirs.keep_ratio:
            return Reference.of_run(other)
    return Reference("none", {}, {})
