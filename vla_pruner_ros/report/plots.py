"""Line plots as inline SVG, coloured by the page's style."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from markupsafe import Markup

from vla_pruner_ros.report.axes import Axes, decimate, format_tick, ticks

FULL_WIDTH = 1040
"""Drawing width that fills the page at normal text size; HALF_WIDTH for two side by side."""
HALF_WIDTH = 500
OUTLIER = 2.0
"""Multiple of the 95th percentile above which a clipped plot ends."""
NOTHING = Markup("<p class='note'>There is nothing to plot.</p>")


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
    clip: bool = False,
    noise: float = 0.0,
) -> Markup:
    """Return curves over a common axis, with a cross-hair that reads the values.

    width, height: of the drawing; give HALF_WIDTH and about 220 within columns().
    clip: let a few outliers leave the drawing at its top instead of squeezing the rest; the
    cross-hair still reads them. noise: values that differ by no more are said, not drawn.
    Long curves are thinned to the width by smallest and largest value, so peaks stay.
    """
    curves = [_finite(one, place, width) for place, one in enumerate(series)]
    xs = np.concatenate([curve.x for curve in curves]) if curves else np.zeros(0)
    ys = np.concatenate([curve.y for curve in curves]) if curves else np.zeros(0)
    ys = ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return NOTHING
    if noise and ys.max() - ys.min() <= noise:
        middle = float((ys.max() + ys.min()) / 2)
        shown = 0.0 if abs(middle) <= noise else middle
        return Markup("<p class='note'>Always {:.4g}, within {:g}.</p>").format(shown, noise)
    low = min(0.0, ys.min()) if y_from_zero else ys.min()
    high = min(ys.max(), OUTLIER * np.percentile(ys, 95)) if clip else ys.max()
    axes = Axes.around((xs.min(), xs.max()), (low, high), width, height)
    drawn = "".join(
        _curve(axes, replace(curve, y=np.minimum(curve.y, axes.y_range[1]))) for curve in curves
    )
    frame = _rows(axes, y_label) + below(axes, x_label)
    return with_cross_hair(axes, x_label, y_label, frame + drawn, [_readout(c) for c in curves])


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


def _readout(one: Series) -> dict:
    y = [float(f"{value:.5g}") if math.isfinite(value) else None for value in one.y]
    x = [float(f"{value:.7g}") for value in one.x]
    return {"name": one.name, "color": one.color, "x": x, "y": y}


def with_cross_hair(
    axes: Axes, x_label: str, label: str, drawn: str, readouts: list[dict]
) -> Markup:
    """Return a drawing whose cross-hair reads the values.

    Args:
        label: text for screen readers. drawn: SVG within the axes.
        readouts: name, color (0..7), x and y (None: no value) of each curve.
    """
    data = {
        "width": axes.width,
        "left": axes.left,
        "span": axes.right - axes.left,
        "x0": axes.x_range[0],
        "x1": axes.x_range[1],
        "label": x_label,
        "series": readouts,
    }
    wide = " wide" if axes.width > HALF_WIDTH else ""
    embedded = escape(json.dumps(data, separators=(",", ":")), quote=True)
    return Markup(
        f'<div class="plot{wide}" data-plot="{embedded}">'
        f"<svg viewBox='0 0 {axes.width} {axes.height}' role='img' "
        f"aria-label='{escape(label or x_label, quote=True)}'>"
        f"{drawn}<line class='cross' y1='{axes.top}' y2='{axes.bottom}'/></svg>"
        "<div class='tip'></div></div>"
    )


def below(axes: Axes, x_label: str) -> str:
    """Return the horizontal axis with its ticks and its label."""
    numbers = "".join(
        f"<text x='{axes.x(v):.1f}' y='{axes.bottom + 18}' text-anchor='middle'>"
        f"{format_tick(v)}</text>"
        for v in ticks(*axes.x_range, max(3, axes.width // 110))
    )
    return (
        f"{numbers}<line class='axis' x1='{axes.left}' x2='{axes.right}' "
        f"y1='{axes.bottom}' y2='{axes.bottom}'/>"
        f"<text x='{axes.right}' y='{axes.height - 4}' text-anchor='end'>{escape(x_label)}</text>"
    )


def _rows(axes: Axes, y_label: str) -> str:
    lines = "".join(
        f"<line class='grid' x1='{axes.left}' x2='{axes.right}' y1='{axes.y(v):.1f}' "
        f"y2='{axes.y(v):.1f}'/><text x='{axes.left - 8}' y='{axes.y(v) + 4:.1f}' "
        f"text-anchor='end'>{format_tick(v)}</text>"
        for v in ticks(*axes.y_range, 5)
    )
    return f"{lines}<text x='{axes.left - 48}' y='{axes.top - 10}'>{escape(y_label)}</text>"
