"""Images of chosen inputs, fetched in one more pass over the bag."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.conversions.overlay import draw_kept, shrink
from vla_pruner_ros.replay.inputs.recorded import Kept
from vla_pruner_ros.replay.inputs.sample import ReplayInput

MAX_SIDE = 320
"""Longer side of an image in the report (px), per camera."""


def collect(inputs: Iterable[ReplayInput], indices: Collection[int]) -> dict[int, list[np.ndarray]]:
    """Return the small images, uint8 [h, w, 3], a list for each input with these indices."""
    found: dict[int, list[np.ndarray]] = {}
    last = max(indices, default=-1)
    for replay_input in inputs:
        if replay_input.index in indices and not replay_input.problem:
            with suppress(ValueError):  # the replay has reported it
                found[replay_input.index] = [_small(message) for message in replay_input.images]
        if replay_input.index >= last:
            break
    return found


def _small(message: Any) -> np.ndarray:
    """Return a small RGB image; a missing camera is black."""
    if message is None:
        return np.zeros((MAX_SIDE, MAX_SIDE, 3), np.uint8)
    return shrink(to_rgb(message), MAX_SIDE).copy()


def side_by_side(images: list[np.ndarray], kept: Kept | None) -> np.ndarray:
    """Return the cameras side by side, pruned patches dimmed if they are known.

    Args:
        images: uint8 [h, w, 3], one per camera.
        kept: tokens of each camera, or None.

    Returns:
        Uint8 [h, w, 3].
    """
    if kept is not None and len(kept.indices) == len(images) and min(kept.grid) > 0:
        pairs = zip(images, kept.indices, strict=True)
        images = [draw_kept(image, indices, kept.grid) for image, indices in pairs]
    height = max(image.shape[0] for image in images)
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, 0), (0, 0))) for i in images]
    return np.concatenate(padded, axis=1)


def evenly(indices: list[int], count: int) -> list[int]:
    """Pick about `count` of the indices, first and last among them."""
    if len(indices) <= count:
        return indices
    places = np.linspace(0, len(indices) - 1, count).round().astype(int)
    return [indices[place] for place in dict.fromkeys(places.tolist())]
