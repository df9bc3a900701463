"""An even grid, the baseline that looks at nothing and covers everything."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import PruningMethod, Signals, even_parts
from vla_pruner_ros.pruning.token_selection import Selection


class Uniform(PruningMethod):
    """An even grid over every camera's image, the budget shared evenly by the cameras."""

    name = "uniform"
    label = "uniform"
    colour = "#1c1f23"
    looks_at_nothing = True

    def __init__(self, config: PruningConfig, num_cameras: int = 1) -> None:
        super().__init__(config, num_cameras)
        self._grids: dict[tuple, Tensor] = {}  # made once: a captured graph cannot upload them

    def select(self, signals: Signals, keep: int) -> Selection:
        key = (signals.num_visual, keep, signals.target)
        if key not in self._grids:
            indices = uniform_grid(signals.num_visual, keep, self.num_cameras)
            self._grids[key] = torch.tensor(indices, device=signals.target)
        return Selection(self._grids[key])


def uniform_grid(num_visual: int, keep: int, num_cameras: int) -> list[int]:
    """Return keep evenly spread indices into num_cameras row-major patch grids, ascending.

    A camera whose patches form no square is spread along its index alone.
    """
    patches = num_visual // num_cameras
    side = math.isqrt(patches)
    rows, columns = (side, side) if side * side == patches else (1, patches)
    indices: list[int] = []
    for camera, count in enumerate(even_parts(keep, num_cameras)):
        grid = _spread_over_grid(rows, columns, count)
        indices += [camera * patches + index for index in grid]
    return indices


def _spread_over_grid(rows: int, columns: int, count: int) -> list[int]:
    """Return count indices on about sqrt(count) evenly spaced rows, evenly spaced in each."""
    if count == 0:
        return []
    used_rows = min(rows, max(round(math.sqrt(count * rows / columns)), -(-count // columns)))
    per_row = even_parts(count, used_rows)
    row_numbers = _midpoints(rows, used_rows)
    return [
        row * columns + column
        for row, in_row in zip(row_numbers, per_row, strict=True)
        for column in _midpoints(columns, in_row)
    ]


def _midpoints(length: int, count: int) -> list[int]:
    """Return the middle of each of count equal stretches of 0..length-1."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]
