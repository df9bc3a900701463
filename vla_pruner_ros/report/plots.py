"""Line plots and histograms as inline SVG, coloured by the page's style."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from vla_pruner_ros.report.axes import Axes, decimate, format_tick, ticks

FULL_WIDTH = 1040
"""Drawing width that fills the page at normal text size; HALF_WIDTH for two side by side."""
HALF_WIDTH = 500


@dataclass(frozen=True)
class Series:
    """One curve: x and y of equal length (NaN leaves a gap).

    color: 0..7, a colour of the page's palette; None takes the place in the list.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    dashed: bool = False
    points: bool = False
    color: int | None = None


def line_plot_svg(
    series: Sequence[Series],
    x_label: str = "",
    y_label: str = "",
    width: int = FULL_WIDTH,
    height: int = 280,
    y_from_zero: bool = False,
) -> str:
    """Return curves over a common axis, with a cross-hair that reads the values.

    width, height: of the drawing; give HALF_WIDTH and about 220 within columns().
    Long curves are thinned to the width by smallest and largest value, so peaks stay.
    """
    curves = [_finite(one, place, width) for place, one in enumerate(series)]
    xs = np.concatenate([curve.x for curve in curves]) if curves else np.zeros(0)
    ys = np.concatenate([curve.y for curve in curves]) if curves else np.zeros(0)
    ys = ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return "<p class='note'>There is nothing to plot.</p>"
    low = min(0.0, ys.min()) if y_from_zero else ys.min()
    axes = Axes.around((xs.min(), xs.max()), (low, ys.max()), width, height)
    drawn = "".join(_curve(axes, curve) for curve in curves)
    return _plot(axes, x_label, y_label, drawn, [_readout(curve) for curve in curves])


def histogram_svg(
    groups: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    x_label: str = "",
    bins: int = 40,
    width: int = FULL_WIDTH,
    height: int = 280,
) -> str:
    """Return the share of values per bin, the groups laid over one another.

    Values above the 99th percentile of all groups go into the last bin: a single outlier would
    squeeze the rest.
    """
    finite = [(name, np.asarray(v, float)[np.isfinite(v)]) for name, v in groups if len(v)]
    finite = [(name, values) for name, values in finite if values.size]
    if not finite:
        return "<p class='note'>There is nothing to plot.</p>"
    low = min(values.min() for _, values in finite)
    high = max(np.percentile(values, 99) for _, values in finite)
    finite = [(name, np.minimum(values, high)) for name, values in finite]
    edges = np.linspace(low, high if high > low else low + 1e-9, bins + 1)
    shares = [100.0 * np.histogram(values, edges)[0] / values.size for _, values in finite]
    axes = Axes.around((edges[0], edges[-1]), (0.0, max(s.max() for s in shares)), width, height)
    bars = "".join(_bars(axes, place, edges, share) for place, share in enumerate(shares))
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    readouts = [
        {"name": name, "color": place % 8, "x": middles, "y": share.tolist()}
        for place, ((name, _), share) in enumerate(zip(finite, shares, strict=True))
    ]
    return _plot(axes, x_label, "share of frames (%)", bars, readouts)


def _finite(one: Series, place: int, width: int) -> Series:
    x, y = np.asarray(one.x, float).reshape(-1), np.asarray(one.y, float).reshape(-1)
    if len(x) != len(y):
        raise ValueError(f"series {one.name!r} has {len(x)} x values and {len(y)} y values")
    x, y = decimate(x, y, width)
    color = place % 8 if one.color is None else one.color % 8
    return Series(one.name, x, y, one.dashed, one.points, color)


def _curve(axes: Axes, one: Series) -> str:
    commands, pen_down = [], False
    for x, y in zip(one.x, one.y, strict=True):
        if not math.isfinite(y):
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{axes.x(x):.1f} {axes.y(y):.1f}")
        pen_down = True
    style = "curve dashed" if one.dashed else "curve"
    path = f"<path class='{style} s{one.color}' d='{''.join(commands)}'/>"
    if not one.points:
        return path
    dots = "".join(
        f"<circle class='dot s{one.color}' cx='{axes.x(x):.1f}' cy='{axes.y(y):.1f}' r='3.2'/>"
        for x, y in zip(one.x, one.y, strict=True)
        if math.isfinite(y)
    )
    return path + dots


def _bars(axes: Axes, place: int, edges: np.ndarray, share: np.ndarray) -> str:
    return "".join(
        f"<rect class='bar s{place % 8}' x='{axes.x(left):.1f}' y='{axes.y(value):.1f}' "
        f"width='{max(axes.x(right) - axes.x(left) - 0.6, 0.6):.1f}' "
        f"height='{axes.y(0.0) - axes.y(value):.1f}'/>"
        for left, right, value in zip(edges[:-1], edges[1:], share, strict=True)
        if value > 0
    )


def _readout(one: Series) -> dict:
    y = [float(f"{value:.5g}") if math.isfinite(value) else None for value in one.y]
    x = [float(f"{value:.7g}") for value in one.x]
    return {"name": one.name, "color": one.color, "x": x, "y": y}


def _plot(axes: Axes, x_label: str, y_label: str, drawn: str, readouts: list[dict]) -> str:
    data = {
        "width": axes.width,
        "left": axes.left,
        "span": axes.right - axes.left,
        "x0": axes.x_range[0],
        "x1": axes.x_range[1],
        "label": x_label,
        "series": readouts,
    }
    embedded = escape(json.dumps(data, separators=(",", ":")), quote=True)
    return (
        f'<div class="plot" data-plot="{embedded}">'
        f"<svg viewBox='0 0 {axes.width} {axes.height}' role='img' "
        f"aria-label='{escape(y_label or x_label, quote=True)}'>{_frame(axes, x_label, y_label)}"
        f"{drawn}<line class='cross' y1='{axes.top}' y2='{axes.bottom}'/></svg>"
        "<div class='tip'></div></div>"
    )


def _frame(axes: Axes, x_label: str, y_label: str) -> str:
    rows = "".join(
        f"<line class='grid' x1='{axes.left}' x2='{axes.right}' y1='{axes.y(v):.1f}' "
        f"y2='{axes.y(v):.1f}'/><text x='{axes.left - 8}' y='{axes.y(v) + 4:.1f}' "
        f"text-anchor='end'>{format_tick(v)}</text>"
        for v in ticks(*axes.y_range, 5)
    )
    below = "".join(
        f"<text x='{axes.x(v):.1f}' y='{axes.bottom + 18}' text-anchor='middle'>"
        f"{format_tick(v)}</text>"
        for v in ticks(*axes.x_range, max(3, axes.width // 110))
    )
    return (
        f"{rows}{below}<line class='axis' x1='{axes.left}' x2='{axes.right}' "
        f"y1='{axes.bottom}' y2='{axes.bottom}'/>"
        f"<text x='{axes.right}' y='{axes.height - 4}' text-anchor='end'>{escape(x_label)}</text>"
        f"<text x='{axes.left - 48}' y='{axes.top - 10}'>{escape(y_label)}</text>"
    )
