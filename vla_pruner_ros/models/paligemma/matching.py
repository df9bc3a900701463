"""Recognition of a pi0 or pi0.5 directory from its small files, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LONGEST_HEADER = 2**24
MARKERS = {"pi0": "action_time_mlp_in.weight", "pi05": "time_mlp_in.weight"}
"""Family -> a tensor that the other does not have."""


def is_of_family(name: str, directory: Path, config: dict[str, Any]) -> bool:
    """Return whether config.json names the family, or the folder is openpi's and holds it."""
    if name in (config.get("model_type"), config.get("type")):
        return True
    if config.get("type") or config.get("model_type") or not openpi_statistics(directory):
        return False
    names = tensor_names(directory / "model.safetensors")
    return MARKERS[name] in {stored.removeprefix("model.") for stored in names}


def openpi_statistics(directory: Path) -> list[Path]:
    """Return the norm_stats.json files below assets/, sorted."""
    return sorted(directory.glob("assets/**/norm_stats.json"))


def tensor_names(path: Path) -> frozenset[str]:
    """Return the names in a safetensors file's header; empty if it has none that is readable."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            content = json.loads(file.read(length)) if 0 < length < LONGEST_HEADER else {}
    except (OSError, ValueError):
        return frozenset()
    return frozenset(content) if isinstance(content, dict) else frozenset()
