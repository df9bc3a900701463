"""Part of the report that shows which patches each setting kept."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vla_pruner_ros import report
from vla_pruner_ros.conversions.overlay import PRUNED_BRIGHTNESS, kept_mask
from vla_pruner_ros.replay.replayer import Run, Step
from vla_pruner_ros.replay.results.images import evenly

SLIDER_FRAMES = 48
SHOWN = 3
"""Settings that are shown until others are chosen."""

Images = dict[int, list[np.ndarray]]


def kept_tokens_player(runs: list[Run], images: Images) -> Markup | None:
    """Return one player for all runs that pruned; None if no frame of theirs can be shown.

    Args:
        runs: of the replay.
        images: uint8 [h, w, 3] of each camera, by the index of the input.
    """
    runs = [run for run in runs if any(_is_pruned(step) for step in run.done)]
    found = sorted({step.index for run in runs for step in run.done if step.index in images})
    indices = evenly(found, SLIDER_FRAMES)
    if not indices:
        return None
    steps = {step.index: step for run in reversed(runs) for step in run.done}
    first = min(steps[index].stamp for index in indices)
    shown = _shown_at_first(runs)
    settings = [
        report.KeptSetting(run.setting.name, _frames(run, indices, images), run in shown)
        for run in runs
    ]
    captions = [
        f"{(steps[index].stamp - first) * 1e-9:.2f} s · {steps[index].instruction}"
        for index in indices
    ]
    return report.kept_player(
        [images[index] for index in indices], captions, settings, PRUNED_BRIGHTNESS
    )


def _frames(run: Run, indices: list[int], images: Images) -> list[report.KeptFrame | None]:
    steps = {step.index: step for step in run.done}
    return [
        _frame(steps[index], len(images[index])) if index in steps else None for index in indices
    ]


def _frame(step: Step, cameras: int) -> report.KeptFrame:
    kept, masks = step.kept, None
    if kept is not None and len(kept.indices) == cameras and min(kept.grid) > 0:
        masks = [kept_mask(indices, kept.grid) for indices in kept.indices]
    return report.KeptFrame(kept_caption(step), masks)


def kept_caption(step: Step) -> str:
    """Return how many tokens a step kept."""
    state = " · history incomplete" if step.history_incomplete else ""
    return f"{step.tokens[0]} of {step.tokens[1]} tokens{state}"


def _shown_at_first(runs: list[Run]) -> list[Run]:
    """Return the smallest budget of every series, or budgets of one series, SHOWN at most."""
    smallest: dict[str, Run] = {}
    for run in runs:
        name = run.setting.series or run.setting.name
        known = smallest.get(name)
        if known is None or run.done[-1].tokens[0] < known.done[-1].tokens[0]:
            smallest[name] = run
    if len(smallest) > 1:
        return list(smallest.values())[:SHOWN]
    return [runs[place] for place in evenly(list(range(len(runs))), SHOWN)]


def _is_pruned(step: Step) -> bool:
    return 0 < step.tokens[0] < step.tokens[1]
