"""Video in bags (ffmpeg_image_transport, Foxglove), decoded with PyAV if it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.reader import BagError

try:
    import av
except ImportError:
    av = None

_CODECS = {"264": "h264", "avc": "h264", "265": "hevc", "hevc": "hevc", "av1": "av1", "vp9": "vp9"}
"""Codec by a part of the name that publishers give, for example libx264, h264_nvenc, hevc."""


@dataclass(frozen=True)
class VideoFrame:
    """A decoded image with the fields of sensor_msgs/Image that a conversion reads."""

    data: np.ndarray
    height: int
    width: int
    step: int
    encoding: str = "rgb8"
    is_bigendian: int = 0


def can_decode(msgtype: str) -> bool:
    """Return whether a type's video can be decoded here."""
    return av is not None and msgtype in types.DECODABLE_VIDEO


class VideoStream:
    """Decoder of one topic; frames must come in their order."""

    def __init__(self, topic: str, msgtype: str) -> None:
        """Open a decoder.

        Raises:
            BagError: the video cannot be decoded here; the message names the missing part.
        """
        self._topic = topic
        self._codec: Any = None
        self._stamps: dict[int, int] = {}
        self._count = 0
        if not can_decode(msgtype):
            raise BagError(why_not(topic, msgtype))

    def decode(self, message: Any, stamp: int) -> Iterator[tuple[VideoFrame, int]]:
        """Yield the frames that a packet completes, with their stamps (ns).

        Raises:
            BagError: the codec is unknown, the packet is damaged, or no key frame came before it.
        """
        if self._codec is None:
            self._codec = self._open(str(getattr(message, "encoding", "") or message.format))
        packet = av.Packet(bytes(message.data))
        packet.pts = packet.dts = self._count
        self._stamps[self._count] = stamp
        self._count += 1
        try:
            frames = self._codec.decode(packet)
        except av.FFmpegError as error:
            raise BagError(f"a video packet on {self._topic} cannot be decoded: {error}") from None
        if not frames and self._count == 1:
            raise BagError(f"the video on {self._topic} begins without a key frame")
        for frame in frames:
            rgb = frame.to_ndarray(format="rgb24")
            taken = self._stamps.pop(frame.pts, stamp)
            yield VideoFrame(rgb.reshape(-1), rgb.shape[0], rgb.shape[1], rgb.shape[1] * 3), taken

    def _open(self, name: str) -> Any:
        codec = next((codec for part, codec in _CODECS.items() if part in name.lower()), None)
        if codec is None:
            raise BagError(
                f"the video on {self._topic} is {name!r}; H.264, H.265, VP9 and AV1 can be decoded"
            )
        context = av.CodecContext.create(codec, "r")
        context.thread_count = 1  # threads would hold frames back
        context.flags |= av.codec.context.Flags.low_delay
        return context


def why_not(topic: str, msgtype: str) -> str:
    """Return a sentence about video that cannot be decoded here."""
    kind = f"{topic} is {types.VIDEO[msgtype]} ({msgtype})"
    if msgtype in types.DECODABLE_VIDEO:
        return f"{kind}; to decode it, install PyAV: pip install av"
    return f"{kind}, which is not read: record the camera's raw or compressed topic"
