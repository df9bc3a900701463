"""Robot units to the range a policy was trained in, and back, in float32 as in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.models.policy import CheckpointError

EPSILON = 1e-8
STATISTICS = {
    "IDENTITY": (),
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
"""Normalisation modes of LeRobot, and the two statistics that each one reads."""


@dataclass(frozen=True)
class Normalizer:
    """An affine map of each number of a state or an action; arrays are float32 [size].

    Attributes:
        centred: (x - offset) / spread; otherwise 2 (x - offset) / spread - 1.
        spread_back: the spread on the way back.
    """

    centred: bool
    offset: np.ndarray
    spread: np.ndarray
    spread_back: np.ndarray

    @property
    def size(self) -> int:
        """Numbers of the feature."""
        return len(self.offset)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """[size] in robot units -> float32 [size], not clipped."""
        scaled = (np.asarray(values, dtype=np.float32) - self.offset) / self.spread
        return scaled if self.centred else scaled * np.float32(2.0) - np.float32(1.0)

    def to_units(self, normalized: np.ndarray) -> np.ndarray:
        """[..., at least size] -> float32 [..., size]; the padding behind is dropped."""
        values = np.asarray(normalized, dtype=np.float32)[..., : self.size]
        if not self.centred:
            values = (values + np.float32(1.0)) / np.float32(2.0)
        return values * self.spread_back + self.offset


def mean_std(
    name: str, mean, std, epsilon: float = EPSILON, epsilon_back: float = 0.0
) -> Normalizer:
    """Make a normalizer of mean and standard deviation.

    Args:
        name: what is normalised, for messages.
        mean, std: one number each for every dimension.
        epsilon, epsilon_back: added to std on the way there and back.

    Raises:
        CheckpointError: the numbers are missing, uneven or not finite.
    """
    mean, std = _pair(name, ("mean", "std"), mean, std)
    if (std < 0).any():
        raise CheckpointError(f"the mean and std of the {name} are not usable numbers")
    spread, back = std + np.float32(epsilon), std + np.float32(epsilon_back)
    return Normalizer(True, mean, spread, back)


def interval(name: str, names: tuple[str, str], low, high, epsilon: float = 0.0) -> Normalizer:
    """Make a normalizer that maps low..high to -1..1.

    Args:
        name: what is normalised; names: of the two statistics, for messages.
        low, high: one number each for every dimension.
        epsilon: added to every width; with 0, a width of 0 becomes EPSILON.

    Raises:
        CheckpointError: the numbers are missing, uneven or not finite.
    """
    low, high = _pair(name, names, low, high)
    width = high - low
    width = width + np.float32(epsilon) if epsilon else np.where(width == 0, EPSILON, width)
    width = width.astype(np.float32)
    return Normalizer(False, low, width, width)


def identity(size: int) -> Normalizer:
    """Make a normalizer that changes nothing."""
    ones = np.ones(size, np.float32)
    return Normalizer(True, np.zeros(size, np.float32), ones, ones)


def by_mode(
    name: str, mode: str, statistics: Mapping[str, np.ndarray], size: int, epsilon: float = EPSILON
) -> Normalizer:
    """Make the normalizer that a LeRobot mode names.

    Args:
        name: what is normalised, for messages.
        mode: key of STATISTICS.
        statistics: mean, std, q01 etc. of this feature, float [size] each.
        size: numbers, for IDENTITY.
        epsilon: of MEAN_STD, from the processor's file.

    Raises:
        CheckpointError: an unknown mode, or statistics that are missing or unusable.
    """
    if mode not in STATISTICS:
        known = ", ".join(STATISTICS)
        raise CheckpointError(f"normalisation {mode} of the {name} is not one of {known}")
    if mode == "IDENTITY":
        return identity(size)
    first, second = STATISTICS[mode]
    values = statistics.get(first), statistics.get(second)
    if mode == "MEAN_STD":
        return mean_std(name, *values, epsilon)
    return interval(name, (first, second), *values)


def _pair(name: str, names: tuple[str, str], *values) -> tuple[np.ndarray, np.ndarray]:
    if any(value is None for value in values):
        raise CheckpointError(
            f"the checkpoint has no {' and '.join(names)} of the {name}; save the statistics of "
            "the training data with it"
        )
    try:
        first, second = (np.asarray(value, dtype=np.float32).reshape(-1) for value in values)
    except (TypeError, ValueError):
        raise _unusable(name, names) from None
    if first.shape != second.shape or not np.isfinite([first, second]).all():
        raise _unusable(name, names)
    return first, second


def _unusable(name: str, names: tuple[str, str]) -> CheckpointError:
    return CheckpointError(f"the {' and '.join(names)} of the {name} are not usable numbers")
