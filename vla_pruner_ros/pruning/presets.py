"""Named sets of settings of the method, so that a figure can name the one it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from vla_pruner_ros.pruning.config import PRESETS, PruningConfig

_PAPER = {
    "prune_layer": 3,
    "semantic_queries": "all",
    "coverage": 0.0,
    "camera_budget": "shared",
    "action_source": "history",
    "history_fill": "full",
    "action_layer": -1,
    "decay_order": "newest_first",
}
_DEFAULT = {**_PAPER, "semantic_queries": "text", "coverage": 0.25, "history_fill": "semantic"}
_MIDDLE = 15 / 32
"""The authors read action attention from layer 15 of the 7B model's 32."""


def preset_values(preset: str, family: str, num_layers: int) -> Mapping[str, object]:
    """Return a preset's settings: PruningConfig's fields that may be left to it, by name.

    - default: what measures best over the policies that come with the package
      (docs/reference/results.md).
    - paper: arXiv 2511.16449 as written.
    - released: what the authors' code does, which differs by family: one middle layer of action
      attention; of OpenVLA the decay reversed, as in the version before 28 May 2026; of
      OpenVLA-OFT a budget for each camera and four full layers.
    """
    if preset == "default":
        return MappingProxyType(_DEFAULT)
    if preset == "paper":
        return MappingProxyType(_PAPER)
    released = {**_PAPER, "action_layer": int(_MIDDLE * num_layers)}
    if family == "openvla_oft":
        four_layers = min(4, num_layers - 1)
        return MappingProxyType({**released, "camera_budget": "even", "prune_layer": four_layers})
    return MappingProxyType({**released, "decay_order": "oldest_first"})


def with_preset(config: PruningConfig, preset: str) -> PruningConfig:
    """Return the settings with everything that a preset may fill in left to this one."""
    return replace(config, preset=preset, **dict.fromkeys(_PAPER))


def resolve(config: PruningConfig, family: str = "", num_layers: int = 32) -> PruningConfig:
    """Return the settings with every one that is left to the preset (None) filled in.

    family, num_layers: of the model; they matter to the preset `released` alone.
    """
    values = preset_values(config.preset, family, num_layers)
    left = {name: value for name, value in values.items() if getattr(config, name) is None}
    return replace(config, **left)


def preset_in_force(config: PruningConfig, family: str = "", num_layers: int = 32) -> str:
    """Return the preset that resolved settings equal, or "custom"."""
    for preset in PRESETS:
        values = preset_values(preset, family, num_layers)
        if all(getattr(config, name) == value for name, value in values.items()):
            return preset
    return "custom"
