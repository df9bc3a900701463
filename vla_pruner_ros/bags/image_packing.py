"""Compression of sensor_msgs/Image to sensor_msgs/CompressedImage, both serialized."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.conversions.images import to_rgb

PNG_LEVEL = 1
"""Level 1 is several times faster than the default and costs a tenth in size."""


def pack_image(store: Typestore, data: bytes, kind: str, jpeg_quality: int = 90) -> bytes:
    """Compress an image message.

    Args:
        store: knows both types.
        data: CDR bytes of a sensor_msgs/Image.
        kind: png (exact) or jpeg.

    Returns:
        CDR bytes of a sensor_msgs/CompressedImage with the same header; `format` is written as
        compressed_image_transport does.

    Raises:
        ValueError: the image cannot be converted, or the kind is unknown.
    """
    if kind not in ("png", "jpeg"):
        raise ValueError(f"image compression must be png or jpeg, got {kind!r}")
    message = store.deserialize_cdr(data, types.IMAGE)
    options = {"compress_level": PNG_LEVEL} if kind == "png" else {"quality": jpeg_quality}
    buffer = io.BytesIO()
    PillowImage.fromarray(to_rgb(message)).save(buffer, kind, **options)
    packed = store.types[types.COMPRESSED_IMAGE](
        header=message.header,
        format=f"{message.encoding}; {kind} compressed bgr8",
        data=np.frombuffer(buffer.getvalue(), np.uint8),
    )
    return bytes(store.serialize_cdr(packed, types.COMPRESSED_IMAGE))
