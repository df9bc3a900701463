"""Everything a replay found, before it is shown in one form or another."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_pruner_ros.replay.comparison import (
    Compared,
    Reference,
    Summary,
    by_instruction,
    compare_run,
    summarise,
)
from vla_pruner_ros.replay.parity import Parity
from vla_pruner_ros.replay.replayer import Run


@dataclass(frozen=True)
class Source:
    """What was replayed with what."""

    bag: str
    checkpoint: str
    family: str
    trained: bool
    device: str
    topics: tuple[str, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Swept:
    """One setting of the sweep against the unpruned actions."""

    run: Run
    compared: list[Compared]
    overall: Summary
    instructions: dict[str, Summary]


@dataclass
class Outcome:
    """The results of one replay.

    damage: what of the bag could not be read. remarks: what else one should know.
    interrupted: the user stopped it.
    """

    source: Source
    parity: Parity | None = None
    parity_run: Run | None = None
    swept: list[Swept] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def runs(self) -> list[Run]:
        first = [self.parity_run] if self.parity_run else []
        return first + [one.run for one in self.swept]

    @property
    def is_empty(self) -> bool:
        return not any(run.done for run in self.runs)

    @property
    def problems(self) -> dict[str, int]:
        """How many inferences had each problem, over all runs."""
        counts: dict[str, int] = {}
        for run in self.runs:
            for step in run.problems:
                counts[step.problem] = counts.get(step.problem, 0) + 1
        return counts

    @property
    def is_partial(self) -> bool:
        """Something is missing that the user asked for."""
        return bool(self.damage or self.problems or self.interrupted)

    @property
    def reading_seconds(self) -> float:
        """Mean time to read and convert the images of one inference (s)."""
        steps = sum(len(run.steps) for run in self.runs)
        return sum(run.reading_seconds for run in self.runs) / steps if steps else float("nan")


def sweep(runs: list[Run], kept: Reference | None) -> list[Swept]:
    """Compare each run with the first, the unpruned one.

    Args:
        runs: of the same moments.
        kept: whose kept tokens the overlap is taken with: the robot's if they were recorded, else
            those of the run before it with as many tokens.
    """
    if not runs:
        return []
    full = Reference.of_run(runs[0])
    found = []
    for place, run in enumerate(runs):
        compared = compare_run(run, full, kept or _same_budget(runs[1:place], run))
        found.append(Swept(run, compared, summarise(compared), by_instruction(compared)))
    return found


def _same_budget(earlier: list[Run], run: Run) -> Reference:
    for other in earlier:
        ours, theirs = run.setting.pruning, other.setting.pruning
        if ours is not None and theirs is not None and ours.keep_ratio == theirs.keep_ratio:
            return Reference.of_run(other)
    return Reference("none", {}, {})
