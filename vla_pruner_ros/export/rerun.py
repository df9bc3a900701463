"""A bag as a Rerun recording: images, overlays, kept tokens, actions and latency over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_ros.export.inferences import ExportedInference

APPLICATION = "vla_pruner_ros"
QUALITY = 90
"""JPEG quality of the images in the recording."""


def write_rerun(
    inferences: Iterable[ExportedInference], path: Path, action_names: Sequence[str]
) -> int:
    """Write the recording; return its number of inferences.

    Entities: camera/NAME/image, camera/NAME/kept, action/NAME (the first action of a chunk, as the
    policy gave it), state, tokens/kept, tokens/share, latency_ms, instruction.

    Raises:
        ImportError: rerun-sdk is not installed; the sentence gives the remedy.
    """
    rr = _rerun()
    path.parent.mkdir(parents=True, exist_ok=True)
    recording = rr.RecordingStream(APPLICATION)
    recording.save(str(path))
    count, words = 0, None
    for one in inferences:
        recording.set_time("stamp", timestamp=np.datetime64(one.stamp, "ns"))
        recording.set_time("inference", sequence=one.index)
        _log(rr, recording, one, action_names)
        if one.instruction != words:
            words = one.instruction
            recording.log("instruction", rr.TextLog(words))
        count += 1
    recording.flush()
    recording.disconnect()
    return count


def _rerun() -> Any:
    try:
        import rerun
    except ImportError:
        raise ImportError(
            "a Rerun recording needs rerun-sdk, which is not installed: pip install rerun-sdk"
        ) from None
    return rerun


def _log(rr: Any, recording: Any, one: ExportedInference, action_names: Sequence[str]) -> None:
    overlays = one.overlays()
    for topic, image in one.images.items():
        name = f"camera/{topic.strip('/').replace('/', '_')}"
        recording.log(f"{name}/image", rr.Image(image).compress(jpeg_quality=QUALITY))
        if one.kept is not None:
            recording.log(f"{name}/kept", rr.Image(overlays[topic]).compress(jpeg_quality=QUALITY))
    if len(one.actions):
        for name, value in zip(action_names, one.actions[0], strict=True):
            recording.log(f"action/{name}", rr.Scalars(float(value)))
    if one.state:
        recording.log("state", rr.Scalars(list(one.state)))
    if tokens := one.tokens():
        recording.log("tokens/kept", rr.Scalars(float(tokens[0])))
        recording.log("tokens/share", rr.Scalars(tokens[0] / tokens[1]))
    if np.isfinite(one.seconds):
        recording.log("latency_ms", rr.Scalars(1e3 * one.seconds))
