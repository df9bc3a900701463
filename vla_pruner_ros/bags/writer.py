"""An MCAP bag with its message definitions inside, for ros2 bag, Foxglove and the replay."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Writer, WriterError
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys.store import Typestore

METADATA_VERSION = 8
"""Humble to Kilted read it; 9 lists the QoS in a way that Humble does not."""

FLUSH_PERIOD = 2.0
"""Seconds after which written messages are brought to the disk."""

_FOREVER = QosTime(9223372036, 854775807)


def qos(reliable: bool, transient_local: bool = False, depth: int = 10) -> Qos:
    """Return a profile as rosbag2 notes it for playback."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if transient_local else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


class BagWriter:
    """Writer of messages to a new bag directory; not thread safe.

    The bag is complete after close(). Of an abandoned one everything up to the last flush can be
    read.
    """

    def __init__(
        self, path: Path, store: Typestore, compress: bool = False, max_file_bytes: int = 0
    ) -> None:
        """Create the directory.

        Args:
            path: must not exist.
            store: types that will be written.
            compress: chunks with zstd.
            max_file_bytes: size after which a new file of the bag is begun, 0 for one file.

        Raises:
            rosbags.rosbag2.WriterError: the path exists. OSError: it cannot be made.
        """
        self.path = path
        self._store, self._compress, self._max_file_bytes = store, compress, max_file_bytes
        self._connections: dict[str, Connection] = {}
        self._topics: dict[str, tuple[str, Qos | None]] = {}
        self._notes: dict[str, str] = {}
        self._finished: list[dict[str, Any]] = []
        self._bytes = 0
        self._flushed = time.monotonic()
        if max_file_bytes:
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                raise WriterError(f"{path} exists already, not overwriting.") from None
        self._writer = self._open_file()

    @property
    def counts(self) -> dict[str, int]:
        """Messages written by topic."""
        counts: Counter[str] = Counter()
        for information in self._finished:
            for topic in information["topics_with_message_count"]:
                counts[topic["topic_metadata"]["name"]] += topic["message_count"]
        for topic, connection in self._connections.items():
            counts[topic] += self._writer.counts[connection.id]
        return dict(counts)

    def add_topic(self, topic: str, msgtype: str, profile: Qos | None = None) -> None:
        """Announce a topic; a second time is ignored."""
        self._topics.setdefault(topic, (msgtype, profile))
        if topic not in self._connections:
            msgtype, profile = self._topics[topic]
            self._connections[topic] = self._writer.add_connection(
                topic,
                msgtype,
                typestore=self._store,
                offered_qos_profiles=[profile or qos(reliable=True)],
            )

    def write(self, topic: str, received: int, data: bytes | memoryview) -> None:
        """Write CDR bytes received at a time (ns) on an announced topic."""
        if self._max_file_bytes and self._bytes + len(data) > self._max_file_bytes and self._bytes:
            self._finish_file()
            self._writer = self._open_file()
            self.add_topic(topic, *self._topics[topic])
        self._writer.write(self._connections[topic], received, data)
        self._bytes += len(data)

    def write_message(self, topic: str, received: int, msgtype: str, message: Any) -> None:
        """Serialise and write a message of the store's types."""
        self.add_topic(topic, msgtype)
        self.write(topic, received, self._store.serialize_cdr(message, msgtype))

    def note(self, key: str, value: str) -> None:
        """Put a remark into the metadata's custom_data."""
        self._notes[key] = value

    def flush(self) -> None:
        """Bring to the disk what was written more than FLUSH_PERIOD ago: a chunk of small messages
        would be lost for minutes if the process were killed."""
        storage = self._writer.storage
        if time.monotonic() - self._flushed < FLUSH_PERIOD or storage is None:
            return
        self._flushed = time.monotonic()
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()

    def close(self) -> None:
        """Write index and metadata."""
        for key, value in self._notes.items():
            self._writer.set_custom_data(key, value)
        self._finish_file()
        if self._max_file_bytes:
            content = {"rosbag2_bagfile_information": _joined(self._finished)}
            text = yaml.safe_dump(content, sort_keys=False)
            (self.path / "metadata.yaml").write_text(text, "utf-8")

    def _open_file(self) -> Writer:
        """Begin a file: the bag itself, or the next one of a split bag.

        rosbags writes one file a bag. A part is begun as a bag of its own below the directory, and
        its file moved up at once: so it is in its place though the process be killed.
        """
        part = f"{self.path.name}_{len(self._finished)}"
        directory = self.path / f".{part}" if self._max_file_bytes else self.path
        writer = Writer(directory, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        if self._compress:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        writer.open()
        if self._max_file_bytes:
            writer.storage.path.rename(self.path / f"{part}.mcap")
        self._connections, self._bytes = {}, 0
        return writer

    def _finish_file(self) -> None:
        self._writer.close()
        if self._max_file_bytes:
            metadata = self._writer.metapath
            content = yaml.safe_load(metadata.read_text("utf-8"))["rosbag2_bagfile_information"]
            name = f"{self.path.name}_{len(self._finished)}.mcap"
            content["relative_file_paths"] = [name]
            content["files"][0]["path"] = name
            self._finished.append(content)
            shutil.rmtree(metadata.parent)
            self._connections = {}


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a bag of several files."""
    nonempty = [part for part in parts if part["message_count"]] or parts[:1]
    start = min(part["starting_time"]["nanoseconds_since_epoch"] for part in nonempty)
    end = max(
        part["starting_time"]["nanoseconds_since_epoch"] + part["duration"]["nanoseconds"]
        for part in nonempty
    )
    topics: dict[str, dict[str, Any]] = {}
    for part in parts:
        for topic in part["topics_with_message_count"]:
            name = topic["topic_metadata"]["name"]
            known = topics.setdefault(name, {**topic, "message_count": 0})
            known["message_count"] += topic["message_count"]
    return {
        **parts[-1],
        "relative_file_paths": [part["relative_file_paths"][0] for part in parts],
        "files": [part["files"][0] for part in parts],
        "starting_time": {"nanoseconds_since_epoch": start},
        "duration": {"nanoseconds": max(0, end - start)},
        "message_count": sum(part["message_count"] for part in parts),
        "topics_with_message_count": list(topics.values()),
    }
