"""Latency against the number of robots, one curve a keep_ratio, as a plain SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vla_pruner_lab.common.charts import PALETTE, Axis, Curve, Panel, chart_svg


def latency_plot(
    counts: Sequence[int], curves: Mapping[str, Sequence[float]], limit: float, limit_name: str
) -> str:
    """Return an SVG document.

    curves: name -> a latency (s) for each of the counts. limit: drawn as a dashed line (s).
    """
    top = min(max(max(values) for values in curves.values()), 4 * limit)
    drawn = [
        Curve(name, counts, values, PALETTE[place % len(PALETTE)])
        for place, (name, values) in enumerate(curves.items())
    ]
    x = Axis("robots", (counts[0], counts[-1]), [(count, str(count)) for count in counts])
    y = Axis("95th percentile of latency (s)", (0.0, 1.05 * top))
    return chart_svg([Panel("", drawn, x, y, [(limit, limit_name)])])
