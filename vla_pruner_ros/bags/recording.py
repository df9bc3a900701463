"""A queue and a thread between message callbacks and a bag on disk, without ROS.

Callbacks hand over serialised messages and return at once; nothing is lost without being counted.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from pathlib import Path

from rosbags.interfaces import Qos
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.image_packing import pack_image
from vla_pruner_ros.bags.writer import FLUSH_PERIOD, BagWriter

NOTE_KEY = "vla_pruner_recorder"
"""Key of the recorder's remarks in the bag's custom_data, a JSON object."""
SMALL = 64 << 10
"""Messages below this size (bytes) may use twice the queue, because replay needs them."""


class BagRecording:
    """Recording of queued messages, written from its own thread.

    Attributes:
        dropped: messages by topic that found the queue full.
        unpacked: images by topic that could not be compressed and were written uncompressed.
        failure: reason why writing stopped, None if it did not.
    """

    def __init__(
        self,
        path: Path,
        store: Typestore,
        max_queued_bytes: int = 512 << 20,
        image_compression: str = "none",
        jpeg_quality: int = 90,
        compress: bool = False,
        max_file_bytes: int = 0,
    ) -> None:
        """Create the bag and start the thread.

        Args:
            path: a directory that does not exist yet.
            image_compression: none, png or jpeg; raw images are then written as CompressedImage on
                `<topic>/compressed`. JPEG changes the pixels a little, so a replay is not exact.
            compress: chunks of the bag with zstd.
            max_file_bytes: size after which a new file of the bag is begun, 0 for one file.

        Raises:
            rosbags.rosbag2.WriterError: the path exists. OSError: it cannot be made.
        """
        self._writer = BagWriter(path, store, compress, max_file_bytes)
        self._store = store
        self._image_compression, self._jpeg_quality = image_compression, jpeg_quality
        self._limit, self._queued = max_queued_bytes, 0
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._types: dict[str, str] = {}
        self._profiles: dict[str, Qos | None] = {}
        self._closed = False
        self.dropped: Counter[str] = Counter()
        self.unpacked: Counter[str] = Counter()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="bag writer")
        self._thread.start()

    @property
    def path(self) -> Path:
        """Directory of the bag."""
        return self._writer.path

    @property
    def counts(self) -> dict[str, int]:
        """Messages written so far by topic."""
        return self._writer.counts

    def knows(self, topic: str) -> bool:
        """Return True if the topic was announced."""
        return topic in self._types

    def add_topic(self, topic: str, msgtype: str, profile: Qos | None = None) -> None:
        """Announce a topic and the QoS its publisher offers."""
        self._types[topic] = msgtype
        self._profiles[topic] = profile

    def put(self, topic: str, time: int, data: bytes) -> bool:
        """Queue CDR bytes received at `time` (ns) on an announced topic.

        Returns:
            False if the message was dropped, and counted, because the disk does not keep up.
        """
        with self._lock:
            if self._closed:
                return False
            limit = self._limit if len(data) > SMALL else 2 * self._limit
            if self.failure is not None or self._queued + len(data) > limit:
                self.dropped[topic] += 1
                return False
            self._queued += len(data)
            self._queue.put((topic, time, data))
        return True

    def close(self, **remarks: object) -> dict[str, int]:
        """Write the queue, then index and metadata; further messages are refused.

        If the disk fails now, `failure` holds the reason.

        Args:
            remarks: stored in the bag's custom_data next to the counts of dropped messages.

        Returns:
            Messages written by topic.
        """
        with self._lock:
            if self._closed:
                return self._writer.counts
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        notes = {
            "image_compression": self._image_compression,
            "dropped": dict(self.dropped),
            "unpacked": dict(self.unpacked),
            **remarks,
        }
        counts = self._writer.counts
        self._writer.note(NOTE_KEY, json.dumps(notes))
        try:
            self._writer.close()
        except OSError as error:
            self.failure = self.failure or error
        return counts

    def _run(self) -> None:
        while (message := self._next()) is not None:
            topic, time, data = message
            with self._lock:
                self._queued -= len(data)
            try:
                if self.failure is None:
                    self._write(topic, time, data)
                    self._writer.flush()
                    continue
            except Exception as error:  # a full disk must be reported, not end the thread silently
                self.failure = error
            self.dropped[topic] += 1

    def _next(self) -> tuple[str, int, bytes] | None:
        """Return the next message; in a pause, what was written goes to the disk."""
        while True:
            try:
                return self._queue.get(timeout=FLUSH_PERIOD)
            except queue.Empty:
                self._flush()

    def _flush(self) -> None:
        try:
            if self.failure is None:
                self._writer.flush()
        except Exception as error:
            self.failure = error

    def _write(self, topic: str, time: int, data: bytes) -> None:
        msgtype, profile = self._types[topic], self._profiles[topic]
        if msgtype == types.IMAGE and self._image_compression != "none":
            topic, msgtype, data = self._packed(topic, data)
        self._writer.add_topic(topic, msgtype, profile)
        self._writer.write(topic, time, data)

    def _packed(self, topic: str, data: bytes) -> tuple[str, str, bytes]:
        try:
            packed = pack_image(self._store, data, self._image_compression, self._jpeg_quality)
        except Exception:  # store any image uncompressed rather than lose it
            self.unpacked[topic] += 1
            return topic, types.IMAGE, data
        return f"{topic}/compressed", types.COMPRESSED_IMAGE, packed


def recorder_remarks(custom_data: dict[str, str]) -> list[str]:
    """Return the recorder's notes in a bag that matter for a replay."""
    try:
        notes = json.loads(custom_data.get(NOTE_KEY, "{}"))
    except ValueError:
        return ["the recorder's notes in the bag are not readable"]
    remarks = [
        f"the recorder {text} {count} messages on {topic}"
        for key, text in (("dropped", "dropped"), ("lost", "never received"))
        for topic, count in dict(notes.get(key) or {}).items()
    ]
    if notes.get("image_compression") == "jpeg":
        remarks.append("the images were recorded as JPEG: the replay sees slightly other pixels")
    return remarks
