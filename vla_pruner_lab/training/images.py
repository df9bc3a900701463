"""Images of demonstrations, decoded and scaled once, and cut into a tower's patches."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_ros.models.images.preprocessing import IMAGE_SIZE, PATCH_SIZE, PATCHES

IMAGES_FILE, FILLED_FILE = "images.bin", "images_filled.bin"
Resize = Callable[[np.ndarray], np.ndarray]
SMALLEST_CONTRAST = 50.0
"""Variance of pixels in 0..255 that is added to a patch's own when patches are drawn."""


class ImageStore:
    """Store of decoded images; store[i]: uint8 [cameras, side, side, 3] of frame i.

    They are kept in files (0.15 MB an image), because decoding and scaling takes 3 ms. The first
    process of the run that needs a frame does it once, also for a resumed run.
    """

    def __init__(
        self, folder: Path, data: Demonstrations, cameras: int, side: int, resize: Resize
    ) -> None:
        """resize: uint8 [H, W, 3] -> uint8 [side, side, 3]."""
        self._data, self._resize = data, resize
        shape = (len(data), cameras, side, side, 3)
        self._images = _shared_array(folder / IMAGES_FILE, shape)
        self._filled = _shared_array(folder / FILLED_FILE, (len(data),))

    def __getitem__(self, index: int) -> np.ndarray:
        if not self._filled[index]:
            images = self._data.images(index)
            self._images[index] = [self._resize(image) for image in images]
            self._filled[index] = 1
        return self._images[index]


def remove_images(folder: Path) -> None:
    """Delete the stored images once a run is over."""
    for name in (IMAGES_FILE, FILLED_FILE):
        (folder / name).unlink(missing_ok=True)


def _shared_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Open a uint8 array in a file, zero where nothing was written; processes that open it share
    it.
    """
    with path.open("ab") as file:
        file.truncate(math.prod(shape))
    return np.memmap(path, np.uint8, "r+", shape=shape)


def cut_patches(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Cut uint8 [224, 224, 3] -> [len(places), 14, 14, 3]; places: 0..255, counted row by row."""
    side = IMAGE_SIZE // PATCH_SIZE
    grid = image.reshape(side, PATCH_SIZE, side, PATCH_SIZE, 3)
    return grid[places // side, :, places % side]


def draw_places(image: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw different patches in proportion to their variance: int64 [count], ascending.

    Objects and edges come more often than the table's grain, which keeps SMALLEST_CONTRAST.
    """
    if count == PATCHES:
        return np.arange(PATCHES)
    side = IMAGE_SIZE // PATCH_SIZE
    sample = image[::2, ::2].astype(np.float32)  # every fourth pixel suffices
    contrast = sample.reshape(side, PATCH_SIZE // 2, side, PATCH_SIZE // 2, 3).var(axis=(1, 3))
    weight = contrast.mean(axis=2).reshape(-1) + SMALLEST_CONTRAST
    # The largest of log(weight) + Gumbel noise are a draw without replacement.
    keys = np.log(weight) + rng.gumbel(size=PATCHES)
    return np.sort(np.argpartition(keys, -count)[-count:])
