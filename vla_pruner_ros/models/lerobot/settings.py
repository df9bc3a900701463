"""Numbers of a config.json, checked."""

from __future__ import annotations

from collections.abc import Mapping

from vla_pruner_ros.models.decoder.flow_matching import PERIODS
from vla_pruner_ros.models.policy import CheckpointError


def count(config: Mapping, name: str, default: int) -> int:
    """Return a whole number above 0. Raises CheckpointError for anything else."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{name} must be a whole number above 0, the checkpoint has {value}")
    return value


def periods(config: Mapping) -> tuple[float, float]:
    """Return the shortest and longest period of the flow time's embedding.

    Raises:
        CheckpointError: one that is not above 0.
    """
    names = zip(("min_period", "max_period"), PERIODS, strict=True)
    short, long = (config.get(name, usual) for name, usual in names)
    if not all(isinstance(value, (int, float)) and value > 0 for value in (short, long)):
        raise CheckpointError(f"min_period {short} and max_period {long} must be above 0")
    return float(short), float(long)
