"""Messages with a time of capture, decoded in one pass over a bag; video frame after frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.reader import BagError, BagMessage, BagReader
from vla_pruner_ros.bags.stamps import nanoseconds
from vla_pruner_ros.replay.inputs.video import VideoStream


class Stamped(NamedTuple):
    """A decoded message. stamp: of its capture (ns). size: bytes it takes in memory."""

    record: BagMessage
    message: Any
    stamp: int
    size: int


def read_stamped(
    reader: BagReader, topics: Collection[str], on_error: Callable[[BagError], None]
) -> Iterator[Stamped]:
    """Yield the messages of some topics as they were received.

    A message without header, for example a std_msgs/String, has the stamp of its receipt.

    Args:
        on_error: called with the reason if a message is left out.
    """
    videos: dict[str, VideoStream] = {}
    for record in reader.messages(topics):
        try:
            message, stamp = decode_stamped(reader, record)
            if record.msgtype not in types.VIDEO:
                yield Stamped(record, message, stamp, len(record.data))
                continue
            if record.topic not in videos:
                videos[record.topic] = VideoStream(record.topic, record.msgtype)
            for frame, taken in videos[record.topic].decode(message, stamp):
                yield Stamped(record, frame, taken, frame.data.nbytes)
        except BagError as error:
            on_error(error)


def decode_stamped(reader: BagReader, record: BagMessage) -> tuple[Any, int]:
    """Decode a message.

    Returns:
        The message and its stamp (ns); the receive time if there is none or it is zero.

    Raises:
        BagError: it cannot be decoded.
    """
    message = reader.decode(record)
    header = getattr(message, "header", None)
    stamp = header.stamp if header is not None else getattr(message, "timestamp", None)
    return message, (nanoseconds(stamp) if stamp is not None else 0) or record.time
