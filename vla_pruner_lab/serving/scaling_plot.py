"""Latency against the number of robots, one curve a keep_ratio, as a plain SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from vla_pruner_ros.report.axes import Axes, format_tick, ticks

WIDTH, HEIGHT, LEGEND_WIDTH = 760, 340, 150
COLOURS = ("#1f6feb", "#0f8f76", "#b98900", "#d9590c")
STYLE = "text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#626a73}path{fill:none}"


def latency_plot(
    counts: Sequence[int], curves: Mapping[str, Sequence[float]], limit: float, limit_name: str
) -> str:
    """Return an SVG document.

    curves: name -> a latency (s) for each of the counts. limit: drawn as a dashed line (s).
    """
    top = min(max(max(values) for values in curves.values()), 4 * limit)
    axes = Axes.around((counts[0], counts[-1]), (0.0, top), WIDTH - LEGEND_WIDTH, HEIGHT)
    parts = [*_frame(axes, counts), _limit(axes, limit, limit_name)]
    for place, (name, values) in enumerate(curves.items()):
        parts += _curve(axes, counts, values, top, name, place)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def _frame(axes: Axes, counts: Sequence[int]) -> list[str]:
    parts = [
        f'<text x="{axes.left}" y="16">95th percentile of latency (s)</text>',
        f'<text x="{axes.right}" y="{axes.bottom + 34}" text-anchor="end">robots</text>',
    ]
    for value in ticks(*axes.y_range, 6):
        y = axes.y(value)
        parts.append(f'<path d="M{axes.left} {y:.1f}H{axes.right}" stroke="#e4e7eb"/>')
        place = f'x="{axes.left - 6}" y="{y + 4:.1f}" text-anchor="end"'
        parts.append(f"<text {place}>{format_tick(value)}</text>")
    for count in counts:
        place = f'x="{axes.x(count):.1f}" y="{axes.bottom + 18}" text-anchor="middle"'
        parts.append(f"<text {place}>{count}</text>")
    return parts


def _limit(axes: Axes, limit: float, name: str) -> str:
    y = axes.y(limit)
    line = f'<path d="M{axes.left} {y:.1f}H{axes.right}" stroke="#1c1f23" stroke-dasharray="5 4"/>'
    return line + f'<text x="{axes.right + 8}" y="{y + 4:.1f}">{escape(name)}</text>'


def _curve(
    axes: Axes, counts: Sequence[int], values: Sequence[float], top: float, name: str, place: int
) -> list[str]:
    colour = COLOURS[place % len(COLOURS)]
    shown = [(axes.x(c), axes.y(v)) for c, v in zip(counts, values, strict=True) if v <= top]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in shown)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in shown]
    y = axes.top + 16 * (place + 1)
    key = f'<path d="M{axes.right + 8} {y - 4}h18" stroke="{colour}" stroke-width="2"/>'
    legend = f'{key}<text x="{axes.right + 32}" y="{y}">{escape(name)}</text>'
    return [f'<path d="{path}" stroke="{colour}" stroke-width="2"/>', *dots, legend]
