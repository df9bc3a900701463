"""Packed pixel layouts of sensor_msgs/Image encodings and their conversion to RGB, in numpy.

Planar ones (nv12, ...) are in planar_pixels.py.

Names as in sensor_msgs/image_encodings.hpp. 8UC3 and 8UC4 carry no colour order; they are read as
BGR(A), which is what OpenCV drivers put there and cv_bridge assumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NOT_COLOUR = frozenset({"16UC1", "16SC1", "32FC1", "32SC1", "64FC1"})
"""Encodings of depth images: scaling them to grey would invent an image."""


@dataclass(frozen=True)
class Layout:
    """Samples of one pixel.

    channels: samples a pixel (4:2:2 YUV has two: luma and one of the colour differences).
    samples: bits a sample.
    to_rgb: uint8 [H, W(, channels)] -> uint8 [H, W, 3].
    """

    channels: int
    samples: int
    to_rgb: Callable[[np.ndarray], np.ndarray]


def rgb_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Keep RGB, drop a fourth channel: [H, W, 3 or 4] -> [H, W, 3]."""
    return pixels if pixels.shape[2] == 3 else _gather(pixels, (0, 1, 2))


def bgr_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Swap red and blue, drop a fourth channel: [H, W, 3 or 4] -> [H, W, 3]."""
    return _gather(pixels, (2, 1, 0))


def _gather(pixels: np.ndarray, channels: tuple[int, int, int]) -> np.ndarray:
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for to, channel in enumerate(channels):  # three strided copies beat one reversed or cut view
        rgb[..., to] = pixels[..., channel]
    return rgb


def grey_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Repeat one channel three times: [H, W, 1] -> [H, W, 3]."""
    return _gather(pixels[..., None], (0, 0, 0))


def uyvy_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Unpack U Y V Y (4:2:2): uint8 [H, W, 2] -> [H, W, 3]."""
    return _yuv422_to_rgb(luma=pixels[..., 1], chroma=pixels[..., 0])


def yuyv_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Unpack Y U Y V (4:2:2): uint8 [H, W, 2] -> [H, W, 3]."""
    return _yuv422_to_rgb(luma=pixels[..., 0], chroma=pixels[..., 1])


def _yuv422_to_rgb(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Convert limited-range BT.601, the convention of V4L2 cameras and of OpenCV.

    luma, chroma: uint8 [H, W]; chroma alternates U, V along a row, shared by a pair of pixels.
    """
    if luma.shape[1] % 2:
        raise ValueError(f"a 4:2:2 image needs an even width, got {luma.shape[1]}")
    return yuv_to_rgb(luma, chroma[:, 0::2], chroma[:, 1::2])


def yuv_to_rgb(luma: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Convert limited-range BT.601 with one U and V for each pair of pixels in a row.

    Args:
        luma: uint8 [H, W]. u, v: uint8 [H, W / 2].

    Returns:
        uint8 [H, W, 3].
    """
    y = _LUMA[luma]
    rgb = np.empty((*luma.shape, 3), np.uint8)
    for channel, offset in enumerate((_RED_V[v], _GREEN_U[u] + _GREEN_V[v], _BLUE_U[u])):
        for column in (0, 1):
            value = (y[:, column::2] + offset) >> _SHIFT
            rgb[:, column::2, channel] = np.clip(value, 0, 255, out=value)
    return rgb


_SHIFT = 16  # fixed point: tables of 256 entries are several times faster than float arithmetic
_HALF = 1 << (_SHIFT - 1)


def _table(factor: float, offset: int, lowest: int = -256) -> np.ndarray:
    """factor * max(value - offset, lowest) for every uint8 value, in fixed point."""
    values = np.maximum(np.arange(256) - offset, lowest)
    return np.rint(factor * values * (1 << _SHIFT)).astype(np.int32)


_LUMA = _table(1.164, 16, lowest=0) + np.int32(_HALF)  # the half rounds the sum
_RED_V, _GREEN_V = _table(1.596, 128), _table(-0.813, 128)
_GREEN_U, _BLUE_U = _table(-0.391, 128), _table(2.018, 128)


def _bayer(red_row: int, red_column: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the bilinear demosaicing for a mosaic whose first red pixel lies there (0 or 1)."""

    def to_rgb(mosaic: np.ndarray) -> np.ndarray:
        height, width = mosaic.shape
        if height < 2 or width < 2:
            raise ValueError(f"a Bayer image needs at least 2x2 pixels, got {width}x{height}")
        padded = np.pad(mosaic, 1, mode="reflect").astype(np.uint16)
        sides = padded[1:-1, :-2] + padded[1:-1, 2:]
        above_below = padded[:-2, 1:-1] + padded[2:, 1:-1]
        corners = padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]
        horizontal, vertical = (sides + 1) // 2, (above_below + 1) // 2
        cross, diagonal = (sides + above_below + 2) // 4, (corners + 2) // 4

        rgb = np.empty((height, width, 3), np.uint8)
        even, odd = slice(None, None, 2), slice(1, None, 2)
        rows, columns = (even, odd), (even, odd)
        red = (rows[red_row], columns[red_column])
        blue = (rows[1 - red_row], columns[1 - red_column])
        green_in_red_row = (rows[red_row], columns[1 - red_column])
        green_in_blue_row = (rows[1 - red_row], columns[red_column])
        for place, values in (
            (red, (mosaic, cross, diagonal)),
            (blue, (diagonal, cross, mosaic)),
            (green_in_red_row, (horizontal, mosaic, vertical)),
            (green_in_blue_row, (vertical, mosaic, horizontal)),
        ):
            for channel, value in enumerate(values):
                rgb[(*place, channel)] = value[place]
        return rgb

    return to_rgb


LAYOUTS: dict[str, Layout] = {
    "rgb8": Layout(3, 8, rgb_to_rgb),
    "rgba8": Layout(4, 8, rgb_to_rgb),
    "bgr8": Layout(3, 8, bgr_to_rgb),
    "bgra8": Layout(4, 8, bgr_to_rgb),
    "8UC3": Layout(3, 8, bgr_to_rgb),
    "8UC4": Layout(4, 8, bgr_to_rgb),
    "mono8": Layout(1, 8, grey_to_rgb),
    "8UC1": Layout(1, 8, grey_to_rgb),
    "mono16": Layout(1, 16, grey_to_rgb),
    "rgb16": Layout(3, 16, rgb_to_rgb),
    "bgr16": Layout(3, 16, bgr_to_rgb),
    "rgba16": Layout(4, 16, rgb_to_rgb),
    "bgra16": Layout(4, 16, bgr_to_rgb),
    "uyvy": Layout(2, 8, uyvy_to_rgb),
    "yuv422": Layout(2, 8, uyvy_to_rgb),
    "yuyv": Layout(2, 8, yuyv_to_rgb),
    "yuv422_yuy2": Layout(2, 8, yuyv_to_rgb),
}
for _name, _first_red in {"rggb": (0, 0), "bggr": (1, 1), "gbrg": (1, 0), "grbg": (0, 1)}.items():
    for _bits in (8, 16):  # 16 bits are scaled to 8 first
        LAYOUTS[f"bayer_{_name}{_bits}"] = Layout(1, _bits, _bayer(*_first_red))
