"""Planar YUV encodings of sensor_msgs/Image: luma rows first, then rows of colour differences.

`height` is that of the image. Drivers that count the rows of all planes as `height` are also
supported, because only one of the two fits the amount of data.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from vla_pruner_ros.conversions.raw_pixels import yuv_to_rgb

Planes = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""Colour rows uint8 [rows, step], image height and width -> U and V, uint8 [rows of U, W / 2]."""


def planar_to_rgb(message: Any) -> np.ndarray:
    """Convert an Image message in one of ENCODINGS.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ValueError: too little data, or an odd width or height.
    """
    rows_of_colour, planes = ENCODINGS[str(message.encoding)]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if height <= 0 or width <= 0:
        raise ValueError(f"the image is empty ({width}x{height})")
    if step < width:
        raise ValueError(f"step {step} is too small for {width} pixels of {message.encoding}")
    total = 1 + rows_of_colour
    if data.size == height * step and height % total.numerator == 0:
        height = int(height / total)
    needed = int(height * total) * step
    if needed - (step - width) <= data.size < needed:  # the last row may lack its padding
        data = np.pad(data, (0, needed - data.size))
    if data.size < needed:
        raise ValueError(
            f"the image data is truncated: {width}x{height} {message.encoding} with step {step} "
            f"needs {needed} bytes, got {data.size}"
        )
    if width % 2 or height % 2 or step % 2:
        raise ValueError(f"{message.encoding} needs even width, height and step: {width}x{height}")
    rows = data[:needed].reshape(-1, step)
    u, v = planes(rows[height:], height, width)
    if len(u) < height:  # a row of colour serves two rows of luma
        u, v = u.repeat(2, axis=0), v.repeat(2, axis=0)
    return yuv_to_rgb(rows[:height, :width], u, v)


def _nv12(rows: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[:, 0:width:2], rows[:, 1:width:2]


def _nv21(rows: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[:, 1:width:2], rows[:, 0:width:2]


def _i420(rows: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    half = rows.reshape(height, -1)[:, : width // 2]  # U rows, then V rows, of half the step
    return half[: height // 2], half[height // 2 :]


_HALF = Fraction(1, 2)
ENCODINGS: dict[str, tuple[Fraction, Planes]] = {
    "nv12": (_HALF, _nv12),
    "nv21": (_HALF, _nv21),
    "i420": (_HALF, _i420),
    "yuv420": (_HALF, _i420),
}
"""Rows of colour differences for each row of luma, and how they hold U and V."""
