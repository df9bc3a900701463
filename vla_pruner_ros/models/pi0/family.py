"""pi0 as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.pi0.options import Options

__all__ = ["Options", "load", "matches"]

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint
    from vla_pruner_ros.models.pi0.policy import Pi0Policy


def matches(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether config.json is that of a pi0, in transformers' or LeRobot's layout."""
    return "pi0" in (config.get("model_type"), config.get("type"))


def load(checkpoint: Checkpoint, options: Options) -> Pi0Policy:
    """See families.Family.load."""
    from vla_pruner_ros.models.pi0 import policy

    return policy.load(checkpoint, options)
