"""The families' image resizing where the model runs, from the raw frame: Pillow's bicubic filter,
TensorFlow's Lanczos and crop, and padding, on tensors uint8 [H, W, 3].

Each function is the twin of a host function (named there) and shares its weights or its arithmetic.
A filter touches few inputs per output, so a pass gathers those and sums: no matrix product, hence
no dependence on its precision settings. Tables are made once per size and stay on the device.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla_pruner_ros.models.images.tensorflow_resize import crop_samples, lanczos_weights

FIXED_POINT = 22
"""Bits behind the point of Pillow's filter weights for 8-bit images."""
ORDERS = ((0, 1), (1, 0))
ORDER_PROBES = 8
"""Pairs of images that are tried before both orders count as the same."""


def resize_bicubic(image: Tensor, height: int, width: int) -> Tensor:
    """Resize as Pillow's BICUBIC does, equal to the pixel: uint8 [H, W, 3] -> [height, width, 3].

    Integers, rounded to 8 bits after each pass.
    """
    order = _pillow_order(*image.shape[:2], height, width)
    return _pillow_passes(image, (height, width), order)


@lru_cache(maxsize=32)
def _pillow_order(height: int, width: int, new_height: int, new_width: int) -> tuple[int, ...]:
    """Along which dimension Pillow mixes first.

    It depends on its version and the sizes; where the rounding between the passes differs it shows.
    So the installed one is asked, once for each size, with noise until the two orders disagree.
    """
    random, size = np.random.default_rng(0), (new_height, new_width)
    for contrast in (True, False) * ORDER_PROBES:
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = (image >> 7) * 255 if contrast else image
        rows, columns = (_pillow_passes(torch.from_numpy(image), size, o) for o in ORDERS)
        if not torch.equal(rows, columns):
            expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
            return ORDERS[0] if np.array_equal(rows.numpy(), np.asarray(expected)) else ORDERS[1]
    return ORDERS[0]


def _pillow_passes(image: Tensor, size: tuple[int, int], order: tuple[int, ...]) -> Tensor:
    for dim in order:
        if image.shape[dim] != size[dim]:
            image = _pillow_pass(image, size[dim], dim)
    return image


def _pillow_pass(image: Tensor, new: int, dim: int) -> Tensor:
    inputs, weights = _pillow_taps(image.shape[dim], new, image.device)
    total = _weighted_sum(image.to(torch.int32), inputs, weights, dim)
    rounded = (total + (1 << (FIXED_POINT - 1))) >> FIXED_POINT
    return rounded.clamp_(0, 255).to(torch.uint8)


def resize_lanczos(image: Tensor, size: int) -> Tensor:
    """Resize as tensorflow_resize.resize_lanczos does: uint8 [H, W, 3] -> [size, size, 3].

    Equal but for a level where the sum lies between two levels.
    """
    values = image.to(torch.float32)
    for dim in (0, 1):
        inputs, weights = _lanczos_taps(values.shape[dim], size, image.device)
        values = _weighted_sum(values, inputs, weights, dim)
    return values.round_().clamp_(0, 255).to(torch.uint8)


def crop_center(image: Tensor, area: float) -> Tensor:
    """Crop as tensorflow_resize.crop_center does: uint8 [S, S, 3] -> [S, S, 3]."""
    low, high, weight = _crop_tables(image.shape[0], area, image.device)
    values = image.to(torch.float32) * np.float32(1.0 / 255.0).item()
    for dim, shape in ((1, (1, -1, 1)), (0, (-1, 1, 1))):
        first, second = values.index_select(dim, low), values.index_select(dim, high)
        values = (second - first) * weight.view(shape) + first
    return (values.clamp_(0.0, 1.0) * 255.5).to(torch.uint8)


def _weighted_sum(values: Tensor, inputs: Tensor, weights: Tensor, dim: int) -> Tensor:
    """One pass along dim 0 or 1 of [H, W, 3]. inputs, weights: [outputs, taps]."""
    outputs, taps = inputs.shape
    gathered = values.index_select(dim, inputs.flatten()).unflatten(dim, (outputs, taps))
    shape = [1] * gathered.ndim
    shape[dim : dim + 2] = [outputs, taps]
    return (gathered * weights.view(shape)).sum(dim=dim + 1, dtype=values.dtype)


@lru_cache(maxsize=32)
def _pillow_taps(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return _taps(bicubic_weights(old, new), device)


@lru_cache(maxsize=32)
def _lanczos_taps(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return _taps(lanczos_weights(old, new), device)


def _taps(weights: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the inputs each output of a banded matrix [outputs, inputs] needs, and their
    weights.
    """
    used = weights != 0
    first = used.argmax(axis=1)
    last = weights.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    inputs = first[:, None] + np.arange((last - first).max() + 1)
    inputs = np.minimum(inputs, weights.shape[1] - 1)
    values = np.take_along_axis(weights, inputs, axis=1)
    values[inputs - first[:, None] != np.arange(inputs.shape[1])] = 0  # behind the last input
    return torch.from_numpy(inputs).to(device), torch.from_numpy(values).to(device)


def bicubic_weights(old: int, new: int) -> np.ndarray:
    """int32 [new, old]: Pillow's weights in fixed point, a = -0.5, widened when shrinking."""
    scale = old / new
    widening = max(scale, 1.0)
    support = 2.0 * widening
    centres = (np.arange(new) + 0.5) * scale
    low = np.maximum(np.trunc(centres - support + 0.5), 0)[:, None]
    high = np.minimum(np.trunc(centres + support + 0.5), old)[:, None]
    inputs = np.arange(old)
    # In Pillow's order of operations, for the last bit decides how a weight is rounded.
    distance = np.abs(((inputs - low) + low - centres[:, None] + 0.5) * (1.0 / widening))
    near = ((1.5 * distance - 2.5) * distance) * distance + 1.0
    far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5
    kernel = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    kernel = np.where((inputs >= low) & (inputs < high), kernel, 0.0)
    kernel = kernel * (1.0 / _sum_in_order(kernel))[:, None]
    fixed = kernel * (1 << FIXED_POINT)
    return np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int32)


def _sum_in_order(kernel: np.ndarray) -> np.ndarray:
    """Row sums from left to right, without numpy's pairwise rounding."""
    return np.cumsum(kernel, axis=1)[:, -1]


@lru_cache(maxsize=8)
def _crop_tables(size: int, area: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    low, high, weight = (torch.from_numpy(table).to(device) for table in crop_samples(size, area))
    return low, high, weight
