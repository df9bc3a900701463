"""Pictures as an animation with a slider."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from vla_pruner_ros.report.images import data_uri, encode_jpeg


def animation_slider(
    frames: Sequence[bytes | np.ndarray],
    captions: Sequence[str] | None = None,
    frames_per_second: float = 6.0,
    alt: str = "frame",
) -> str:
    """Return a player of pictures, embedded in the page.

    Args:
        frames: JPEG or PNG bytes, or uint8 [H, W, 3] RGB arrays.
        captions: one line a frame.
        frames_per_second: speed of the player.
        alt: what the pictures show, in words.

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
    # "</" would end the script element that carries the data
    embedded = json.dumps(content).replace("</", "<\\/")
    return (
        f"<div class='slider' data-rate='{frames_per_second:g}'>"
        f"<img src='{addresses[0]}' alt='{escape(alt, quote=True)}'>"
        "<div class='controls'><button type='button'>Play</button>"
        f"<input type='range' min='0' max='{len(frames) - 1}' value='0' aria-label='frame'>"
        f"<output></output></div><p class='caption'>{escape(captions[0])}</p>"
        f"<script type='application/json'>{embedded}</script></div>"
    )
