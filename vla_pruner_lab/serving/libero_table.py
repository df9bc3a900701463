"""LIBERO's table in the paper's form, with intervals, from the records of vla-eval.

python -m vla_pruner_lab.serving.libero_table full=results/full pruned=results/keep_25
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from vla_pruner_lab.common.markdown import DASH, markdown_table
from vla_pruner_lab.common.program import lab_program

PROGRAM = lab_program("serving.libero_table", __doc__, "full=results/full pruned=results/keep_25")
SUITES = {
    "libero_spatial": "Spatial",
    "libero_object": "Object",
    "libero_goal": "Goal",
    "libero_10": "Long",
}


class RecordError(ValueError):
    """Records that cannot be used; the sentence names the file."""


@dataclass
class Tally:
    """Episodes of one suite. errors: episodes that ended by an error, which count as failures."""

    successes: int = 0
    episodes: int = 0
    errors: int = 0

    @property
    def rate(self) -> float:
        """Share of episodes that succeeded, 0 to 1."""
        return self.successes / self.episodes

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return Wilson's interval of the success rate."""
        test = binomtest(self.successes, self.episodes)
        found = test.proportion_ci(confidence, method="wilson")
        return float(found.low), float(found.high)

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.successes += other.successes
        self.episodes += other.episodes
        self.errors += other.errors


@dataclass
class Run:
    """All records of one line of the table. partial: files whose evaluation is not complete."""

    name: str
    suites: dict[str, Tally] = field(default_factory=dict)
    partial: list[str] = field(default_factory=list)

    def total(self) -> Tally:
        """Return all suites together."""
        total = Tally()
        for tally in self.suites.values():
            total.add(tally)
        return total


def read_run(name: str, folder: Path) -> Run:
    """Read every *_aggregate.json below a folder, as vla-eval export writes them.

    Raises:
        RecordError: there is none, or one cannot be used.
    """
    paths = sorted(folder.rglob("*_aggregate.json"))
    if not paths:
        raise RecordError(f"{folder} holds no *_aggregate.json: run vla-eval export first")
    run = Run(name)
    for path in paths:
        record = _read(path)
        suite = _suite(record, path)
        run.suites.setdefault(suite, Tally()).add(_tally(record, path))
        if record.get("partial"):
            run.partial.append(str(path))
    return run


def table(runs: Sequence[Run]) -> list[str]:
    """Return the table: success in percent with its 95 % interval, mean of suites, relative."""
    head = ["", *SUITES.values(), "mean", "relative"]
    first = _mean(runs[0])
    rows = []
    for run in runs:
        cells = [_cell(run.suites.get(suite)) for suite in SUITES]
        mean = _mean(run)
        relative = DASH if mean is None or not first else f"{100 * mean / first:.1f} %"
        rows.append([run.name, *cells, DASH if mean is None else f"{100 * mean:.1f}", relative])
    return markdown_table(head, rows)


def remarks(runs: Sequence[Run]) -> list[str]:
    """Return what a reader must know: episodes, errors, evaluations that are not complete."""
    lines = []
    for run in runs:
        total = run.total()
        lines.append(f"- {run.name}: {total.episodes} episodes, {total.errors} ended by an error")
        lines += [f"- {run.name}: {path} is not complete" for path in run.partial]
    return lines


def _cell(tally: Tally | None) -> str:
    if tally is None or not tally.episodes:
        return DASH
    low, high = tally.interval()
    return f"{100 * tally.rate:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _mean(run: Run) -> float | None:
    """The papers' average: of the four suites, each with the same weight."""
    if any(suite not in run.suites or not run.suites[suite].episodes for suite in SUITES):
        return None
    return sum(run.suites[suite].rate for suite in SUITES) / len(SUITES)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path} is no record of vla-eval")
    return record


def _suite(record: dict[str, Any], path: Path) -> str:
    config = record.get("config")
    parameters = config.get("params") if isinstance(config, dict) else None
    suite = parameters.get("suite") if isinstance(parameters, dict) else None
    if suite not in SUITES:
        raise RecordError(f"{path} names no suite of LIBERO in config.params.suite: {suite!r}")
    return suite


def _tally(record: dict[str, Any], path: Path) -> Tally:
    tally = Tally()
    try:
        for task in record["tasks"]:
            for episode in task["episodes"]:
                tally.episodes += 1
                failed = bool(episode.get("failure_reason"))
                tally.errors += failed
                tally.successes += bool(episode["metrics"]["success"]) and not failed
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} is no record of vla-eval: {error!r}") from None
    return tally


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="lines; the first is 100 %%")
    options = parser.parse_args(arguments)
    named = [text.partition("=") for text in options.runs]
    runs = [read_run(name, Path(folder)) for name, _, folder in named]
    print("\n".join([*table(runs), "", *remarks(runs)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
