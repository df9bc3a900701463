"""The demonstration in figures: kept tokens, latency and compliance by budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_lab.common.markdown import text_table
from vla_pruner_lab.demo.observer import Observer, Seen

STAGES = ("preprocess", "vision", "prefill", "decode", "total")


@dataclass(frozen=True)
class SummaryRow:
    """One keep ratio: counts, tokens, and per stage the median and 95th percentile (s).

    episodes: succeeded and finished ones.
    """

    keep_ratio: float
    frames: int
    actions: int
    inferences: int
    tokens_kept: tuple[int, ...]
    tokens_expected: int
    episodes: tuple[int, int]
    latency: dict[str, tuple[float, float]]

    @property
    def problem(self) -> str:
        """Reason why this row fails the demonstration; empty if it does not."""
        if not self.actions:
            return f"no actions flowed at keep_ratio {self.keep_ratio}"
        if self.tokens_kept != (self.tokens_expected,):
            kept = ", ".join(map(str, self.tokens_kept)) or "none"
            return (
                f"at keep_ratio {self.keep_ratio} the kept tokens were {kept}, "
                f"not {self.tokens_expected}"
            )
        return ""


def summarise(observer: Observer, ratios: tuple[float, ...]) -> list[SummaryRow]:
    """Return one row per ratio; the expected count is computed here, not taken from the node."""
    return [_row(ratio, observer.seen[ratio], observer.actions(ratio)) for ratio in ratios]


def _row(ratio: float, seen: Seen, actions: int) -> SummaryRow:
    settled = seen.settled
    total = settled[0].status.tokens_total if settled else 0
    names = [name for name in STAGES if settled and name in settled[0].stages]
    times = {name: [m.stages[name] for m in settled] for name in names}
    return SummaryRow(
        keep_ratio=ratio,
        frames=seen.frames,
        actions=actions,
        inferences=len(settled),
        tokens_kept=tuple(sorted({m.status.tokens_kept for m in settled})),
        tokens_expected=max(1, round(ratio * total)),
        episodes=(seen.episodes_succeeded, seen.episodes_finished),
        latency={
            name: (float(np.percentile(values, 50)), float(np.percentile(values, 95)))
            for name, values in times.items()
        },
    )


HEADERS = ("keep_ratio", "frames", "actions", "tokens kept", "episodes")


def cells(rows: list[SummaryRow]) -> tuple[list[str], list[list[str]]]:
    """Return headers and text cells; latencies read "p50 / p95" in ms."""
    stages = list(rows[0].latency) if rows else []
    headers = [*HEADERS, *(f"{stage} (ms)" for stage in stages)]
    return headers, [
        [
            f"{row.keep_ratio:g}",
            str(row.frames),
            str(row.actions),
            "/".join(map(str, row.tokens_kept)) or "-",
            f"{row.episodes[0]} of {row.episodes[1]}" if row.episodes[1] else "-",
            *(_milliseconds(row.latency.get(stage)) for stage in stages),
        ]
        for row in rows
    ]


def _milliseconds(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{1e3 * pair[0]:.1f} / {1e3 * pair[1]:.1f}"


def summary_table(rows: list[SummaryRow]) -> str:
    """Return the table for a terminal."""
    return text_table(*cells(rows))
