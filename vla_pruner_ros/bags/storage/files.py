"""One storage file, read through rosbags or, if its index lacks something, by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

from vla_pruner_ros.bags.storage.compression import decompress
from vla_pruner_ros.bags.storage.mcap_outline import McapOutline, outline_mcap
from vla_pruner_ros.bags.storage.mcap_records import MAX_RECORD
from vla_pruner_ros.bags.storage.mcap_scan import McapScan
from vla_pruner_ros.bags.storage.sqlite_scan import SqliteScan, log_of

SUFFIXES = (".mcap", ".db3")

# rosbags unpacks a chunk to whatever it holds: 10 GB fit in 328 kB.
DECOMPRESSORS.update(
    {
        name: lambda data, size, name=name: decompress(data, name, min(size, MAX_RECORD))
        for name in ("zstd", "lz4")
    }
)


class Storage(Protocol):
    """The messages of one file.

    connections: with the counts found. counts: messages that the file's own statistics promise, by
    topic. damage: what could not be read, complete after a pass.
    """

    connections: list[Connection]
    custom_data: dict[str, str]
    distribution: str | None
    counts: Counter[str]
    damage: str

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]: ...

    def close(self) -> None: ...


Scan = Callable[[Path], Storage]
_SCANS: dict[str, Scan] = {".mcap": McapScan, ".db3": SqliteScan}


class Indexed:
    """Storage file read through the rosbags package; if that yields less than promised, by
    itself.
    """

    def __init__(self, path: Path, counts: Counter[str]) -> None:
        """counts: of the file's statistics, by topic; of connections if empty."""
        self._path = path
        self._reader = Reader(path)
        self._reader.open()
        self.connections = list(self._reader.connections)
        self.custom_data: dict[str, str] = {}
        self.distribution: str | None = None
        self.counts = counts or _counts(self.connections)
        self._scan: Storage | None = None

    @property
    def damage(self) -> str:
        """Sentence about what could not be read, empty if nothing is missing."""
        return self._scan.damage if self._scan else ""

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield (topic, type, receive time in ns, message bytes) in the order of time."""
        if self._scan is not None:
            yield from self._scan.messages(topics)
            return
        read: Counter[tuple[str, int]] = Counter()
        for message in self._through_index(topics):
            read[message[0], message[2]] += 1
            yield message
        if read.total() < sum(self.counts[topic] for topic in set(topics)):
            yield from self._rest(topics, read)

    def close(self) -> None:
        """Close the file, and the scan if there was one."""
        self._reader.close()
        if self._scan is not None:
            self._scan.close()

    def _through_index(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        requested = [c for c in self.connections if c.topic in topics]
        try:
            for connection, time, data in self._reader.messages(requested) if requested else ():
                yield connection.topic, connection.msgtype, time, data
        except GeneratorExit:
            raise
        except Exception:  # the storages raise their own and plain errors on damaged data
            return

    def _rest(
        self, topics: Collection[str], read: Counter[tuple[str, int]]
    ) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield what the index did not lead to; later passes read the file by itself."""
        self._scan = _SCANS[self._path.suffix](self._path)
        self.connections = self._scan.connections
        for message in self._scan.messages(topics):
            if read[message[0], message[2]] > 0:
                read[message[0], message[2]] -= 1
            else:
                yield message


def open_file(path: Path) -> Storage:
    """Open a .mcap or .db3 file.

    Raises:
        ValueError, ReaderError, OSError: nothing of it can be read; the message gives the reason.
    """
    if path.suffix not in _SCANS:
        raise ValueError(
            "not a rosbag2 file (.mcap or .db3); rosbags-convert makes one of a ROS 1 bag"
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("not a regular file")
    if path.is_dir() or path.stat().st_size == 0:
        raise ValueError("a directory" if path.is_dir() else "the file is empty")
    return _open_mcap(path) if path.suffix == ".mcap" else _open_sqlite(path)


def _open_mcap(path: Path) -> Storage:
    outline: McapOutline = outline_mcap(path)
    if outline.profile != "ros2" or outline.damage or outline.unindexed:
        return McapScan(path)
    return _indexed_or_scan(path, outline.counts)


def _open_sqlite(path: Path) -> Storage:
    if log_of(path) is not None:
        return SqliteScan(path)
    return _indexed_or_scan(path, Counter())


def _indexed_or_scan(path: Path, counts: Counter[str]) -> Storage:
    try:
        return Indexed(path, counts)
    except PermissionError:
        raise
    except Exception as error:  # rosbags raises its own and plain errors on damaged files
        try:
            return _SCANS[path.suffix](path)
        except ValueError as second:
            raise ReaderError(f"{error}; {second}") from None


def _counts(connections: list[Connection]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for connection in connections:
        counts[connection.topic] += connection.msgcount
    return counts
