"""Images as LeRobot gives them to a policy: resized and padded in float, never 8 bits in between.

One function serves host and device. The other ways of a family (transformers' and openpi's, in 8
bits) are here next to it, so that a policy only names one of PADDINGS.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vla_pruner_ros.models.images import on_device
from vla_pruner_ros.models.images.padding import corner, resize_with_padding, size_inside

PADDINGS = ("center", "top_left", "bottom_right", "center_antialias")
"""Where black fills an image that is not square, and the filter that belongs to it.

center: LeRobot's pi0 and pi0.5, float, bilinear, black all around. top_left: SmolVLA, the same
with black on the left and above. bottom_right: transformers' PI0 processor, 8 bits, bicubic with
antialias. center_antialias: openpi's client, 8 bits, Pillow's bilinear.
"""
IN_FLOAT = ("center", "top_left")


class ImageFitter:
    """Frames of any size -> square images of a model, by one of PADDINGS."""

    def __init__(self, side: int, padding: str) -> None:
        self.side, self.padding = side, padding

    @property
    def runs_on_device(self) -> bool:
        """Whether a GPU can fit the raw frame itself."""
        return self.padding != "center_antialias"

    def preview(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [side, side, 3], rounded where the model gets floats."""
        if self.padding in IN_FLOAT:
            fitted = self.fit(torch.from_numpy(np.ascontiguousarray(frame)))
            return fitted.mul(255.0).round().to(torch.uint8).permute(1, 2, 0).numpy()
        if self.padding == "bottom_right":
            return resize_with_padding(frame, self.side, self.padding)
        return _resize_with_pillow(frame, self.side)

    def fit(self, frame: Tensor) -> Tensor:
        """uint8 [H, W, 3] -> float32 [3, side, side] in 0..1, where the frame lies."""
        if self.padding in IN_FLOAT:
            return _fit_in_float(frame, self.side, self.padding)
        if frame.device.type != "cpu":
            image = on_device.resize_with_padding(frame, self.side, self.padding)
        else:
            image = torch.from_numpy(np.ascontiguousarray(self.preview(frame.numpy())))
        return image.permute(2, 0, 1).float().div_(255.0)


def _fit_in_float(frame: Tensor, side: int, padding: str) -> Tensor:
    planes = frame.permute(2, 0, 1).float().div_(255.0)
    size = size_inside(*planes.shape[1:], side, "center")
    if size != tuple(planes.shape[1:]):
        planes = F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
        planes = planes.clamp_(0.0, 1.0)
    left, top = side - size[1], side - size[0]
    if padding == "center":
        top, left = corner(*size, side, "center")
    return F.pad(planes, (left, side - size[1] - left, top, side - size[0] - top))


def _resize_with_pillow(frame: np.ndarray, side: int) -> np.ndarray:
    height, width = size_inside(*frame.shape[:2], side, "center")
    if (height, width) != frame.shape[:2]:
        size = (width, height)
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    top, left = corner(height, width, side, "center")
    image = np.zeros((side, side, 3), dtype=np.uint8)
    image[top : top + height, left : left + width] = frame
    return image
