"""Image messages to RGB arrays: the one conversion that the node and the offline replay share.

Nothing here imports rclpy. A message is anything with the fields of sensor_msgs/Image
(`encoding`, `height`, `width`, `step`, `is_bigendian`, `data`) or of sensor_msgs/CompressedImage
(`format`, `data`). So both the messages of rclpy and those of the rosbags package are taken.

The common encodings are converted here, in numpy, so that the pixels are the same on the robot and
at the desk; cv_bridge converts only encodings unknown here, if it is installed.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from vla_pruner_ros.conversions import jpeg, planar_pixels, raw_pixels

MAX_PIXELS = 64_000_000
"""Largest compressed image (pixels); a bigger one is refused as a decompression bomb."""

_COMPRESSED_FORMATS = ("JPEG", "PNG")
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    PillowImage.DecompressionBombError,
)


def to_rgb(message: Any) -> np.ndarray:
    """Convert an Image or CompressedImage message.

    Returns:
        uint8 [height, width, 3], RGB. For rgb8 without row padding it is a view of the message's
        own data (no copy), possibly read-only.

    Raises:
        ValueError: unsupported encoding, empty or truncated data, a step too small for the width,
            or a compressed image that cannot be unpacked; the error names the reason.
    """
    if hasattr(message, "encoding"):
        return _raw_to_rgb(message)
    if hasattr(message, "format"):
        return _compressed_to_rgb(message)
    raise ValueError(
        f"{type(message).__name__} is not an image message; "
        "expected sensor_msgs/Image or sensor_msgs/CompressedImage"
    )


def _raw_to_rgb(message: Any) -> np.ndarray:
    encoding = str(message.encoding)
    if encoding in planar_pixels.ENCODINGS:
        return planar_pixels.planar_to_rgb(message)
    layout = raw_pixels.LAYOUTS.get(encoding)
    if layout is None:
        return _convert_with_cv_bridge(message, encoding)
    pixels = _rows(message, layout)
    if layout.samples == 16:
        pixels = _to_8_bits(pixels, bool(getattr(message, "is_bigendian", False)))
    return layout.to_rgb(pixels)


def _rows(message: Any, layout: raw_pixels.Layout) -> np.ndarray:
    """View the message's data as [height, width, channels] (or [height, width] for one channel)."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height <= 0 or width <= 0:
        raise ValueError(f"the image is empty ({width}x{height})")
    row_bytes = width * layout.channels * layout.samples // 8
    if step < row_bytes:
        raise ValueError(
            f"step {step} is too small: {width} pixels of {message.encoding} need {row_bytes} bytes"
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    needed = (height - 1) * step + row_bytes
    if data.size < needed:
        raise ValueError(
            f"the image data is truncated: {width}x{height} {message.encoding} with step {step} "
            f"needs {needed} bytes, got {data.size}"
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1))
    if layout.samples == 16:
        rows = np.ascontiguousarray(rows).view(np.uint16)
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    return rows.reshape(shape)


def _to_8_bits(pixels: np.ndarray, big_endian: bool) -> np.ndarray:
    """Scale uint16 samples by 255/65535, rounding, as cv_bridge does."""
    values = pixels.view(">u2" if big_endian else "<u2").astype(np.uint32)
    return ((values + 128) // 257).astype(np.uint8)


def _compressed_to_rgb(message: Any) -> np.ndarray:
    kind = str(message.format)
    if "compresseddepth" in kind.lower():
        raise ValueError(f"compressed format {kind!r} holds depth; a colour image is needed")
    data = bytes(message.data)
    if not data:
        raise ValueError(f"the compressed image ({kind!r}) is empty")
    try:
        if data.startswith(jpeg.MAGIC):
            _check_size(*jpeg.jpeg_size(data))
            return jpeg.decode_jpeg(data)
        with PillowImage.open(io.BytesIO(data), formats=_COMPRESSED_FORMATS) as image:
            return _decode(image)
    except PillowImage.UnidentifiedImageError:
        raise ValueError(f"compressed format {kind!r} holds neither JPEG nor PNG data") from None
    except _DECODE_ERRORS as error:
        raise ValueError(f"the compressed image ({kind!r}) cannot be unpacked: {error}") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{width}x{height} pixels are over the limit of {MAX_PIXELS // 1_000_000} megapixels"
        )


def _decode(image: PillowImage.Image) -> np.ndarray:
    _check_size(*image.size)
    if image.mode.startswith("I"):  # 16-bit grey PNG
        values = np.asarray(image).astype(np.uint32)
        return raw_pixels.grey_to_rgb(((values + 128) // 257).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def _convert_with_cv_bridge(message: Any, encoding: str) -> np.ndarray:
    bridge = _cv_bridge()
    if bridge is None or encoding in raw_pixels.NOT_COLOUR:
        raise ValueError(_unsupported(encoding))
    try:
        return np.asarray(bridge(message))
    except Exception as error:  # CvBridgeError is not importable everywhere
        raise ValueError(f"{_unsupported(encoding)} (cv_bridge: {error})") from None


def _cv_bridge() -> Callable[[Any], np.ndarray] | None:
    """Return cv_bridge's conversion to rgb8, or None where it is missing or broken.

    The binary of a distribution is built against numpy 1 and fails to import under numpy 2 with
    anything from ImportError to AttributeError.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
    except Exception:
        return None
    return lambda message: bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")


def _unsupported(encoding: str) -> str:
    if encoding in raw_pixels.NOT_COLOUR:
        return f"image encoding {encoding!r} holds depth or raw values; a colour image is needed"
    supported = ", ".join(sorted([*raw_pixels.LAYOUTS, *planar_pixels.ENCODINGS]))
    return f"image encoding {encoding!r} is not supported; use one of {supported}"
