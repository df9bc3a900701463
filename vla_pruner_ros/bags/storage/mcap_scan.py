"""An MCAP file read from its records alone: neither footer, index nor profile is needed.

Messages come in the order of their log time, also from files that were written out of order.
"""

from __future__ import annotations

import heapq
import itertools
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from vla_pruner_ros.bags.storage import mcap_records as records
from vla_pruner_ros.bags.storage.compression import DECOMPRESSION_ERRORS
from vla_pruner_ros.bags.storage.mcap_records import Channel, DamagedError, Head

_ERRORS = (DamagedError, struct.error, UnicodeDecodeError, *DECOMPRESSION_ERRORS)
_NO_SCHEMA = ("", MessageDefinition(MessageDefinitionFormat.NONE, ""))


class _Message(NamedTuple):
    time: int
    channel: int
    data: bytes


class McapScan:
    """Readable records of an MCAP file.

    Attributes:
        connections: one per channel, with message counts.
        counts: messages that the statistics promise, by topic; empty if there are none.
        custom_data: always empty; it is in metadata.yaml.
        damage: sentences about what could not be read, "" if nothing.
    """

    def __init__(self, path: Path) -> None:
        """Read the file once for its topics, its counts and the times of its parts.

        Raises:
            ValueError: it does not begin as an MCAP file.
            OSError: it cannot be read.
        """
        self._path = path
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        self._channels: dict[int, Channel] = {}
        self._units: list[tuple[int, int, Head]] = []
        self._problems: list[str] = []
        self._promised: dict[int, int] = {}
        self.custom_data: dict[str, str] = {}
        self.distribution: str | None = None
        self._found: Counter[int] = Counter()
        with self._path.open("rb") as file:
            if file.read(len(records.MAGIC)) != records.MAGIC:
                raise ValueError(f"{self._path.name} does not begin as an MCAP file")
            self._survey(file)
        self._units.sort()
        self.connections = [self._connection(key) for key in self._channels]
        self.counts: Counter[str] = Counter()
        for key, count in self._promised.items():
            if key in self._channels:
                self.counts[self._channels[key].topic] += count

    @property
    def damage(self) -> str:
        """The first problem and the number of further ones, empty if there are none."""
        if not self._problems:
            return ""
        more = len(self._problems) - 1
        return f"{self._path.name}: {self._problems[0]}" + (f"; {more} more places" if more else "")

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield (topic, type, log time in ns, message bytes) in the order of log time."""
        held: list[tuple[int, int, _Message]] = []
        order = itertools.count()
        with self._path.open("rb") as file:
            for time, _, head in self._units:
                while held and held[0][0] < time:
                    yield self._named(heapq.heappop(held)[2])
                for message in self._wanted(file, head, topics):
                    heapq.heappush(held, (message.time, next(order), message))
        while held:
            yield self._named(heapq.heappop(held)[2])

    def close(self) -> None:
        """Nothing is held open."""

    def _named(self, message: _Message) -> tuple[str, str, int, bytes]:
        channel = self._channels[message.channel]
        return channel.topic, channel.msgtype, message.time, message.data

    def _wanted(self, file: BinaryIO, head: Head, topics: Collection[str]) -> Iterator[_Message]:
        for message in self._messages_of(records.content_of(file, head), head.opcode):
            if self._channels[message.channel].topic in topics:
                yield message

    def _survey(self, file: BinaryIO) -> None:
        """Note channels, counts, and each part of the file that holds messages."""
        has_ended = False
        try:
            for head in records.heads(file):
                if head.opcode in (records.CHUNK, records.MESSAGE):
                    self._add_unit(file, head)
                elif head.opcode in (records.SCHEMA, records.CHANNEL):
                    self._describe(head.opcode, records.content_of(file, head))
                elif head.opcode == records.STATISTICS:
                    self._promised = records.read_statistics(records.content_of(file, head))
                has_ended = has_ended or head.opcode in (records.DATA_END, records.FOOTER)
        except _ERRORS as error:
            self._problems.append(str(error))
        if not has_ended and not self._problems:
            self._problems.append("the file ends before its index")

    def _add_unit(self, file: BinaryIO, head: Head) -> None:
        """Note a chunk or message; a damaged chunk is left out, because the next one's place is
        known."""
        found, first = Counter(), None
        try:
            for message in self._messages_of(records.content_of(file, head), head.opcode):
                first = message.time if first is None else min(first, message.time)
                found[message.channel] += 1
        except _ERRORS as error:
            self._problems.append(f"the chunk at byte {head.start - 9} is damaged: {error}")
            return
        self._found += found
        if first is not None:
            self._units.append((first, head.start, head))

    def _messages_of(self, content: bytes, opcode: int) -> Iterator[_Message]:
        inside = records.records_of_chunk(content) if opcode == records.CHUNK else [
            (opcode, content)
        ]  # fmt: skip
        for kind, record in inside:
            if kind == records.MESSAGE:
                key, _, time = struct.unpack_from("<HIQ", record)
                if key in self._channels:
                    yield _Message(time, key, record[22:])
            elif kind in (records.SCHEMA, records.CHANNEL):
                self._describe(kind, record)

    def _describe(self, opcode: int, content: bytes) -> None:
        if opcode == records.SCHEMA:
            key, name, _, definition = records.read_schema(content)
            self._schemas[key] = (name, definition)
        else:
            key, schema, topic, encoding = records.read_channel(content)
            msgtype, definition = self._schemas.get(schema, _NO_SCHEMA)
            self._channels[key] = Channel(topic, msgtype, definition, encoding)

    def _connection(self, key: int) -> Connection:
        channel = self._channels[key]
        return Connection(
            key,
            channel.topic,
            channel.msgtype,
            channel.definition,
            "",
            self._found[key],
            ConnectionExtRosbag2(channel.encoding, []),
            self,
        )
