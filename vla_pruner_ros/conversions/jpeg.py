"""Decoding of JPEG images; damaged ones are refused.

A half image that was filled up looks complete to a policy. Pillow passes such data on, because it
drops libjpeg's warnings; simplejpeg (libjpeg-turbo as well, equal to the bit) reports them.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image as PillowImage

try:
    import simplejpeg
except ImportError:  # then only damage that Pillow refuses is noticed
    simplejpeg = None

MAGIC = b"\xff\xd8\xff"

_END = b"\xff\xd9"
_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a JPEG image.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ValueError, OSError: it is damaged, cut off or no JPEG.
    """
    if simplejpeg is None or simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
        with PillowImage.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        padding = _PADDING.search(str(error))
        if padding is None:
            raise
        return simplejpeg.decode_jpeg(_without(data, int(padding[1])), "RGB", strict=True)


def _without(data: bytes, padding: int) -> bytes:
    """Drop bytes that a driver put before the end marker; other damage shows without them."""
    end = data.rindex(_END)
    return data[: end - padding] + _END


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) without decoding; errors as of decode_jpeg()."""
    if simplejpeg is not None:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        return width, height
    with PillowImage.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return image.size
