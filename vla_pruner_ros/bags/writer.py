"""An MCAP bag with its message definitions inside, for ros2 bag, Foxglove and the replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys.store import Typestore

METADATA_VERSION = 8
"""Humble to Kilted read it; 9 lists the QoS in a way that Humble does not."""

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
    """Writes messages to a new bag directory; not thread safe.

    The bag is whole only after close(); of an abandoned one the chunks written so far (1 MiB each)
    can be read.
    """

    def __init__(self, path: Path, store: Typestore, compress: bool = False) -> None:
        """Create the directory.

        Args:
            path: must not exist.
            store: types that will be written.
            compress: chunks with zstd.

        Raises:
            rosbags.rosbag2.WriterError: the path exists. OSError: it cannot be made.
        """
        self.path = path
        self._store = store
        self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Messages written by topic."""
        return {t: self._writer.counts[c.id] for t, c in self._connections.items()}

    def add_topic(self, topic: str, msgtype: str, profile: Qos | None = None) -> None:
        """Announce a topic; a second time is ignored."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic,
                msgtype,
                typestore=self._store,
                offered_qos_profiles=[profile or qos(reliable=True)],
            )

    def write(self, topic: str, time: int, data: bytes | memoryview) -> None:
        """Write CDR bytes received at `time` (ns) on an announced topic."""
        self._writer.write(self._connections[topic], time, data)

    def write_message(self, topic: str, time: int, msgtype: str, message: Any) -> None:
        """Serialise and write a message of the store's types."""
        self.add_topic(topic, msgtype)
        self.write(topic, time, self._store.serialize_cdr(message, msgtype))

    def note(self, key: str, value: str) -> None:
        """Put a remark into the metadata's custom_data."""
        self._writer.set_custom_data(key, value)

    def close(self) -> None:
        """Write index and metadata."""
        self._writer.close()
