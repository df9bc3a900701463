"""Results for scripts: summary.json and inferences.csv."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_ros.replay.results.action_space import ActionSpace
from vla_pruner_ros.replay.results.comparison import Compared, Summary
from vla_pruner_ros.replay.results.parity import Parity
from vla_pruner_ros.replay.results.result import ReplayResult, Swept

SCHEMA = "vla_pruner_ros.replay/1"
"""Name and version of the result files; docs/reference/result_files.md describes them."""


def columns(space: ActionSpace) -> tuple[str, ...]:
    """Return the columns of inferences.csv; the last ones follow from the action's numbers."""
    return (
        "setting",
        "reference",
        "index",
        "stamp",
        "instruction",
        "reset",
        "tokens_kept",
        "tokens_total",
        "history_incomplete",
        "history_known",
        "latency",
        "translation_error",
        "rotation_error",
        "joint_error",
        "cosine",
        "gripper_disagreement",
        "token_overlap",
        *(f"error_{name}" for name in space.names),
        *(f"first_{name}" for name in space.names),
        "problem",
    )


def write_json(path: Path, outcome: ReplayResult) -> None:
    """Write the summaries; NaN becomes null. Units: m, rad, s, shares of 1."""
    path.write_text(json.dumps(_plain(summary_values(outcome)), indent=2) + "\n", "utf-8")


def summary_values(outcome: ReplayResult) -> dict[str, Any]:
    """Return the results as plain values."""
    return {
        "schema": SCHEMA,
        "run": outcome.run_info,
        "source": vars(outcome.source),
        "parity": _parity(outcome.parity) if outcome.parity else None,
        "settings": [_setting(one, outcome.space) for one in outcome.swept],
        "reading_seconds_per_inference": outcome.reading_seconds,
        "problems": outcome.problems,
        "remarks": outcome.remarks,
        "damage": outcome.damage,
        "skipped": outcome.skipped,
        "interrupted": outcome.interrupted,
    }


def _parity(parity: Parity) -> dict[str, Any]:
    values = {name: value for name, value in vars(parity).items() if name != "compared"}
    return {**values, "holds": parity.holds}


def _setting(one: Swept, space: ActionSpace) -> dict[str, Any]:
    return {
        "name": one.run.setting.name,
        "pruning": vars(one.run.setting.pruning) if one.run.setting.pruning else None,
        "overall": _summary(one.overall, space),
        "instructions": {text: _summary(s, space) for text, s in one.instructions.items()},
    }


def _summary(summary: Summary, space: ActionSpace) -> dict[str, Any]:
    values = dict(vars(summary))
    values["absolute"] = dict(zip(space.names, summary.absolute.tolist(), strict=True))
    return values


def _plain(value: Any) -> Any:
    """Replace values that JSON cannot represent."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_csv(path: Path, outcome: ReplayResult) -> None:
    """Write one line per setting and inference, problems included."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns(outcome.space))
        if outcome.parity and outcome.parity_run:
            compared = {one.step.index: one for one in outcome.parity.compared}
            rows = _rows(outcome.parity_run, "recorded", compared, outcome.space)
            writer.writerows(rows)
        for one in outcome.swept:
            compared = {item.step.index: item for item in one.compared}
            writer.writerows(_rows(one.run, "full", compared, outcome.space))


def _rows(
    run: Any, reference: str, compared: dict[int, Compared], space: ActionSpace
) -> Iterator[list[Any]]:
    blank = [""] * space.width
    for step in run.steps:
        one = compared.get(step.index)
        difference = one.difference if one else None
        first = (
            step.actions[0].tolist() if step.actions is not None and len(step.actions) else blank
        )
        yield [
            run.setting.name,
            reference,
            step.index,
            step.stamp,
            step.instruction,
            step.reset,
            *step.tokens,
            int(step.history_incomplete),
            int(step.history_known),
            _number(step.seconds),
            _number(difference.translation if difference else None),
            _number(difference.rotation if difference else None),
            _number(difference.joints if difference else None),
            _number(difference.cosine if difference else None),
            _number(difference.gripper if difference else None),
            _number(one.overlap if one else None),
            *(difference.absolute.tolist() if difference else blank),
            *first,
            step.problem,
        ]


def _number(value: float | None) -> float | str:
    return "" if value is None or not math.isfinite(value) else value
