"""Images as bytes to embed in a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image as PillowImage


def encode_jpeg(image_rgb: np.ndarray, quality: int = 82) -> bytes:
    """Encode uint8 [H, W, 3] RGB as JPEG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image_rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_uri(image: bytes) -> str:
    """Return JPEG or PNG bytes as a data: address.

    Raises:
        ValueError: the bytes are neither.
    """
    if image.startswith(b"\xff\xd8"):
        kind = "jpeg"
    elif image.startswith(b"\x89PNG"):
        kind = "png"
    else:
        raise ValueError("the image is neither JPEG nor PNG")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
