"""Lanczos resize and centre crop as TensorFlow computes them, in which OpenVLA-OFT was trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LANCZOS_RADIUS = 3
BLOCK = 32
"""Output rows per matrix product: the weights of a block touch a short stretch of the input."""


def resize_lanczos(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [size, size, 3], Lanczos3 with antialias, rounded once.

    tf.image.resize(method="lanczos3", antialias=True) then round: equal but for a level on about
    0.01 % of the values.
    """
    height, width, channels = image.shape
    rows = _apply(_lanczos_blocks(height, size), image.reshape(height, width * channels))
    columns = np.ascontiguousarray(rows.reshape(size, width, channels).transpose(1, 0, 2))
    mixed = _apply(_lanczos_blocks(width, size), columns.reshape(width, size * channels))
    resized = mixed.reshape(size, size, channels).transpose(1, 0, 2)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Block:
    """Weights [outputs, inputs] of consecutive output rows over input rows start .. stop - 1."""

    start: int
    stop: int
    weights: np.ndarray


def _apply(blocks: tuple[_Block, ...], rows: np.ndarray) -> np.ndarray:
    """Mix rows [n, m] into float32 [outputs, m]."""
    return np.concatenate(
        [block.weights @ rows[block.start : block.stop].astype(np.float32) for block in blocks]
    )


@lru_cache(maxsize=16)
def _lanczos_blocks(old: int, new: int) -> tuple[_Block, ...]:
    weights = lanczos_weights(old, new)
    blocks = []
    for first in range(0, new, BLOCK):
        part = weights[first : first + BLOCK]
        used = np.flatnonzero(part.any(axis=0))
        start, stop = int(used[0]), int(used[-1]) + 1
        blocks.append(_Block(start, stop, np.ascontiguousarray(part[:, start:stop])))
    return tuple(blocks)


def lanczos_weights(old: int, new: int) -> np.ndarray:
    """float32 [new, old]: half-pixel centres, widened when shrinking, each row sums to 1."""
    scale = np.float32(old) / np.float32(new)
    widening = max(float(scale), 1.0)
    centres = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale
    inputs = np.arange(old, dtype=np.float32) + np.float32(0.5)
    distance = np.abs(inputs[None] - centres[:, None]) / np.float32(widening)
    kernel = np.sinc(distance) * np.sinc(distance / LANCZOS_RADIUS)
    kernel = np.where(distance < LANCZOS_RADIUS, kernel, 0.0)
    return (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)


def crop_center(image: np.ndarray, area: float) -> np.ndarray:
    """Cut out the middle `area` of uint8 [S, S, 3] and scale it back to S, bilinear.

    tf.image.crop_and_resize on values in 0..1, then convert_image_dtype: equal to the bit.
    """
    low, high, weight = crop_samples(image.shape[0], area)
    values = image.astype(np.float32) * np.float32(1.0 / 255.0)
    across = _blend(values[:, low], values[:, high], weight[None, :, None])
    mixed = _blend(across[low], across[high], weight[:, None, None])
    return (np.clip(mixed, 0.0, 1.0) * np.float32(255.5)).astype(np.uint8)


def _blend(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    second -= first
    second *= weight
    second += first
    return second


@lru_cache(maxsize=4)
def crop_samples(size: int, area: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the rows of a crop come from.

    Returns:
        Three arrays [size]: the input rows below and above each output row's sample, and the weight
        between them.
    """
    side = np.sqrt(np.float32(area))
    begin = (np.float32(1.0) - side) / np.float32(2.0)
    end = begin + side
    last = np.float32(size - 1)
    step = (end - begin) * last / last
    positions = begin * last + np.arange(size, dtype=np.float32) * step
    low = np.floor(positions)
    return low.astype(np.intp), np.ceil(positions).astype(np.intp), positions - low
