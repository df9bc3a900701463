"""Charts of the documents as plain SVG files, readable on light and on dark pages.

    chart_svg([Panel("", curves, x_axis, y_axis)])

A point within the noise is drawn hollow. Curves carry whiskers where an interval is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from vla_pruner_ros.report.axes import Axes, format_tick, ticks

WIDTH, HEIGHT, KEY_WIDTH, KEY_STEP = 760, 360, 190, 20
PALETTE = ("#1f6feb", "#d9590c", "#0f8f76", "#b5309f", "#b98900", "#5b4fc9", "#3b93b8", "#777f88")
WHISKER = 3.0
PAGE = {"ground": "#ffffff", "soft": "#626a73", "grid": "#e4e6e8", "ink": "#1c1f23"}
DARK_PAGE = {"ground": "#181c20", "soft": "#9aa4ae", "grid": "#2b3137", "ink": "#e7eaed"}
FONT = "text{font:12px system-ui,'DejaVu Sans',sans-serif}path{fill:none}"


@dataclass(frozen=True)
class Axis:
    """label: with the unit. values: its range; None takes what the curves need, from 0 on.

    marks: (place, text) of each tick; None takes round values.
    """

    label: str
    values: tuple[float, float] | None = None
    marks: Sequence[tuple[float, str]] | None = None


@dataclass(frozen=True)
class Curve:
    """x, y: equally many. low, high: ends of each point's interval.

    noise: for each point whether it lies within the noise: drawn hollow. key: False shares the
    key of another curve.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = PALETTE[0]
    dashed: bool = False
    dots: bool = True
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    noise: Sequence[bool] = ()
    key: bool = True


@dataclass(frozen=True)
class Panel:
    """One plot. lines: (value, text) of dashed lines across it."""

    title: str
    curves: Sequence[Curve]
    x: Axis
    y: Axis
    lines: Sequence[tuple[float, str]] = field(default=())


@dataclass(frozen=True)
class Range:
    """One row of ranges_svg: a line from low to high with a mark in between."""

    name: str
    low: float
    middle: float
    high: float


def chart_svg(
    panels: Sequence[Panel], columns: int = 1, width: int = WIDTH, height: int = HEIGHT
) -> str:
    """Return panels in rows, as an SVG document; two curves or more have a key at the right.

    Args:
        panels: the key shows the curves of the first one.
        columns: panels in a row.
        width: of the document, key included.
        height: of a row.
    """
    curves = [curve for curve in panels[0].curves if curve.key]
    key = KEY_WIDTH if len(curves) > 1 else 0
    drawn, inner = [], (width - key) / columns
    for place, panel in enumerate(panels):
        x, y = inner * (place % columns), height * (place // columns)
        content = _panel(panel, int(inner), height)
        drawn.append(f"<g transform='translate({x:.0f} {y:.0f})'>{content}</g>")
    rows = math.ceil(len(panels) / columns)
    if key:
        drawn += [_key(curve, width - key + 8, place) for place, curve in enumerate(curves)]
    shown = [curve.colour for panel in panels for curve in panel.curves]
    return _document(width, max(height * rows, 40 + KEY_STEP * len(curves)), drawn, shown)


def ranges_svg(
    rows: Sequence[Range], label: str, floor: float, unit: str = "s", width: int = WIDTH
) -> str:
    """Return one line a row on a logarithmic axis, as an SVG document.

    Args:
        rows: in order.
        label: of the axis.
        floor: values up to it cannot be distinguished from 0: they lie hollow at the left end.
        unit: of the number at the end of a row.
        width: of the document.
    """
    step, left = 20, 300
    top = max(max(row.high for row in rows), 10 * floor)
    height = 34 + step * len(rows) + 38
    axes = Axes(
        (math.log10(floor), math.log10(top) + 0.05), (0.0, 1.0), width, height, left, 10,
        margin_right=60,
    )  # fmt: skip

    def place(value: float) -> float:
        return axes.x(math.log10(max(value, floor)))

    parts = [
        f"<path class='grid' d='M{place(v):.1f} {axes.top}V{axes.bottom}'/>"
        + _text(place(v), axes.bottom + 18, f"≤ {v:g}" if v <= floor else f"{v:g}", "middle")
        for v in _decades(floor, top)
    ]
    for number, row in enumerate(rows):
        y = axes.top + step * (number + 0.7)
        dots = [_dot(place(row.high), y, PALETTE[0], row.high <= floor, 2.2)]
        dots.append(_dot(place(row.middle), y, PALETTE[0], row.middle <= floor))
        parts.append(_text(left - 10, y + 4, row.name, "end"))
        line = f"M{place(row.low):.1f} {y:.1f}H{place(row.high):.1f}"
        parts.append(_path(line, PALETTE[0], width=2) + "".join(dots))
        shown = f"{row.high:.2f} {unit}" if row.high > floor else f"≤ {floor:g} {unit}"
        parts.append(_text(width - 4, y + 4, shown, "end"))
    parts.append(_text(axes.right, height - 4, label, "end"))
    return _document(width, height, parts, PALETTE[:1])


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def log_marks(low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks at 1, 2 and 5 times powers of ten, placed by log10."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [(math.log10(v), f"{v:g}") for v in values if low * 0.999 <= v <= high * 1.001]


def _panel(panel: Panel, width: int, height: int) -> str:
    axes = _axes(panel, width, height)
    x_marks, y_marks = _marks(panel.x, axes.x_range, 6), _marks(panel.y, axes.y_range, 5)
    parts = [_text(8, 16, panel.y.label)]
    if panel.title:
        parts = [_text(axes.left, 16, panel.title, kind="name")]
        parts.append(_text(axes.right, 16, panel.y.label, "end"))
    for value, text in y_marks:
        y = axes.y(value)
        parts.append(f"<path class='grid' d='M{axes.left} {y:.1f}H{axes.right}'/>")
        parts.append(_text(axes.left - 8, y + 4, text, "end"))
    parts += [_text(axes.x(value), axes.bottom + 18, text, "middle") for value, text in x_marks]
    parts.append(_text(axes.right, axes.bottom + 34, panel.x.label, "end"))
    for value, text in panel.lines:
        y = axes.y(value)
        parts.append(f"<path class='limit' d='M{axes.left} {y:.1f}H{axes.right}'/>")
        parts.append(_text(axes.left + 6, y - 5, text))
    parts += [_curve(axes, curve) for curve in reversed(panel.curves)]  # the first lies on top
    return "".join(parts)


def _axes(panel: Panel, width: int, height: int) -> Axes:
    xs = [value for curve in panel.curves for value in curve.x]
    ys = [v for curve in panel.curves for v in (*curve.y, *curve.low, *curve.high)]
    ys += [value for value, _ in panel.lines]
    x_range = panel.x.values or (min(xs), max(xs))
    y_range = panel.y.values or (0.0, 1.04 * max(ys))
    return Axes(x_range, y_range, width, height)


def _marks(axis: Axis, values: tuple[float, float], count: int) -> list[tuple[float, str]]:
    if axis.marks is not None:
        return list(axis.marks)
    return [(value, format_tick(value)) for value in ticks(*values, count)]


def _curve(axes: Axes, curve: Curve) -> str:
    """Draw what lies within the panel; a curve that leaves it at the top is cut there."""
    top = axes.y_range[1]
    seen = [place for place, y in enumerate(curve.y) if y <= top]
    points = [(axes.x(curve.x[place]), axes.y(curve.y[place])) for place in seen]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    drawn = _path(f"M{line}", curve.colour, curve.dashed, 2) if len(points) > 1 else ""
    if len(curve.low):
        whiskers = "".join(
            _whisker(x, axes.y(curve.low[place]), axes.y(min(curve.high[place], top)))
            for place, (x, _) in zip(seen, points, strict=True)
        )
        drawn += _path(whiskers, curve.colour, opacity=0.6)
    if not curve.dots:
        return drawn
    noise = curve.noise or [False] * len(curve.x)
    return drawn + "".join(
        _dot(x, y, curve.colour, noise[place]) for place, (x, y) in zip(seen, points, strict=True)
    )


def _whisker(x: float, low: float, high: float) -> str:
    caps = "".join(f"M{x - WHISKER:.1f} {y:.1f}h{2 * WHISKER}" for y in (low, high))
    return f"M{x:.1f} {low:.1f}V{high:.1f}{caps}"


def _key(curve: Curve, x: float, place: int) -> str:
    y = 38 + KEY_STEP * place
    line = _path(f"M{x} {y - 4}h22", curve.colour, curve.dashed, 2)
    return line + _text(x + 28, y, curve.name)


def _path(
    commands: str, colour: str, dashed: bool = False, width: float = 1, opacity: float = 1
) -> str:
    style = " stroke-dasharray='6 3'" if dashed else ""
    style += f" stroke-opacity='{opacity:g}'" if opacity < 1 else ""
    return (
        f"<path class='{_name(colour)}' d='{commands}' stroke='{colour}' "
        f"stroke-width='{width:g}'{style}/>"
    )


def _dot(x: float, y: float, colour: str, hollow: bool = False, radius: float = 3) -> str:
    place = f"cx='{x:.1f}' cy='{y:.1f}' r='{radius:g}'"
    if hollow:
        return f"<circle class='hollow {_name(colour)}' {place} stroke='{colour}'/>"
    return f"<circle class='dot {_name(colour)}' {place} fill='{colour}'/>"


def _text(x: float, y: float, content: str, anchor: str = "start", kind: str = "") -> str:
    side = f" text-anchor='{anchor}'" if anchor != "start" else ""
    look = f" class='{kind}'" if kind else ""
    return f"<text x='{x:.1f}' y='{y:.1f}'{side}{look}>{escape(content)}</text>"


def _name(colour: str) -> str:
    """Return the class of a colour: equal in every chart, so that charts may share a page."""
    return f"c{colour.lstrip('#')}"


def _document(width: int, height: int, parts: Iterable[str], colours: Iterable[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' class='chart' viewBox='0 0 {width} {height}' "
        f"role='img'><style>{_style(dict.fromkeys(colours))}</style>"
        f"<rect class='ground' width='{width}' height='{height}'/>{''.join(parts)}</svg>\n"
    )


def _style(colours: Iterable[str]) -> str:
    dark = "".join(
        f".chart path.{_name(c)},.chart .hollow.{_name(c)}{{stroke:{dark_colour(c)}}}"
        f".chart .dot.{_name(c)}{{fill:{dark_colour(c)}}}"
        for c in colours
    )
    font = FONT.replace("text", ".chart text").replace("path", ".chart path")
    return (
        f"{font}{_page_style(PAGE)}@media(prefers-color-scheme:dark){{"
        f"{_page_style(DARK_PAGE)}{dark}}}"
    )


def _page_style(page: dict[str, str]) -> str:
    return (
        f".chart .ground,.chart .hollow{{fill:{page['ground']}}}"
        f".chart text{{fill:{page['soft']}}}.chart .name{{fill:{page['ink']};font-weight:600}}"
        f".chart .grid{{stroke:{page['grid']}}}"
        f".chart .limit{{stroke:{page['ink']};stroke-dasharray:5 4}}"
    )


def dark_colour(colour: str) -> str:
    """Return a colour mixed with white so that it is bright enough for a dark page."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    share = 0.8 if max(parts) < 64 else 0.35  # black lines become nearly white
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)
