"""The rows of the result tables, and the table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vla_pruner_ros.replay.results.action_space import ActionSpace
from vla_pruner_ros.replay.results.comparison import Summary
from vla_pruner_ros.replay.results.parity import RECORDED_ACTIONS
from vla_pruner_ros.replay.results.result import ReplayResult
from vla_pruner_ros.report.parts import Cell, cell_text


def headers(space: ActionSpace) -> tuple[str, ...]:
    """Return the columns of the tables: errors of displacements, or of joints."""
    if space.translation:
        errors = ("error (mm)", "95 % (mm)", "rotation (mrad)")
    elif space.explained:
        errors = ("joints (mrad)", "95 % (mrad)", "largest (mrad)")
    else:
        errors = ("error (0.001)", "95 % (0.001)", "largest (0.001)")
    return (
        "setting",
        "inferences",
        "tokens (%)",
        *errors,
        "cosine",
        "gripper (%)",
        "overlap (%)",
        "median (ms)",
        "95 % (ms)",
        "speed-up",
    )


def summary_row(name: str, summary: Summary, full: Summary, space: ActionSpace) -> list[Cell]:
    """Return one line below the headers; latency is compared with the unpruned run's median."""
    errors = (
        (summary.translation, summary.translation_p95, summary.rotation)
        if space.translation
        else (summary.joints, summary.joints_p95, summary.joints_max)
    )
    return [
        name,
        summary.count,
        round(100 * summary.tokens, 1),
        *(1e3 * error for error in errors),
        round(summary.cosine, 3),
        round(100 * summary.gripper, 1),
        round(100 * summary.overlap, 1),
        1e3 * summary.latency_median,
        1e3 * summary.latency_p95,
        round(full.latency_median / summary.latency_median, 2)
        if summary.latency_median
        else float("nan"),
    ]


def terminal_text(outcome: ReplayResult) -> str:
    """Return the text for the terminal at the end."""
    lines = []
    if not outcome.source.trained:
        lines.append("The weights are untrained: these actions mean nothing, latencies do.")
    if outcome.parity is not None:
        lines.append(parity_sentence(outcome))
    if outcome.swept:
        full = outcome.swept[0].overall
        space = outcome.space
        rows = [summary_row(s.run.setting.name, s.overall, full, space) for s in outcome.swept]
        lines.append(text_table(headers(space), rows))
        lines.append(table_sentence(outcome))
    lines += [f"note: {remark}" for remark in outcome.remarks]
    lines += [
        f"problem: {count} inference(s) failed: {why}" for why, count in outcome.problems.items()
    ]
    lines += [f"skipped: {what}" for what in outcome.skipped]
    lines += [f"damaged: {why}" for why in outcome.damage]
    return "\n".join(lines)


def table_sentence(outcome: ReplayResult) -> str:
    """Return the sentence that explains the numbers of the table."""
    text = "Errors are against the unpruned actions of the same frames; latency is the model alone"
    names = {one.overlap_with for one in outcome.swept if one.overall.overlap >= 0.0}
    if names == {RECORDED_ACTIONS}:
        text += "; overlap is with the tokens that the robot kept"
    elif names:
        text += "; overlap is with the first method's tokens at the same ratio"
    return f"{text}."


def parity_sentence(outcome: ReplayResult) -> str:
    """Return the sentence about the equality of replayed and recorded actions."""
    parity = outcome.parity
    if parity is None or parity.comparable == 0:
        return "Parity: none of the recorded inferences could be compared."
    return (
        f"Parity: {parity.equal} of {parity.comparable} comparable inferences equal the recorded "
        f"actions within {parity.tolerance:g} (largest difference {parity.largest:.3g}); "
        f"{parity.kept_equal} kept exactly the recorded tokens. {parity.recorded} were recorded."
    )


def text_table(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table in plain text, the first column left and the others right aligned."""
    cells = [list(titles), *([cell_text(value) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(titles))]
    lines = [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
