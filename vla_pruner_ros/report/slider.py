"""Images as an animation with a slider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vla_pruner_ros.report.images import data_uri, encode_jpeg
from vla_pruner_ros.report.rendering import part


def animation_slider(
    frames: Sequence[bytes | np.ndarray],
    captions: Sequence[str] | None = None,
    frames_per_second: float = 6.0,
    alt: str = "frame",
) -> Markup:
    """Return a player of images, embedded in the page.

    Args:
        frames: JPEG or PNG bytes, or uint8 [H, W, 3] RGB arrays.
        captions: one line a frame.
        frames_per_second: speed of the player.
        alt: description of the images.

    Raises:
        ValueError: no frames, or a different number of captions.
    """
    captions = [""] * len(frames) if captions is None else list(captions)
    if not frames or len(captions) != len(frames):
        raise ValueError(f"{len(frames)} frames with {len(captions)} captions cannot be shown")
    addresses = [data_uri(f if isinstance(f, bytes) else encode_jpeg(f)) for f in frames]
    content = [
        {"image": address, "caption": caption}
        for address, caption in zip(addresses, captions, strict=True)
    ]
    return part("slider", content, f"{frames_per_second:g}", alt)
