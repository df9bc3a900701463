"""Player that shows which patches of an image several settings kept, drawn in the browser."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vla_pruner_ros.report.images import data_uri, encode_jpeg
from vla_pruner_ros.report.rendering import part


@dataclass(frozen=True)
class KeptFrame:
    """Patches of one frame that one setting kept.

    caption: one line. kept: bool [rows, columns] for each image; None if it is not known.
    """

    caption: str
    kept: Sequence[np.ndarray] | None


@dataclass(frozen=True)
class KeptSetting:
    """Setting of the player.

    frames: one for each of the player's; None where the setting has none. shown: at first.
    """

    name: str
    frames: Sequence[KeptFrame | None]
    shown: bool


def kept_player(
    frames: Sequence[Sequence[np.ndarray]],
    captions: Sequence[str],
    settings: Sequence[KeptSetting],
    brightness: float,
    frames_per_second: float = 6.0,
) -> Markup:
    """Return one slider for all settings, with a box each to show or hide it.

    Args:
        frames: of each, its images, uint8 [h, w, 3] RGB; drawn next to each other.
        captions: one line a frame.
        settings: in order.
        brightness: of a patch that was not kept, 0 to 1.
        frames_per_second: speed of the player.

    Raises:
        ValueError: no frames, or a different number of captions or of a setting's frames.
    """
    if not frames or {len(captions), *(len(one.frames) for one in settings)} != {len(frames)}:
        raise ValueError(f"{len(frames)} frames need as many captions and frames of a setting")
    content = {
        "shade": round(1.0 - brightness, 3),
        "frames": [
            {"image": _joined(images), "boxes": _boxes(images), "caption": caption}
            for images, caption in zip(frames, captions, strict=True)
        ],
        "settings": [[_packed(frame) for frame in one.frames] for one in settings],
    }
    return part("kept_player", content, settings, f"{frames_per_second:g}")


def _joined(images: Sequence[np.ndarray]) -> str:
    height = max(image.shape[0] for image in images)
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, 0), (0, 0))) for i in images]
    return data_uri(encode_jpeg(np.concatenate(padded, axis=1)))


def _boxes(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Return left, width and height of each image (px) in the joined one."""
    lefts = np.cumsum([0, *(image.shape[1] for image in images)]).tolist()
    return [
        [left, image.shape[1], image.shape[0]]
        for left, image in zip(lefts[:-1], images, strict=True)
    ]


def _packed(frame: KeptFrame | None) -> dict | None:
    """Return caption, grids and bits of the kept patches, eight a byte, the first one highest."""
    if frame is None:
        return None
    kept = [np.asarray(mask, bool) for mask in frame.kept or ()]
    return {
        "caption": frame.caption,
        "grids": [list(mask.shape) for mask in kept],
        "bits": [base64.b64encode(np.packbits(mask).tobytes()).decode() for mask in kept],
    }
