"""A camera's image as the profile defines it: turned, then cropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_pruner_ros.robots.profile import Camera, RobotProfile


def as_seen(
    images: Sequence[np.ndarray | None], profile: RobotProfile | None
) -> list[np.ndarray | None]:
    """Turn and crop one image a camera as the profile defines it.

    Args:
        images: uint8 [H, W, 3] of each camera; None stays None.
        profile: without one, and for cameras that it does not name, images stay as they are.
    """
    cameras = profile.cameras if profile else ()
    known = dict(enumerate(cameras))
    return [
        image if image is None or number not in known else oriented(image, known[number])
        for number, image in enumerate(images)
    ]


def oriented(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Turn and crop an image.

    Args:
        image: uint8 [H, W, 3].

    Returns:
        uint8 [H', W', 3], contiguous; the image itself where nothing changes.
    """
    if camera.rotation == 0 and camera.crop == Camera.crop:
        return image
    if camera.rotation:
        image = np.rot90(image, camera.rotation // 90)
    if camera.crop != Camera.crop:
        height, width = image.shape[:2]
        left, top, right, bottom = camera.crop
        rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
        columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
        image = image[rows, columns]
    return np.ascontiguousarray(image)
