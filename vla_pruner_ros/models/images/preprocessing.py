"""Camera images -> what the vision towers take.

`preview` shows the uint8 image that the model sees. On a CPU it is what the model gets; a GPU
makes the same image itself from the raw frame (on_device.py). Scaling and normalisation
always run on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla_pruner_ros.models.checkpoints import read_json
from vla_pruner_ros.models.policy import CheckpointError, InputError

IMAGE_SIZE = 224
PATCH_SIZE = 14
PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
"""Visual tokens of one camera."""


def check_images(images: list[np.ndarray], cameras: int) -> None:
    """Raises InputError unless there are `cameras` uint8 [H, W, 3] arrays."""
    if len(images) != cameras:
        raise InputError(f"the model takes {cameras} image(s) per step, got {len(images)}")
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            raise InputError(f"image {index} must be a uint8 array, got {kind}")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"image {index} must be [H, W, 3] RGB, got {list(image.shape)}")


def checked_state(state: np.ndarray | None, size: int) -> np.ndarray:
    """float64 [size]. Raises InputError for another length, or values that are not finite."""
    values = np.asarray([] if state is None else state, dtype=np.float64)
    if values.shape != (size,):
        raise InputError(f"the model takes a state of {size} numbers, got {values.size}")
    if not np.isfinite(values).all():
        raise InputError("the state holds NaN or infinite values; check the joint states")
    return values


def resize_bicubic(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [224, 224, 3] with Pillow's bicubic filter, aspect ignored."""
    if image.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return image
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Normalization:
    """Per-tower mean and standard deviation over pixel values in 0..1, [towers, 3, 1, 1]."""

    mean: Tensor
    std: Tensor

    @classmethod
    def read(cls, directory: Path, device: torch.device) -> Normalization:
        """Read preprocessor_config.json.

        tvf_normalize_params win over means and stds: the official files hold bf16-rounded
        constants there, and those are what the models saw in training.

        Raises:
            CheckpointError: the file has no usable mean and std.
        """
        config = read_json(directory / "preprocessor_config.json")
        try:
            towers = config.get("tvf_normalize_params") or [
                {"mean": m, "std": s} for m, s in zip(config["means"], config["stds"], strict=True)
            ]
            mean, std = ([tower[k] for tower in towers] for k in ("mean", "std"))
            shape = (len(towers), 3, 1, 1)
            return cls(*(torch.tensor(v, device=device).reshape(shape) for v in (mean, std)))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"preprocessor_config.json in {directory} has no usable mean and std: {error}"
            ) from None

    def __call__(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 [cameras, S, S, 3] -> dtype [cameras, 3 * towers, S, S]."""
        scaled = images.permute(0, 3, 1, 2).to(torch.float32).div(255.0)[:, None]
        pixels = (scaled - self.mean) / self.std
        return pixels.flatten(1, 2).to(dtype, memory_format=torch.contiguous_format)
