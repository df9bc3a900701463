"""Success against the share of visual tokens kept, one curve a method, as a plain SVG file."""

from __future__ import annotations

import math
from html import escape

from vla_pruner_ros.pruning.config import METHOD_NAMES
from vla_pruner_ros.pruning.methods import find_method
from vla_pruner_ros.report.axes import Axes, ticks

WIDTH, HEIGHT, LEGEND_WIDTH = 760, 380, 150
STYLE = "text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#626a73}path{fill:none}"
WHISKER = 3.0
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
    ratios = sorted({_ratio(record) for record in (*pruned, *full)})
    plot_width = WIDTH - LEGEND_WIDTH
    axes = Axes((math.log2(ratios[0]) - AIR, AIR), (0.0, 104.0), plot_width, HEIGHT)
    methods = [m for m in METHOD_NAMES if any(r["method"] == m for r in pruned)]
    parts = [_frame(axes, ratios)]
    for place, method in reversed(list(enumerate(methods))):  # the first one lies on top
        own = sorted((r for r in pruned if r["method"] == method), key=_ratio)
        aside = STEP_ASIDE * (place - (len(methods) - 1) / 2)
        points = [(math.log2(_ratio(r)) + aside, r) for r in own] + [(0.0, r) for r in full]
        parts.append(_curve(axes, points, _look(method)))
        parts.append(_key(axes, place, method))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>"
        f"<style>{STYLE}</style><rect width='{WIDTH}' height='{HEIGHT}' fill='#fff'/>"
        f"{''.join(parts)}</svg>\n"
    )


def _ratio(record: dict) -> float:
    return record["keep_ratio"]


def _look(method: str) -> tuple[str, str]:
    """Colour and dashes; methods that look at nothing are dashed."""
    chosen = find_method(method)
    return chosen.colour, "6 3" if chosen.looks_at_nothing else ""


def _curve(axes: Axes, placed: list[tuple[float, dict]], look: tuple[str, str]) -> str:
    """placed: octaves (halving the tokens is one to the left) and the record there."""
    colour, dash = look
    points = [(axes.x(octaves), axes.y(100 * r["success_rate"])) for octaves, r in placed]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in points)
    whiskers = "".join(_whisker(axes, axes.x(octaves), record) for octaves, record in placed)
    return (
        f"<path d='M{line}' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>"
        f"<path d='{whiskers}' stroke='{colour}' stroke-opacity='.6'/>{dots}"
    )


def _whisker(axes: Axes, x: float, record: dict) -> str:
    low, high = axes.y(100 * record["ci_low"]), axes.y(100 * record["ci_high"])
    caps = "".join(f"M{x - WHISKER:.1f} {y:.1f}h{2 * WHISKER}" for y in (low, high))
    return f"M{x:.1f} {low:.1f}V{high:.1f}{caps}"


def _frame(axes: Axes, ratios: list[float]) -> str:
    rows = "".join(
        f"<path d='M{axes.left} {axes.y(v):.1f}H{axes.right}' stroke='#e4e6e8'/>"
        f"<text x='{axes.left - 8}' y='{axes.y(v) + 4:.1f}' text-anchor='end'>{v:g}</text>"
        for v in ticks(0.0, 100.0, 5)
    )
    columns = "".join(
        f"<text x='{axes.x(math.log2(ratio)):.1f}' y='{axes.bottom + 18}' text-anchor='middle'>"
        f"{ratio:g}</text>"
        for ratio in ratios
    )
    return (
        f"{rows}{columns}<text x='{axes.right}' y='{axes.height - 4}' text-anchor='end'>"
        f"share of visual tokens kept</text><text x='8' y='16'>success (%)</text>"
    )


def _key(axes: Axes, place: int, method: str) -> str:
    colour, dash = _look(method)
    y = axes.top + 12 + 20 * place
    return (
        f"<path d='M{axes.width + 4} {y - 4}h22' stroke='{colour}' stroke-width='2' "
        f"stroke-dasharray='{dash}'/><text x='{axes.width + 32}' y='{y}'>{escape(method)}</text>"
    )
