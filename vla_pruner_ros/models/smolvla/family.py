"""SmolVLA as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.lerobot.options import Options

__all__ = ["Options", "load", "matches"]

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint
    from vla_pruner_ros.models.smolvla.policy import SmolVlaPolicy


def matches(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether config.json is that of LeRobot's SmolVLA."""
    return config.get("type") == "smolvla"


def load(checkpoint: Checkpoint, options: Options) -> SmolVlaPolicy:
    """See families.Family.load."""
    from vla_pruner_ros.models.smolvla.loading import load_policy

    return load_policy(checkpoint, options)
