"""pi05 as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.lerobot.options import Options
from vla_pruner_ros.models.paligemma.matching import is_of_family

__all__ = ["Options", "load", "matches"]

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint
    from vla_pruner_ros.models.pi05.policy import Pi05Policy


def matches(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether the directory holds a pi05, in any of the layouts of paligemma/layouts.py."""
    return is_of_family("pi05", directory, config)


def load(checkpoint: Checkpoint, options: Options) -> Pi05Policy:
    """See families.Family.load."""
    from vla_pruner_ros.models.paligemma.layouts import PI05
    from vla_pruner_ros.models.paligemma.loading import Family, load_policy
    from vla_pruner_ros.models.pi05.network import Pi05Expert, Pi05Network
    from vla_pruner_ros.models.pi05.policy import Pi05Policy

    family = Family(PI05, Pi05Network, Pi05Expert, Pi05Policy)
    return load_policy(family, checkpoint, options)
