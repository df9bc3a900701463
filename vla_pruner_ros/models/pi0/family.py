"""pi0 as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.lerobot.options import Options
from vla_pruner_ros.models.paligemma.matching import is_of_family

__all__ = ["Options", "load", "matches"]

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint
    from vla_pruner_ros.models.pi0.policy import Pi0Policy


def matches(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether the directory holds a pi0, in any of the layouts of paligemma/layouts.py."""
    return is_of_family("pi0", directory, config)


def load(checkpoint: Checkpoint, options: Options) -> Pi0Policy:
    """See families.Family.load."""
    from vla_pruner_ros.models.paligemma.layouts import PI0
    from vla_pruner_ros.models.paligemma.loading import Family, load_policy
    from vla_pruner_ros.models.pi0.network import Pi0Expert, Pi0Network
    from vla_pruner_ros.models.pi0.policy import Pi0Policy

    family = Family(PI0, Pi0Network, Pi0Expert, Pi0Policy)
    return load_policy(family, checkpoint, options)
