"""OpenVLA-OFT as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.openvla.oft_options import (
    FILM_FILES,
    HEAD_FILES,
    PROPRIO_FILES,
    REFUSED_FILES,
    Options,
)

__all__ = ["Options", "load", "matches"]

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint
    from vla_pruner_ros.models.openvla.openvla_oft import OpenVlaOftPolicy


def matches(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether config.json is OpenVLA's and component files lie next to the weights."""
    patterns = (HEAD_FILES, PROPRIO_FILES, FILM_FILES, *REFUSED_FILES)
    is_openvla = config.get("model_type") == "openvla"
    return is_openvla and any(any(directory.glob(pattern)) for pattern in patterns)


def load(checkpoint: Checkpoint, options: Options) -> OpenVlaOftPolicy:
    """See families.Family.load."""
    from vla_pruner_ros.models.openvla import openvla_oft

    return openvla_oft.load(checkpoint, options)
