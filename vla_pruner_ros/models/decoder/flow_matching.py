"""Times of a flow from noise to actions, and their embedding."""

from __future__ import annotations

import torch
from torch import Tensor

PERIODS = (4e-3, 4.0)


def flow_times(steps: int) -> list[float]:
    """Return the times at which the velocity is evaluated: 1 (noise) down to 1 / steps."""
    return [1.0 - step / steps for step in range(steps)]


def time_embeddings(
    width: int, times: list[float], device: torch.device, periods: tuple[float, float] = PERIODS
) -> Tensor:
    """Embed flow times as sines, then cosines, at geometric periods.

    Args:
        width: numbers of one embedding.
        times: flow times, 0 to 1.
        device: where the result goes; it is computed on the host in float64, as in training.
        periods: shortest and longest period.

    Returns:
        float32 [times, width].
    """
    fraction = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    period = periods[0] * (periods[1] / periods[0]) ** fraction
    # Training holds the time itself in float32.
    rounded = torch.tensor(times, dtype=torch.float32).double()
    angles = rounded[:, None] * (2.0 * torch.pi / period)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float().to(device)
