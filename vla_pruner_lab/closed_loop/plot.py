"""Success against the share of visual tokens kept, one curve a method, as a plain SVG file."""

from __future__ import annotations

import math

from vla_pruner_lab.common.charts import Axis, Curve, Panel, chart_svg
from vla_pruner_ros.pruning.config import METHOD_NAMES
from vla_pruner_ros.pruning.method import find_method

AIR = 0.2
"""Left and right of the curves, octaves."""
STEP_ASIDE = 0.035
"""Between neighbouring methods at the same ratio, octaves: their whiskers would hide each other."""


def success_plot(records: list[dict]) -> str | None:
    """Convert pooled records of one policy into an SVG document; None without a pruned method.

    Each curve starts at the unpruned policy where that was run. Whiskers are the intervals.
    """
    pruned = [r for r in records if r["method"] in METHOD_NAMES and r["method"] != "full"]
    if not pruned:
        return None
    full = [r for r in records if r["method"] == "full"]
    ratios = sorted({record["keep_ratio"] for record in (*pruned, *full)})
    methods = [m for m in METHOD_NAMES if any(r["method"] == m for r in pruned)]
    curves = [
        _curve(
            [r for r in pruned if r["method"] == method],
            full,
            method,
            STEP_ASIDE * (place - (len(methods) - 1) / 2),
        )
        for place, method in enumerate(methods)
    ]
    x = Axis(
        "share of visual tokens kept",
        (math.log2(ratios[0]) - AIR, AIR),
        [(math.log2(ratio), f"{ratio:g}") for ratio in ratios],
    )
    y = Axis("success (%)", (0.0, 104.0), [(v, f"{v}") for v in range(0, 101, 20)])
    return chart_svg([Panel("", curves, x, y)])


def _curve(own: list[dict], full: list[dict], method: str, aside: float) -> Curve:
    """aside: how far its points lie to the right of their ratio, octaves."""
    own = sorted(own, key=lambda record: record["keep_ratio"])
    placed = [(math.log2(r["keep_ratio"]) + aside, r) for r in own] + [(0.0, r) for r in full]
    chosen = find_method(method)
    return Curve(
        method,
        [x for x, _ in placed],
        [100 * record["success_rate"] for _, record in placed],
        chosen.colour,
        dashed=chosen.looks_at_nothing,
        low=[100 * record["ci_low"] for _, record in placed],
        high=[100 * record["ci_high"] for _, record in placed],
    )
