"""Axes of a drawing: ranges, ticks, places of values, thinning of long curves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axes:
    """A drawing of width x height pixels whose inner rectangle shows x_range by y_range."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int
    height: int
    left: int = 56
    top: int = 26
    margin_right: int = 12
    margin_bottom: int = 38

    @classmethod
    def around(
        cls, x_range: tuple[float, float], y_range: tuple[float, float], width: int, height: int
    ) -> Axes:
        """Return axes that hold these values with a little air above and below."""
        x_low, x_high = _widened(*x_range)
        y_low, y_high = _widened(*y_range)
        air = 0.05 * (y_high - y_low)
        bottom = y_low if y_low == 0.0 else y_low - air
        return cls((x_low, x_high), (bottom, y_high + air), width, height)

    @property
    def right(self) -> int:
        """Right end of the plot area, pixels."""
        return self.width - self.margin_right

    @property
    def bottom(self) -> int:
        """Lower end of the plot area, pixels."""
        return self.height - self.margin_bottom

    def x(self, value: float) -> float:
        """Return the horizontal place of a value, in pixels from the left."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the vertical place of a value, in pixels from the top."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def _widened(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return float(low), float(high)
    pad = abs(low) * 0.1 or 1.0
    return low - pad, high + pad


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round values (1, 2 or 5 times a power of ten) within the range."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def format_tick(value: float) -> str:
    """Return a tick's label with no more digits than it needs."""
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}"


def decimate(x: np.ndarray, y: np.ndarray, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """Thin a curve to the smallest and largest value of each bucket, gaps kept.

    Args:
        x, y: [n].
        buckets: of equally many points; at most two points are left of each.
    """
    if len(x) <= 2 * buckets:
        return x, y
    picked = []
    for part in np.array_split(np.arange(len(x)), buckets):
        values = y[part]
        if np.isnan(values).all():
            picked.append(part[0])
        else:
            picked.extend(sorted({part[np.nanargmin(values)], part[np.nanargmax(values)]}))
    return x[picked], y[picked]
