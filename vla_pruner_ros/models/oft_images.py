"""From a camera image to what OpenVLA-OFT sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.models.jpeg import jpeg_round_trip
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.preprocessing import IMAGE_SIZE
from vla_pruner_ros.models.resampling import crop_center, resize_lanczos

IMAGE_PATHS = ("camera", "libero", "libero_upright")
CROP_AREA = 0.9
"""Share of the picture that training crops kept on average; evaluation cuts out the middle."""


@dataclass(frozen=True)
class ImagePath:
    """name: camera: resize and crop.
    libero: before that, rotate by 180 degrees and pass through JPEG, as the training data did.
    libero_upright: the same for pictures that stand upright already.
    """

    name: str = "camera"
    center_crop: bool = True

    def __post_init__(self) -> None:
        if self.name not in IMAGE_PATHS:
            allowed = ", ".join(IMAGE_PATHS)
            raise CheckpointError(f"image_path must be one of {allowed}, got {self.name!r}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [224, 224, 3]."""
        if self.name == "libero":
            image = image[::-1, ::-1]
        resized = self.resize(image)
        return crop_center(resized, CROP_AREA) if self.center_crop else resized

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Pictures of the right size pass unchanged, without JPEG, as in the official code."""
        if image.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
            return np.ascontiguousarray(image)
        if self.name != "camera":
            image = jpeg_round_trip(image)
        return resize_lanczos(image, IMAGE_SIZE)
