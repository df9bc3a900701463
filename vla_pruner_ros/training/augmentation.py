"""Image augmentation on the training device: small crops or shifts, and colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_pruner_ros.models.oft_images import CROP_AREA

SHIFT = 0.04
"""Largest shift either way, share of the picture's side (9 of 224 pixels)."""
COLOUR = 0.2
"""Largest relative change of brightness, contrast and saturation."""
LUMA = (0.299, 0.587, 0.114)


def augment(pictures: Tensor, family: str, generator: torch.Generator) -> Tensor:
    """uint8 [B, cameras, S, S, 3] -> float32 of the same shape and range 0..255.

    OpenVLA-OFT sees a random crop of 0.9 of the area, scaled back, since its policy cuts out the
    middle as large; OpenVLA's sees the whole picture, so that here it is only shifted. generator:
    on the CPU, so that a seed gives the same on every device.
    """
    flat = pictures.flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
    moved = _moved(flat, family, generator)
    coloured = _coloured(moved, generator)
    return (coloured * 255.0).permute(0, 2, 3, 1).reshape(pictures.shape)


def _moved(flat: Tensor, family: str, generator: torch.Generator) -> Tensor:
    """Crops or shifts of [n, 3, S, S], one each."""
    side = CROP_AREA**0.5 if family == "openvla_oft" else 1.0
    reach = 1.0 - side if family == "openvla_oft" else 2.0 * SHIFT
    shift = (2.0 * torch.rand(len(flat), 2, 1, generator=generator) - 1.0) * reach
    scale = (torch.eye(2) * side).expand(len(flat), 2, 2)
    transform = torch.cat([scale, shift], dim=2).to(flat.device)
    grid = F.affine_grid(transform, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="border", align_corners=False)


def _coloured(flat: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, in this order; hue stays: tasks name colours."""
    change = 1.0 + COLOUR * (2.0 * torch.rand(3, len(flat), 1, 1, 1, generator=generator) - 1.0)
    brightness, contrast, saturation = change.to(flat.device)
    flat = flat * brightness
    mean = flat.mean(dim=(1, 2, 3), keepdim=True)
    flat = mean + (flat - mean) * contrast
    grey = (flat * flat.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return (grey + (flat - grey) * saturation).clamp(0.0, 1.0)
