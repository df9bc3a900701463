"""From a camera image to what pi0 sees: shrunk without distortion, the rest black."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def resize_with_padding(image: np.ndarray, side: int, padding: str) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [side, side, 3], the aspect ratio kept.

    padding: where black goes, and the filter that belongs to it. bottom_right: as transformers'
    PI0ImageProcessor (bicubic with antialias; Pillow's here, which differs from torchvision's by
    rounding). center: as LeRobot and openpi (bilinear without antialias; rounded to 8 bits here).
    """
    height, width = image.shape[:2]
    size = size_inside(height, width, side, padding)
    resize = _bicubic if padding == "bottom_right" else _bilinear
    small = image if size == (height, width) else resize(image, size)
    top, left = corner(*size, side, padding)
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    picture[top : top + size[0], left : left + size[1]] = small
    return picture


def size_inside(height: int, width: int, side: int, padding: str) -> tuple[int, int]:
    """What a picture shrinks to. The two originals round differently for a few sizes."""
    if padding == "center":
        ratio = max(width / side, height / side)
        return max(1, int(height / ratio)), max(1, int(width / ratio))
    scale = min(side / height, side / width)
    return max(1, int(height * scale)), max(1, int(width * scale))


def corner(height: int, width: int, side: int, padding: str) -> tuple[int, int]:
    """Top and left of the shrunk picture in the square."""
    return ((side - height) // 2, (side - width) // 2) if padding == "center" else (0, 0)


def _bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return bilinear(torch.tensor(image).permute(2, 0, 1), size).permute(1, 2, 0).numpy()


def bilinear(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [3, H, W] -> uint8 [3, *size], half-pixel centres, without antialias."""
    resized = F.interpolate(planes[None].float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].round().clamp(0, 255).to(torch.uint8)
