"""The JPEG round trip that LIBERO's training images went through, to the bit.

Those images were encoded at quality 95 with 4:2:0 chroma and decoded by TensorFlow, whose default
is the fast integer inverse DCT. Pillow decodes with the accurate one, which differs by a level or
more on most pixels, so simplejpeg decodes here: both use libjpeg-turbo.
"""

from __future__ import annotations

import io
from types import ModuleType

import numpy as np
from PIL import Image

from vla_pruner_ros.models.policy import CheckpointError

QUALITY = 95


def jpeg_round_trip(image: np.ndarray) -> np.ndarray:
    """Return an image as encoded and decoded.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        uint8 [H, W, 3].
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return _decoder().decode_jpeg(buffer.getvalue(), colorspace="RGB", fastdct=True)


def require_decoder(image_path: str) -> None:
    """Check that the round trip can be made.

    Raises:
        CheckpointError: the decoder is not installed.
    """
    try:
        _decoder()
    except ImportError:
        raise CheckpointError(
            f"image_path {image_path} needs simplejpeg: pip install simplejpeg"
        ) from None


def _decoder() -> ModuleType:
    import simplejpeg

    return simplejpeg
