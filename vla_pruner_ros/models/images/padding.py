"""Frames of any size -> the square image of a flow-matching policy: shrunk, the rest black.

center: LeRobot's pi0 and pi0.5, in float, bilinear without antialias, black all around.
top_left: SmolVLA, the same with black on the left and above.
bottom_right: transformers' PI0 processor, 8 bits, bicubic with antialias (Pillow's, which differs
from torchvision's by rounding).
center_antialias: openpi's client, 8 bits, Pillow's bilinear.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vla_pruner_ros.models.images.on_device import resize_bicubic

IN_FLOAT = ("center", "top_left")


class ImageFitter:
    """One way of making square images; padding: see the module."""

    def __init__(self, side: int, padding: str) -> None:
        self.side, self.padding = side, padding

    @property
    def runs_on_device(self) -> bool:
        """True if a GPU can fit the raw frame itself."""
        return self.padding != "center_antialias"

    def preview(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [side, side, 3], rounded where the model gets floats."""
        if self.padding in IN_FLOAT:
            fitted = self._fit_in_float(torch.from_numpy(np.ascontiguousarray(frame)))
            return fitted.mul(255.0).round().to(torch.uint8).permute(1, 2, 0).numpy()
        size = self._size(*frame.shape[:2])
        if size != frame.shape[:2]:
            antialias = Image.Resampling.BILINEAR
            if self.padding == "bottom_right":
                antialias = Image.Resampling.BICUBIC
            frame = np.asarray(Image.fromarray(frame).resize(size[::-1], antialias))
        left, right, top, bottom = self._margins(*size)
        return np.pad(frame, ((top, bottom), (left, right), (0, 0)))

    def fit(self, frame: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] -> float32 [3, side, side] in 0..1, on the host."""
        if self.padding in IN_FLOAT:
            return self._fit_in_float(torch.from_numpy(np.ascontiguousarray(frame)))
        return _scaled(torch.from_numpy(self.preview(frame)))

    def fit_on_device(self, frame: Tensor) -> Tensor:
        """Return the same for a frame on a GPU, made there: uint8 [H, W, 3] -> [S, S, 3]."""
        if self.padding in IN_FLOAT:
            return self._fit_in_float(frame)
        size = self._size(*frame.shape[:2])
        frame = resize_bicubic(frame, *size) if size != tuple(frame.shape[:2]) else frame
        return _scaled(F.pad(frame, (0, 0, *self._margins(*size))))

    def _fit_in_float(self, frame: Tensor) -> Tensor:
        planes = _scaled(frame)
        size = self._size(*frame.shape[:2])
        if size != tuple(frame.shape[:2]):
            planes = F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
        return F.pad(planes, self._margins(*size))

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width inside the square; the originals round differently for a few sizes."""
        if self.padding == "bottom_right":
            scale = min(self.side / height, self.side / width)
            return max(1, int(height * scale)), max(1, int(width * scale))
        ratio = max(width / self.side, height / self.side)
        return max(1, int(height / ratio)), max(1, int(width / ratio))

    def _margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Black columns on the left and right, black rows above and below."""
        left, top = self.side - width, self.side - height
        if self.padding == "bottom_right":
            left = top = 0
        elif self.padding != "top_left":
            left, top = left // 2, top // 2
        return left, self.side - width - left, top, self.side - height - top


def _scaled(frame: Tensor) -> Tensor:
    """uint8 [H, W, 3] -> float32 [3, H, W] in 0..1."""
    return frame.permute(2, 0, 1).float().div_(255.0)
