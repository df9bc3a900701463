"""From a camera image to what OpenVLA-OFT sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vla_pruner_ros.models.images import on_device as device_images
from vla_pruner_ros.models.images.libero_jpeg import jpeg_round_trip, require_decoder
from vla_pruner_ros.models.images.preprocessing import IMAGE_SIZE
from vla_pruner_ros.models.images.tensorflow_resize import crop_center, resize_lanczos

CROP_AREA = 0.9
"""Share of the image that training crops kept on average; evaluation cuts out the middle."""


@dataclass(frozen=True)
class ImagePath:
    """name: camera: resize and crop.
    libero: before that, rotate by 180 degrees and pass through JPEG, as the training data did.
    libero_upright: the same for images that stand upright already.
    """

    name: str = "camera"
    center_crop: bool = True

    def __post_init__(self) -> None:
        if self.name != "camera":
            require_decoder(self.name)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [224, 224, 3]."""
        resized = self.resize(self._upright(image))
        return crop_center(resized, CROP_AREA) if self.center_crop else resized

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize an image, uint8 [H, W, 3] -> [S, S, 3].

        Images of the right size pass unchanged, without JPEG, as in the official code.
        """
        image = self._through_jpeg(image)
        return image if _has_size(image) else resize_lanczos(image, IMAGE_SIZE)

    def on_host(self, image: np.ndarray) -> np.ndarray:
        """Apply the steps before resizing to uint8 [H, W, 3], if the device resizes."""
        return self._through_jpeg(self._upright(image))

    def on_device(self, image: Tensor) -> Tensor:
        """The rest: uint8 [H, W, 3] -> uint8 [224, 224, 3]."""
        if not _has_size(image):
            image = device_images.resize_lanczos(image, IMAGE_SIZE)
        return device_images.crop_center(image, CROP_AREA) if self.center_crop else image

    def _upright(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[::-1, ::-1] if self.name == "libero" else image)

    def _through_jpeg(self, image: np.ndarray) -> np.ndarray:
        skips = self.name == "camera" or _has_size(image)
        return image if skips else jpeg_round_trip(image)


def _has_size(image: np.ndarray | Tensor) -> bool:
    return tuple(image.shape[:2]) == (IMAGE_SIZE, IMAGE_SIZE)
