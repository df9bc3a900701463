"""OpenVLA as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint
    from vla_pruner_ros.models.openvla.openvla import OpenVlaPolicy


@dataclass(frozen=True)
class Options:
    """Options of an OpenVLA policy: none, its files hold everything."""


def matches(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether config.json is OpenVLA's; OpenVLA-OFT shares it and is asked first."""
    return config.get("model_type") == "openvla"


def load(checkpoint: Checkpoint, options: Options) -> OpenVlaPolicy:
    """See families.Family.load."""
    from vla_pruner_ros.models.openvla import openvla

    return openvla.load(checkpoint)
