"""Minimum, maximum, mean and standard deviation of numbers and images, added one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

EVERY = 10
"""Frames from one image to the next that enter the statistics: neighbours are alike."""


class VectorStatistics:
    """Statistics of vectors of one length."""

    def __init__(self) -> None:
        self._count = 0
        self._low = self._high = self._sum = self._squares = np.zeros(0)

    def add(self, value: Any) -> None:
        """Add a vector or a number."""
        vector = np.atleast_1d(np.asarray(value, np.float64))
        if not self._count:
            self._low = self._high = vector
            self._sum = self._squares = np.zeros_like(vector)
        self._low, self._high = np.minimum(self._low, vector), np.maximum(self._high, vector)
        self._sum, self._squares = self._sum + vector, self._squares + vector**2
        self._count += 1

    def result(self) -> dict[str, list]:
        """Return min, max, mean, std and count as lists."""
        mean = self._sum / self._count
        spread = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0.0))
        return {
            "min": self._low.tolist(),
            "max": self._high.tolist(),
            "mean": mean.tolist(),
            "std": spread.tolist(),
            "count": [self._count],
        }


class ImageStatistics:
    """Statistics of each channel over some images, in 0..1."""

    def __init__(self) -> None:
        self._low, self._high = np.ones(3), np.zeros(3)
        self._means: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []

    def add(self, image: np.ndarray, number: int) -> None:
        """Add uint8 [H, W, 3], the number-th of its episode; most are left out."""
        if number % EVERY:
            return
        pixels = image.reshape(-1, 3) / 255.0
        self._low = np.minimum(self._low, pixels.min(axis=0))
        self._high = np.maximum(self._high, pixels.max(axis=0))
        self._means.append(pixels.mean(axis=0))
        self._squares.append((pixels**2).mean(axis=0))

    def result(self) -> dict[str, list]:
        """Return min, max, mean and std as [3, 1, 1], and the number of images."""
        mean = np.mean(self._means, axis=0)
        spread = np.sqrt(np.maximum(np.mean(self._squares, axis=0) - mean**2, 0.0))
        found = {"min": self._low, "max": self._high, "mean": mean, "std": spread}
        shaped = {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()}
        return {**shaped, "count": [len(self._means)]}
