"""Videos with PyAV: H.264 in MP4, written frame after frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_ros.conversions.overlay import mark

CODECS = ("libx264", "libopenh264", "mpeg4")
"""Encoders in order of preference; builds of FFmpeg differ."""
PIXELS = "yuv420p"
MICROSECONDS = Fraction(1, 1_000_000)


class VideoWriter:
    """An MP4 file that frames are added to; use as a context manager."""

    def __init__(self, path: Path, frames_per_second: float, seekable: bool = False) -> None:
        """Open a video.

        Args:
            frames_per_second: of a video without times; with times its nominal rate (Hz).
            seekable: every second frame is a key frame, for readers of single frames.

        Raises:
            ImportError: PyAV is not installed; the sentence gives the remedy.
        """
        self._av = _av()
        self.path, self._seekable = path, seekable
        self._rate = Fraction(frames_per_second).limit_denominator(1000)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream: Any = None
        self.frames = 0
        self.codec = ""

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()

    def add(self, image: np.ndarray, seconds: float | None = None) -> None:
        """Add a frame.

        Args:
            image: uint8 [H, W, 3]; cut to even sides, which the pixel format needs.
            seconds: when it is shown, ascending; None: one period after the frame before.
        """
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if self._stream is None:
            self._open(width, height)
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image[:height, :width]), format="rgb24"
        )
        seconds = self.frames / float(self._rate) if seconds is None else seconds
        frame.time_base, frame.pts = MICROSECONDS, round(seconds * 1e6)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self.frames += 1

    def _open(self, width: int, height: int) -> None:
        self.codec = next(name for name in CODECS if name in self._av.codecs_available)
        self._stream = self._container.add_stream(self.codec, rate=self._rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, PIXELS
        self._stream.codec_context.time_base = MICROSECONDS
        self._stream.codec_context.max_b_frames = 0
        if self._seekable:
            self._stream.codec_context.gop_size = 2
        if self.codec == "libx264":
            self._stream.options = {"crf": "20", "preset": "fast"}


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("videos need PyAV, which is not installed: pip install av") from None
    return av


def side_by_side(images: list[np.ndarray], caption: str) -> np.ndarray:
    """Return images next to each other, with a caption in the corner.

    Args:
        images: uint8 [H, W, 3] each, of any size.
        caption: one line.

    Returns:
        Uint8 [h, w, 3].
    """
    height = max(image.shape[0] for image in images)
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, 0), (0, 0))) for i in images]
    return mark(np.concatenate(padded, axis=1), caption)
