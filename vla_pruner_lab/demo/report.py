"""The demonstration as a page: table, plots, and camera images with their kept tokens."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vla_pruner_lab.demo.observer import InferenceSample, Observer
from vla_pruner_lab.demo.summary import SummaryRow, cells
from vla_pruner_ros.conversions.overlay import draw_kept
from vla_pruner_ros.report import (
    HALF_WIDTH,
    Series,
    animation_slider,
    code,
    columns,
    figure,
    histogram_svg,
    legend,
    line_plot_svg,
    note,
    page,
    section,
    table,
    text,
    tiles,
    write_page,
)

FRAMES_PER_RATIO = 30


def write_report(
    path: Path, observer: Observer, rows: list[SummaryRow], metadata: dict[str, str]
) -> None:
    """Write the page.

    Args:
        metadata: name -> value lines about the run (machine, date, command, ...).
    """
    trained = all(m.status.trained for row in rows for m in observer.seen[row.keep_ratio].samples)
    sections = [
        section(
            "At a glance",
            text(f"Instruction: “{metadata['Instruction']}”"),
            _tiles(rows),
            _training_note(trained),
            _load_note(observer),
        ),
        section(
            "Budgets",
            table(*cells(rows)),
            lead="Latencies are p50 / p95 of an inference (ms). Budgets were measured in turns. "
            f"Load average: {metadata['Load average']}. Prefill includes the selection. "
            "Episodes: succeeded of finished, each under one budget.",
        ),
        section(
            "What the policy saw",
            _animation(observer, rows),
            lead="Above: the cameras. Below: the same images with pruned patches dimmed, the "
            "smallest budget first. Untouched patches are the tokens that go on after the "
            "pruning layer.",
        ),
        section("Latency", _latency_plots(observer, rows)),
        section("Where the kept tokens come from", _overlap_plots(observer, rows)),
        section("This run", table(["", ""], metadata.items(), wrap=True)),
        section(
            "What to do next",
            text("Ask what other budgets would have done on the recorded images:"),
            code(metadata["Next step"]),
            text("Then try another task: make demo is python -m vla_pruner_lab.demo --task NAME."),
        ),
    ]
    badge = "" if trained else "untrained weights"
    subtitle = "A simulated robot under a pruned vision-language-action model, over ROS 2"
    write_page(path, page("vla_pruner_ros demonstration", sections, subtitle, badge))


def _training_note(trained: bool) -> str:
    if trained:
        return ""
    return note(
        "The weights are randomly initialised (untrained): messages, budgets and timings are real, "
        "but the actions mean nothing and the kept tokens follow no task.",
        "warning",
    )


def _load_note(observer: Observer) -> str:
    load, cores = max(observer.load_before, os.getloadavg()[0]), os.cpu_count() or 1
    if load <= cores:
        return ""
    return note(
        f"The machine was busy: a load of {load:.1f} on {cores} cores. Latencies are longer than "
        "alone, and a difference below their spread means nothing.",
        "warning",
    )


def _tiles(rows: list[SummaryRow]) -> str:
    full, last = rows[0], rows[-1]
    figures = [
        ("Inferences", sum(row.inferences for row in rows), "settled, all budgets"),
        ("Actions", sum(row.actions for row in rows), "published"),
    ]
    if "total" in full.latency and "total" in last.latency:
        ratio = full.latency["total"][0] / last.latency["total"][0]
        figures.append((f"Speed-up at {last.keep_ratio:g}", f"{ratio:.2f}x", "median, whole step"))
    for row in (full, last):
        if row.episodes[1]:
            done = f"{row.episodes[0]} of {row.episodes[1]}"
            figures.append((f"Episodes at {row.keep_ratio:g}", done, "succeeded of finished"))
    figures.append(("Tokens", f"{full.tokens_expected} to {last.tokens_expected}", "per inference"))
    return tiles(figures)


def _animation(observer: Observer, rows: list[SummaryRow]) -> str:
    images, captions = [], []
    for row in sorted(rows, key=lambda row: row.keep_ratio):
        for sample in _spread_out(observer.seen[row.keep_ratio].settled):
            images.append(_overlay(sample))
            captions.append(
                f"keep_ratio {row.keep_ratio:g}: {sample.status.tokens_kept} of "
                f"{sample.status.tokens_total} tokens"
            )
    if not images:
        return note("No image arrived together with its status.", "warning")
    return figure(animation_slider(images, captions, 8.0, "camera with kept tokens"))


def _spread_out(samples: list[InferenceSample]) -> list[InferenceSample]:
    shown = [sample for sample in samples if sample.images]
    step = max(1, len(shown) // FRAMES_PER_RATIO)
    return shown[::step]


def _overlay(sample: InferenceSample) -> np.ndarray:
    status, grid = sample.status, (sample.status.grid_rows, sample.status.grid_columns)
    ends = np.cumsum(status.kept_per_camera)
    kept = np.split(np.asarray(status.kept_indices), ends[:-1])
    drawn = [draw_kept(i, k, grid) for i, k in zip(sample.images, kept, strict=False)]
    rows = [np.concatenate(images, axis=1) for images in (list(sample.images), drawn)]
    return np.concatenate(rows, axis=0)


def _latency_plots(observer: Observer, rows: list[SummaryRow]) -> str:
    names = [f"keep_ratio {row.keep_ratio:g}" for row in rows]
    totals = [_stage(observer, row, "total") for row in rows]
    by_time = [
        Series(name, np.arange(len(values)), values)
        for name, values in zip(names, totals, strict=True)
    ]
    plots = [
        figure(
            line_plot_svg(by_time, "inference", "ms", HALF_WIDTH, 220, True, True), "Step by step"
        ),
        figure(
            histogram_svg(list(zip(names, totals, strict=True)), "ms", width=HALF_WIDTH),
            "Distribution of the whole step",
        ),
    ]
    return legend(names) + columns(plots)


def _overlap_plots(observer: Observer, rows: list[SummaryRow]) -> str:
    names = [f"keep_ratio {row.keep_ratio:g}" for row in rows]
    fields = (
        ("semantic_action_overlap", "Semantic set against action set"),
        ("action_overlap", "Action set against the step before"),
    )
    plots = []
    for field, caption in fields:
        series = []
        for name, row in zip(names, rows, strict=True):
            values = [getattr(m.status, field) for m in observer.seen[row.keep_ratio].settled]
            series.append(Series(name, np.arange(len(values)), values))
        plot = line_plot_svg(series, "inference", "overlap", HALF_WIDTH, 220, True)
        plots.append(figure(plot, caption))
    return legend(names) + columns(plots)


def _stage(observer: Observer, row: SummaryRow, stage: str) -> list[float]:
    return [1e3 * m.stages.get(stage, float("nan")) for m in observer.seen[row.keep_ratio].settled]
