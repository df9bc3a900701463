"""Augmentation: small crops or shifts when an image is read, colour on the training device."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla_pruner_lab.training.images import Resize
from vla_pruner_ros.models.images.preprocessing import IMAGE_SIZE, resize_bicubic
from vla_pruner_ros.models.openvla.oft_images import CROP_AREA, ImagePath

SHIFT = 0.04
"""Largest shift either way of OpenVLA's images, share of the side (9 of 224 pixels)."""
COLOUR = 0.2
"""Largest relative change of brightness, contrast and saturation."""
LUMA = (0.299, 0.587, 0.114)


def stored_size(family: str, augmented: bool) -> tuple[int, Resize]:
    """Return the size to store images at (pixels), and the resize function.

    The policy sees a window of IMAGE_SIZE. OpenVLA-OFT's policy cuts out the middle 0.9 of the area
    and
    scales it back: here the image is scaled up first, and a random crop is a window of it.
    OpenVLA's policy sees the entire image.
    """
    if family == "openvla":
        return IMAGE_SIZE, resize_bicubic
    if not augmented:
        return IMAGE_SIZE, ImagePath().resize
    side = round(IMAGE_SIZE / CROP_AREA**0.5)
    return side, lambda image: _resize_lanczos(image, side)


def _resize_lanczos(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def random_window(image: np.ndarray, family: str, rng: np.random.Generator) -> np.ndarray:
    """Cut a random crop (OFT), or shift with the edge repeated: uint8 [S, S, 3] -> [224,
    224, 3].
    """
    if family == "openvla":
        reach = round(SHIFT * IMAGE_SIZE)
        image = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    top, left = rng.integers(image.shape[0] - IMAGE_SIZE + 1, size=2)
    return image[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def change_colours(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Change colours: uint8 [B, cameras, n, P, P, 3] -> float32 of the same shape, 0..255.

    Brightness, contrast, saturation, in this order, each image its own. Hue stays, because tasks
    name colours.

    Args:
        generator: on the CPU, so that a seed gives the same on every device.
    """
    flat = patches.flatten(0, 1).float() / 255.0
    change = 1.0 + COLOUR * (2.0 * torch.rand(3, len(flat), 1, 1, 1, 1, generator=generator) - 1.0)
    brightness, contrast, saturation = change.to(flat.device)
    flat = flat * brightness
    mean = flat.mean(dim=(1, 2, 3, 4), keepdim=True)
    flat = mean + (flat - mean) * contrast
    grey = flat @ flat.new_tensor(LUMA)
    flat = (grey[..., None] + (flat - grey[..., None]) * saturation).clamp(0.0, 1.0)
    return (flat * 255.0).view(patches.shape)
