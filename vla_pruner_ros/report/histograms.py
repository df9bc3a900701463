"""Histograms one below the other on a common axis, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from markupsafe import Markup

from vla_pruner_ros.report.axes import Axes
from vla_pruner_ros.report.plots import FULL_WIDTH, NOTHING, below, with_cross_hair

ROW = 50
"""Height of a group; its highest bar takes BAR of it."""
BAR = 40
LABELS = 168
"""Width of the names at the left."""
OUTLIERS = 99.0
"""Values above this percentile of every group go into the last bin: one would squeeze the rest."""


def histogram_svg(
    groups: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    x_label: str = "",
    bins: int = 80,
    width: int = FULL_WIDTH,
) -> Markup:
    """Return a row for each (name, values), with its median; values: float [n].

    Rows share the axis and the bins. Each is drawn to its own height. The cross-hair reads the
    share of values per bin (%).
    """
    finite = [(name, np.asarray(v, float)[np.isfinite(v)]) for name, v in groups if len(v)]
    finite = [(name, values) for name, values in finite if values.size]
    if not finite:
        return NOTHING
    low = min(values.min() for _, values in finite)
    high = max(np.percentile(values, OUTLIERS) for _, values in finite)
    edges = np.linspace(low, high if high > low else low + 1e-9, bins + 1)
    axes = _axes(edges, len(finite), width)
    drawn, readouts = [below(axes, x_label)], []
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    for place, (name, values) in enumerate(finite):
        counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
        share = 100.0 * counts / values.size
        drawn.append(_row(axes, place, name, float(np.median(values)), edges, share))
        rounded = [float(f"{value:.4g}") for value in share]
        readouts.append({"name": name, "color": 0, "x": middles, "y": rounded})
    names = ", ".join(name for name, _ in finite)
    return with_cross_hair(axes, x_label, f"{x_label}: {names}", "".join(drawn), readouts)


def _axes(edges: np.ndarray, rows: int, width: int) -> Axes:
    top, margin = 6, 38
    height = top + rows * ROW + margin
    return Axes((edges[0], edges[-1]), (0.0, 1.0), width, height, LABELS, top, margin_bottom=margin)


def _row(
    axes: Axes, place: int, name: str, median: float, edges: np.ndarray, share: np.ndarray
) -> str:
    base = axes.top + (place + 1) * ROW
    heights = BAR * share / share.max()
    bars = "".join(
        f"<rect class='bar s0' x='{axes.x(left):.1f}' y='{base - height:.1f}' "
        f"width='{max(axes.x(right) - axes.x(left) - 0.6, 0.6):.1f}' height='{height:.1f}'/>"
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
        if height > 0
    )
    middle = axes.x(min(median, edges[-1]))
    return (
        f"<line class='grid' x1='{axes.left}' x2='{axes.right}' y1='{base}' y2='{base}'/>{bars}"
        f"<line class='median' x1='{middle:.1f}' x2='{middle:.1f}' "
        f"y1='{base - BAR - 3}' y2='{base}'/>"
        f"<text class='name' x='{axes.left - 12}' y='{base - 22}' text-anchor='end'>"
        f"{escape(name)}</text>"
        f"<text x='{axes.left - 12}' y='{base - 6}' text-anchor='end'>median {median:.4g}</text>"
    )
