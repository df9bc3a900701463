"""A rosbag2 bag as a stream of messages: directory or single file, sqlite3 or MCAP, zstd or not.

Whatever is readable of a damaged bag is read; what was wrong stands in `BagReader.damage`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError

from vla_pruner_ros.bags.compression import ZSTD_MAGIC, decompress, unpack_file
from vla_pruner_ros.bags.definitions import store_for
from vla_pruner_ros.bags.mcap_scan import MAX_RECORD, McapScan
from vla_pruner_ros.bags.sqlite_scan import SqliteScan

_STORAGE_SUFFIXES = (".mcap", ".db3")
_PACKED_SUFFIXES = (".zst", ".zstd")


class BagError(Exception):
    """The bag or a message of it cannot be read; the message says what and why."""


class BagMessage(NamedTuple):
    """One message as it lies in the bag; `time` is when it was received (ns)."""

    topic: str
    msgtype: str
    time: int
    data: bytes


@dataclass(frozen=True)
class Topic:
    """A topic of the bag."""

    name: str
    msgtype: str
    count: int


class _Storage(Protocol):
    connections: list[Connection]
    custom_data: dict[str, str]
    distribution: str | None
    damage: str

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]: ...

    def close(self) -> None: ...


class _Indexed:
    """A whole bag or file, through the rosbags package."""

    def __init__(self, path: Path) -> None:
        self._reader = Reader(path)
        self._reader.open()
        self.connections = list(self._reader.connections)
        self.custom_data = dict(self._reader.storage.metadata.custom or {})
        self.distribution = self._reader.storage.metadata.ros_distro
        self.damage = ""

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        wanted = [c for c in self.connections if c.topic in topics]
        if not wanted:
            return
        try:
            for connection, time, data in self._reader.messages(wanted):
                yield connection.topic, connection.msgtype, time, data
        except GeneratorExit:
            raise
        except Exception as error:  # the storages raise their own and plain errors on damaged data
            self.damage = f"reading stopped: {_words(error)}"

    def close(self) -> None:
        self._reader.close()


class BagReader:
    """A bag opened for reading; use as a context manager.

    Attributes:
        topics: by name.
        damage: sentences about what could not be read, complete after the messages were read.
        custom_data: `custom_data` of the bag's metadata.
    """

    def __init__(self, path: Path | str) -> None:
        """Open a bag.

        Raises:
            BagError: nothing of it can be read.
        """
        self.path = Path(path)
        self._stack = ExitStack()
        self._storages: list[_Storage] = []
        self._damage: list[str] = []
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        connections = [c for storage in self._storages for c in storage.connections]
        self.topics = _topics(connections)
        self.custom_data = {k: v for s in self._storages for k, v in s.custom_data.items()}
        self._store = store_for(connections, self._storages[0].distribution)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and remove what was unpacked."""
        self._stack.close()

    @property
    def damage(self) -> list[str]:
        found = [storage.damage for storage in self._storages if storage.damage]
        return list(dict.fromkeys([*self._damage, *found]))

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order they were received."""
        streams = [map(BagMessage._make, s.messages(topics)) for s in self._storages]
        if _in_sequence(self._storages):
            for stream in streams:
                yield from stream
        else:
            yield from merge(*streams, key=lambda record: record.time)

    def decode(self, record: BagMessage) -> Any:
        """Deserialise a message.

        Raises:
            BagError: its type is unknown, or its bytes do not fit the type.
        """
        if record.msgtype not in self._store.fielddefs:
            raise BagError(f"the type {record.msgtype} of {record.topic} is unknown")
        try:
            return self._store.deserialize_cdr(plain_data(record), record.msgtype)
        except (SerdeError, ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
            raise BagError(f"a message on {record.topic} is damaged: {_words(error)}") from None

    def _open(self) -> None:
        if not self.path.exists():
            raise BagError(f"{self.path} does not exist")
        if self.path.is_dir():
            self._open_directory(self.path)
        else:
            self._open_files([self.path])
        if not self._storages:
            reasons = "; ".join(self._damage) or _why_empty(self.path)
            raise BagError(f"{self.path} cannot be read as a bag: {reasons}")

    def _open_directory(self, directory: Path) -> None:
        reason = "is missing"
        if (directory / "metadata.yaml").is_file():
            try:
                self._add(_Indexed(directory))
                return
            except Exception as error:
                reason = f"cannot be used ({_words(error)})"
        files = _bag_files(directory)
        self._open_files(files)
        if files and not self.damage:  # else it was a file that the metadata could not help
            self._damage.append(f"metadata.yaml {reason}; the files beside it were read alone")

    def _open_files(self, files: list[Path]) -> None:
        for path in files:
            try:
                self._open_file(path)
            except (ReaderError, ValueError, OSError) as error:
                self._damage.append(f"{path.name}: {_words(error).removeprefix(f'{path.name} ')}")

    def _open_file(self, path: Path) -> None:
        if path.suffix in _PACKED_SUFFIXES:
            directory = self._stack.enter_context(TemporaryDirectory(prefix="vla_pruner_replay_"))
            path, damage = unpack_file(path, Path(directory))
            if damage:
                self._damage.append(damage)
        try:
            self._add(_Indexed(path))
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:
            scans = {".mcap": McapScan, ".db3": SqliteScan}
            if path.suffix not in scans:
                raise ValueError(
                    "not a rosbag2 file (.mcap or .db3); rosbags-convert makes one of a ROS 1 bag"
                ) from None
            scan = scans[path.suffix](path)
            scan.damage = scan.damage or (
                f"{path.name}: the index at its end cannot be used ({_words(error)}), as after a "
                "recorder that was killed; the messages were read one by one"
            )
            self._add(scan)

    def _add(self, storage: _Storage) -> None:
        self._storages.append(storage)
        self._stack.callback(storage.close)


def _bag_files(directory: Path) -> list[Path]:
    """Return the storage files of a bag, bag_2 before bag_10."""
    found = [
        path
        for path in directory.iterdir()
        if path.name.removesuffix(path.suffix if path.suffix in _PACKED_SUFFIXES else "").endswith(
            _STORAGE_SUFFIXES
        )
    ]
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)] or [0])


def _why_empty(path: Path) -> str:
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and _bag_files(p))
    hint = f", but in {', '.join(inside)} below it" if inside else ""
    return f"no .mcap or .db3 file is in it{hint}"


def _topics(connections: list[Connection]) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    for connection in connections:
        before = topics.get(connection.topic)
        count = connection.msgcount + (before.count if before else 0)
        msgtype = before.msgtype if before else connection.msgtype
        topics[connection.topic] = Topic(connection.topic, msgtype, count)
    return topics


def _in_sequence(storages: list[_Storage]) -> bool:
    """Files of one split bag follow one another; merging them would open all at once."""
    return len(storages) == 1 or all(
        isinstance(storage, McapScan | SqliteScan) for storage in storages
    )


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def plain_data(record: BagMessage) -> bytes | memoryview:
    """Return a message's CDR bytes; some bags compress single messages and do not say so.

    Raises:
        ValueError: the compressed data is damaged.
    """
    data = record.data
    return decompress(data, "zstd", MAX_RECORD) if data[:4] == ZSTD_MAGIC else data
