"""A rosbag2 bag as a stream of messages: directory or single file, sqlite3 or MCAP, zstd or not.

The readable parts of a damaged bag are read; `BagReader.damage` describes the damage. The messages
found are compared with those that the bag's metadata and the files' statistics promise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rosbags.interfaces import Connection, QosDurability
from rosbags.rosbag2 import ReaderError
from rosbags.serde import SerdeError

from vla_pruner_ros.bags import foreign
from vla_pruner_ros.bags.bounds import MAX_PARTS, extents
from vla_pruner_ros.bags.definitions import is_embedded, standard_name, store_for
from vla_pruner_ros.bags.earlier import earlier_stores
from vla_pruner_ros.bags.storage import Metadata, Storage, open_file, read_metadata
from vla_pruner_ros.bags.storage.compression import ZSTD_MAGIC, decompress, unpack_file
from vla_pruner_ros.bags.storage.files import SUFFIXES
from vla_pruner_ros.bags.storage.mcap_records import MAX_RECORD

_UNFIT = (
    SerdeError, ValueError, TypeError, KeyError, IndexError, AssertionError, RecursionError,
)  # fmt: skip
"""Errors of rosbags if bytes do not fit a type."""
_PACKED_SUFFIXES = (".zst", ".zstd")


class BagError(Exception):
    """Error of a bag or message that cannot be read; the text names it and the reason."""


class BagMessage(NamedTuple):
    """One message as it lies in the bag; `time` is when it was received (ns)."""

    topic: str
    msgtype: str
    time: int
    data: bytes


@dataclass(frozen=True)
class Topic:
    """A topic of the bag.

    encoding: of its messages; cdr is ROS 2's, ros1 is ROS 1's. latched: whether a late subscriber
    heard it, too.
    """

    name: str
    msgtype: str
    count: int
    encoding: str = "cdr"
    latched: bool = False


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
        self._storages: list[Storage] = []
        self._damage: list[str] = []
        self._metadata = Metadata()
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        self.topics = _topics(self._connections)
        self.custom_data = dict(self._metadata.custom_data)
        self._store = store_for(self._connections, self._metadata.distribution)
        self._defined = {c.topic for c in self._connections if is_embedded(c)}
        self._extents = extents(self._store.fielddefs)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and remove unpacked copies."""
        self._stack.close()

    @property
    def damage(self) -> list[str]:
        """Sentences about what could not be read, each once; empty if nothing is missing."""
        found = [storage.damage for storage in self._storages if storage.damage]
        return list(dict.fromkeys([*self._damage, *found, *self._shortfall()]))

    @property
    def remarks(self) -> list[str]:
        """Sentences about harmless peculiarities."""
        return foreign.remarks(self.topics.values())

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order they were received.

        The files of a split bag follow one another.
        """
        for storage in self._storages:
            for topic, msgtype, time, data in storage.messages(topics):
                yield BagMessage(topic, standard_name(msgtype), time, data)

    def decode(self, record: BagMessage) -> Any:
        """Deserialise a message.

        Raises:
            BagError: its type is unknown, or its bytes do not fit the type.
        """
        topic = self.topics.get(record.topic)
        encoding = topic.encoding if topic else "cdr"
        if record.msgtype not in self._store.fielddefs:
            raise BagError(
                f"the type {record.msgtype} of {record.topic} is unknown or has no bound"
            )
        if encoding not in ("cdr", "ros1"):
            raise BagError(
                f"{record.topic} is encoded as {encoding!r}; only cdr (ROS 2) and ros1 are read"
            )
        stores = [self._store]
        if record.topic not in self._defined:  # the recorder may have been of an earlier release
            stores += earlier_stores(record.msgtype)
        problem = ""
        for store in stores:
            read = store.deserialize_ros1 if encoding == "ros1" else store.deserialize_cdr
            try:
                data = plain_data(record)
                self._check_size(record, len(data))
                return read(data, record.msgtype)
            except _UNFIT as error:
                problem = problem or _message(error)
        raise BagError(f"a message on {record.topic} is damaged: {problem}")

    def _check_size(self, record: BagMessage, size: int) -> None:
        """Raise ValueError if a message of so many bytes could become too many objects."""
        if self._extents[record.msgtype].parts_of(size) > MAX_PARTS:
            raise ValueError(f"its {size} bytes may be more than {MAX_PARTS:,} parts")

    @property
    def _connections(self) -> list[Connection]:
        return [c for storage in self._storages for c in storage.connections]

    def _shortfall(self) -> list[str]:
        """Compare the messages found with the counts in metadata.yaml and the files' statistics."""
        found = {name: topic.count for name, topic in _topics(self._connections).items()}
        stated: Counter[str] = Counter()
        for storage in self._storages:
            stated.update(storage.counts)
        sentences = []
        for source, promised in (("metadata.yaml", self._metadata.counts), ("its index", stated)):
            for topic, count in sorted(promised.items()):
                if found.get(topic, 0) < count and not any(topic in s for s in sentences):
                    sentences.append(
                        f"{source} promises {count} messages on {topic}, and the bag's files hold "
                        f"{found.get(topic, 0)} that can be read"
                    )
        return sentences

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
        files = _bag_files(directory)
        self._metadata = read_metadata(directory)
        if files and self._metadata.problem:
            self._damage.append(f"{self._metadata.problem}; the files next to it were read alone")
        named = set(self._metadata.files)
        present = {path.name for path in files}
        # Compressed files are listed under their names before compression, or with the ending.
        plain = {name.removesuffix(suffix) for name in present for suffix in _PACKED_SUFFIXES}
        for name in self._metadata.files:
            unpacked = name.removesuffix(".zstd").removesuffix(".zst")
            if not {name, unpacked} & (present | plain):
                self._damage.append(f"{name}, a file that metadata.yaml names, is missing")
        if named and not self._metadata.problem:
            extra = sorted(present - named - {f"{n}{s}" for n in named for s in _PACKED_SUFFIXES})
            if extra:
                self._damage.append(
                    f"{', '.join(extra)} is not named in metadata.yaml, as after a recorder that "
                    "was killed; it was read as well"
                )
        self._open_files(files)

    def _open_files(self, files: list[Path]) -> None:
        for path in files:
            try:
                self._open_file(path)
            except (ReaderError, ValueError, OSError) as error:
                self._damage.append(f"{path.name}: {_message(error).removeprefix(f'{path.name} ')}")

    def _open_file(self, path: Path) -> None:
        if path.suffix in _PACKED_SUFFIXES:
            directory = self._stack.enter_context(TemporaryDirectory(prefix="vla_pruner_replay_"))
            path, damage = unpack_file(path, Path(directory))
            if damage:
                self._damage.append(damage)
        storage = open_file(path)
        self._storages.append(storage)
        self._stack.callback(storage.close)


def _bag_files(directory: Path) -> list[Path]:
    """Return the storage files of a bag, bag_2 before bag_10."""
    found = [
        path
        for path in directory.iterdir()
        if path.name.removesuffix(path.suffix if path.suffix in _PACKED_SUFFIXES else "").endswith(
            SUFFIXES
        )
    ]
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)] or [0])


def _why_empty(path: Path) -> str:
    known = foreign.what_it_is(path)
    if known:
        return known
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and _bag_files(p))
    hint = f", but in {', '.join(inside)} below it" if inside else ""
    return f"no .mcap or .db3 file is in it{hint}"


def _topics(connections: list[Connection]) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    for connection in connections:
        before = topics.get(connection.topic)
        count = connection.msgcount + (before.count if before else 0)
        msgtype = before.msgtype if before else standard_name(connection.msgtype)
        encoding = getattr(connection.ext, "serialization_format", "cdr") or "cdr"
        topics[connection.topic] = Topic(
            connection.topic, msgtype, count, encoding, _is_latched(connection)
        )
    return topics


def _is_latched(connection: Connection) -> bool:
    profiles = getattr(connection.ext, "offered_qos_profiles", None) or []
    return any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles)


def _message(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def plain_data(record: BagMessage) -> bytes | memoryview:
    """Return a message's CDR bytes; some bags compress single messages without a mark.

    Raises:
        ValueError: the compressed data is damaged.
    """
    data = record.data
    return decompress(data, "zstd", MAX_RECORD) if data[:4] == ZSTD_MAGIC else data
