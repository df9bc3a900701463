"""OpenVLA-OFT's FiLM: a vision backbone that the task's words modulate, from its component file.

The file holds the whole backbone as PEFT wraps it: base weights, low-rank additions that are not
merged, and a scale and a shift for each block. It replaces the backbone of the merged weights.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

from vla_pruner_ros.models.checkpoints import fill_component, load_component
from vla_pruner_ros.models.openvla.prismatic import NOT_RUN, TOWERS, tower_shapes
from vla_pruner_ros.models.openvla.vision_backbone import FusedVisionBackbone
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.sources.adapters import LowRank

WRAPPERS = ("module.", "vision_backbone.")
"""Prefixes that wrappers of training leave on names."""
MOST_ALPHA = 16
"""openvla-oft trains its additions with alpha = min(rank, 16) and stores neither in the file."""
_PREFIX = "vision_backbone."


def load_backbone(
    path: Path, config: dict, hidden_size: int, device: torch.device, dtype: torch.dtype
) -> FusedVisionBackbone:
    """Read a vision_backbone--*.pt.

    Args:
        config: of the checkpoint. hidden_size: width of the decoder, whose embeddings modulate.

    Raises:
        CheckpointError: it holds no FiLM backbone, or one that does not fit the checkpoint.
    """
    tensors = merged({unwrapped(name): t for name, t in load_component(path, WRAPPERS).items()})
    if "featurizer.blocks.0.scale.weight" not in tensors:
        raise CheckpointError(f"{path.name} holds no FiLM: its blocks have no scale and shift")
    shapes = {_PREFIX + name: tuple(tensor.shape) for name, tensor in tensors.items()}
    dino, siglip = (
        replace(shape, task_width=hidden_size)
        for shape in tower_shapes(path.parent, config, shapes)
    )
    with torch.device("meta"):
        backbone = FusedVisionBackbone(dino, siglip)
    depths = zip(TOWERS, (dino.depth, siglip.depth), strict=True)
    unused = (*NOT_RUN, *(f"{tower}.blocks.{depth - 1}.*" for tower, depth in depths))
    used = {
        name: tensor
        for name, tensor in tensors.items()
        if not any(fnmatch(_PREFIX + name, pattern) for pattern in unused)
    }
    return fill_component(backbone, path, used, device, dtype).eval()


def unwrapped(name: str) -> str:
    """Return a tensor's name without the wrappers of FiLM's blocks and of PEFT."""
    name = re.sub(r"^(\w+\.blocks\.\d+)\.block\.", r"\1.", name)
    return name.replace(".base_layer.", ".")


def merged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the low-rank additions to their weights, [rows, columns] each.

    Returns:
        The tensors by name, without the additions.

    Raises:
        CheckpointError: an addition without its weight or its other half.
    """
    made = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    for name, down in tensors.items():
        module, found, _ = name.partition(".lora_A.")
        if not found:
            continue
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        weight = made.get(f"{module}.weight")
        if up is None or weight is None:
            raise CheckpointError(f"{name} has no weight or no other half to go with it")
        rank = len(down)
        made[f"{module}.weight"] = LowRank(down, up, min(rank, MOST_ALPHA) / rank).add_to(weight)
    return made
