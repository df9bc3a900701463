"""The report of a replay as one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

import numpy as np

from vla_pruner_ros import report
from vla_pruner_ros.replay.inputs.recorded import Recorded
from vla_pruner_ros.replay.replayer import Run, Step
from vla_pruner_ros.replay.results.action_space import ActionSpace
from vla_pruner_ros.replay.results.comparison import Compared, Difference
from vla_pruner_ros.replay.results.images import evenly, side_by_side
from vla_pruner_ros.replay.results.kept_tokens import (
    SLIDER_FRAMES,
    Images,
    kept_caption,
    kept_tokens_player,
)
from vla_pruner_ros.replay.results.result import ReplayResult, Swept
from vla_pruner_ros.replay.results.summary_table import (
    headers,
    parity_sentence,
    summary_row,
    table_sentence,
)
from vla_pruner_ros.report import HALF_WIDTH, Series

NOISE = 1e-6
"""Actions that differ by less (m, rad) are equal to rounding."""
WORST_FRAMES = 6
SHOWN_RUNS = 5
"""Largest number of curves in one plot; more would be unreadable, and the tables have all."""


def chosen_indices(outcome: ReplayResult) -> set[int]:
    """Return the indices of the inputs whose images the report shows."""
    run = _main_run(outcome)
    even = evenly([step.index for step in run.done], SLIDER_FRAMES) if run else []
    return {*even, *(one.step.index for _, one in _worst(outcome))}


def make_report(outcome: ReplayResult, inferences: list[Recorded], images: Images) -> str:
    """Return the HTML document.

    Args:
        inferences: recorded ones, [] if there are none.
        images: as many of chosen_indices() as could be fetched.
    """
    sections = [
        _result(outcome),
        _actions(outcome, inferences),
        _budget(outcome),
        _latency(outcome, inferences),
        _kept_tokens(outcome, images),
        _worst_frames(outcome, images),
        _per_instruction(outcome),
        _notes(outcome),
        _run(outcome),
    ]
    source = outcome.source
    return report.page(
        f"Replay of {source.bag.rstrip('/').rsplit('/', 1)[-1]}",
        [section for section in sections if section is not None],
        subtitle=f"{source.bag} · {source.family} {source.checkpoint} on {source.device}",
        badge="" if source.trained else "untrained weights: actions mean nothing",
    )


def _main_run(outcome: ReplayResult) -> Run | None:
    return next((run for run in outcome.runs if run.done), None)


def _shown_runs(outcome: ReplayResult) -> list[Run]:
    """Return the runs that are drawn: the repeated one only if it differs from the recording."""
    runs = outcome.runs
    if outcome.parity is not None and outcome.parity.holds and outcome.swept:
        runs = runs[1:]
    return [run for run in runs if run.done][:SHOWN_RUNS]


def _result(outcome: ReplayResult) -> report.Section:
    parts = []
    if outcome.parity is not None:
        kind = "info" if outcome.parity.holds else "warning"
        parts.append(report.note(parity_sentence(outcome), kind))
    parts.append(report.tiles(_figures(outcome)))
    if outcome.swept:
        full = outcome.swept[0].overall
        rows = [
            summary_row(one.run.setting.name, one.overall, full, outcome.space)
            for one in outcome.swept
        ]
        parts.append(report.table(headers(outcome.space), rows, table_sentence(outcome)))
    lead = "The policy's actions for the recorded frames under other token budgets."
    return report.section("Result", *parts, lead=lead)


def _figures(outcome: ReplayResult) -> list[tuple[str, object, str]]:
    run = _main_run(outcome)
    figures = [
        ("Inferences replayed", len(run.done) if run else 0, "at the recorded instants")
        if outcome.source.exact
        else ("Inferences replayed", len(run.done) if run else 0, "frames of the bag")
    ]
    if outcome.parity is not None:
        share = f"{outcome.parity.equal} / {outcome.parity.comparable}"
        figures.append(("Equal to the recording", share, f"within {outcome.parity.tolerance:g}"))
    if outcome.swept:
        full = outcome.swept[0].overall.latency_median
        figures.append(("Unpruned", f"{1e3 * full:.4g}", "ms an inference, median"))
        fastest = min(outcome.swept, key=lambda one: one.overall.latency_median)
        gain = full / fastest.overall.latency_median
        figures.append(("Fastest", f"{gain:.2f}×", fastest.run.setting.name))
    read = f"{1e3 * outcome.reading_seconds:.3g}"
    figures.append(("Reading a frame", read, "ms, conversion included"))
    return figures


def _actions(outcome: ReplayResult, inferences: list[Recorded]) -> report.Section | None:
    run = _main_run(outcome)
    if run is None:
        return None
    curves = _action_curves(outcome, inferences)
    origin = min(stamps.min() for _, stamps, _ in curves)
    figures = []
    for place, (name, unit) in enumerate(
        zip(outcome.space.names, outcome.space.units, strict=True)
    ):
        series = [
            Series(label, (stamps - origin) * 1e-9, values[:, place], dashed=label == "recorded")
            for label, stamps, values in curves
        ]
        plot = report.line_plot_svg(series, "time (s)", "", HALF_WIDTH, 210, noise=NOISE)
        figures.append(report.figure(plot, f"{name} ({unit})" if unit else name))
    return report.section(
        "Actions over time",
        report.legend([name for name, _, _ in curves]),
        report.columns(figures, least_width=420),
        lead="The first action of every inference.",
    )


def _action_curves(
    outcome: ReplayResult, inferences: list[Recorded]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, stamps [n] (ns) and first actions [n, width]; what was recorded lies on top."""
    curves = [
        (run.setting.name, [(step.stamp, step.actions[0]) for step in run.done])
        for run in _shown_runs(outcome)
    ]
    width = outcome.space.width
    usable = [r for r in inferences if r.actions.size and r.actions.shape[1] == width]
    curves.append(("recorded", [(r.stamp, r.actions[0]) for r in usable]))
    return [
        (name, np.array([stamp for stamp, _ in points]), np.array([first for _, first in points]))
        for name, points in curves
        if points
    ]


def _budget(outcome: ReplayResult) -> report.Section | None:
    pruned = [one for one in outcome.swept[1:] if one.overall.count]
    if not pruned:
        return None
    plots = [
        _error_plot(outcome.space),
        ("Gripper disagreements (%)", lambda one: 100 * one.overall.gripper),
        ("Median latency (ms)", lambda one: 1e3 * one.overall.latency_median),
        ("Cosine of the motion", lambda one: one.overall.cosine),
    ]
    series = list(dict.fromkeys(one.run.setting.series for one in pruned))
    figures = [report.figure(_against_ratio(outcome, series, of), title) for title, of in plots]
    return report.section(
        "Error against keep ratio",
        report.legend(series),
        report.columns(figures, least_width=420),
        lead="Every method against the unpruned actions; at 1 nothing is pruned.",
    )


def _error_plot(space: ActionSpace) -> tuple[str, Callable[[Swept], float]]:
    if space.translation:
        return "Translation error (mm)", lambda one: 1e3 * one.overall.translation
    return headers(space)[3], lambda one: 1e3 * one.overall.joints


def _against_ratio(outcome: ReplayResult, names: list[str], of: Callable[[Swept], float]) -> str:
    series = []
    for name in names:
        own = [one for one in outcome.swept[1:] if one.run.setting.series == name]
        line = sorted([*own, outcome.swept[0]], key=lambda one: one.run.setting.pruning.keep_ratio)
        ratios = [one.run.setting.pruning.keep_ratio for one in line]
        series.append(Series(name, ratios, [of(one) for one in line], points=True))
    return report.line_plot_svg(series, "keep ratio", width=HALF_WIDTH, height=220)


def _latency(outcome: ReplayResult, inferences: list[Recorded]) -> report.Section | None:
    runs = [run for run in outcome.runs if run.done]
    groups = [(run.setting.name, [1e3 * step.seconds for step in run.done]) for run in runs]
    if inferences:
        groups.insert(0, ("recorded", [1e3 * r.seconds for r in inferences if r.seconds > 0]))
    groups = [(name, values) for name, values in groups if values]
    if not groups:
        return None
    plot = report.figure(report.histogram_svg(groups, "time of one inference (ms)"))
    lead = "The policy alone. Recorded times are the robot's, the others this machine's."
    return report.section("Latency", plot, lead=lead)


def _kept_tokens(outcome: ReplayResult, images: Images) -> report.Section | None:
    player = kept_tokens_player(outcome.runs, images)
    if player is None:
        return None
    lead = (
        "The patches that each setting kept; dimmed ones were pruned. One slider moves all "
        "settings; choose which are shown."
    )
    return report.section("Kept tokens", player, lead=lead)


def _caption(step: Step, origin: int) -> str:
    seconds = (step.stamp - origin) * 1e-9
    return f"{seconds:.2f} s · {kept_caption(step)} · {step.instruction}"


def _worst(outcome: ReplayResult) -> list[tuple[Swept, Compared]]:
    """Return the inferences farthest from the unpruned actions, the worst first."""
    found = [(one, compared) for one in outcome.swept[1:] for compared in one.compared]
    found.sort(key=lambda pair: -_distance(pair[1].difference))
    return found[:WORST_FRAMES]


def _distance(difference: Difference) -> float:
    """Return how far an action is off (m, or rad of joints)."""
    return difference.joints if isnan(difference.translation) else difference.translation


def _worst_frames(outcome: ReplayResult, images: Images) -> report.Section | None:
    run = _main_run(outcome)
    parts = []
    for one, compared in _worst(outcome):
        step = compared.step
        if step.index not in images or _distance(compared.difference) == 0.0:
            continue
        image = report.data_uri(report.encode_jpeg(side_by_side(images[step.index], step.kept)))
        difference = compared.difference
        where = _caption(step, run.done[0].stamp)
        caption = f"{one.run.setting.name}: {_off(difference, outcome.space)} off at {where}"
        parts.append(report.figure(report.image(image, f"frame {step.index}"), caption))
    if not parts:
        return None
    lead = "The frames with the largest error against the unpruned actions."
    return report.section("Worst frames", report.columns(parts, least_width=300), lead=lead)


def _thousandths(value: float) -> str:
    return "0" if value < NOISE else f"{1e3 * value:.3g}"


def _off(difference: Difference, space: ActionSpace) -> str:
    parts = [
        (difference.translation, "mm"),
        (difference.rotation, "mrad"),
        (difference.joints, "mrad of the joints" if space.explained else "thousandths"),
    ]
    known = [f"{_thousandths(value)} {unit}" for value, unit in parts if not isnan(value)]
    return " and ".join(known)


def _per_instruction(outcome: ReplayResult) -> report.Section | None:
    instructions = list(outcome.swept[0].instructions) if outcome.swept else []
    if len(instructions) < 2:
        return None
    parts = []
    for instruction in instructions:
        full = outcome.swept[0].instructions[instruction]
        rows = [
            summary_row(one.run.setting.name, one.instructions[instruction], full, outcome.space)
            for one in outcome.swept
            if instruction in one.instructions
        ]
        parts.append(report.table(headers(outcome.space), rows, instruction))
    return report.section("Per instruction", *parts)


def _run(outcome: ReplayResult) -> report.Section | None:
    if not outcome.run_info:
        return None
    return report.section("This run", report.table(["", ""], outcome.run_info.items(), wrap=True))


def _notes(outcome: ReplayResult) -> report.Section | None:
    parts = [report.note(f"Damaged: {why}", "error") for why in outcome.damage]
    parts += [
        report.note(f"{count} inference(s) failed: {why}", "warning")
        for why, count in outcome.problems.items()
    ]
    parts += [report.note(f"Skipped: {what}", "warning") for what in outcome.skipped]
    if outcome.interrupted:
        parts.append(report.note("The replay was interrupted; the rest is missing.", "warning"))
    parts += [report.note(remark) for remark in outcome.remarks]
    parts.append(report.text(f"Bag: {outcome.source.bag}"))
    parts.append(report.text(f"Topics: {', '.join(outcome.source.topics)}"))
    return report.section("Notes", *parts)
