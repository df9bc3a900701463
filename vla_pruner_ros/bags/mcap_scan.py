"""An MCAP file read front to back as far as it goes, for files cut off while recording.

Needs neither footer nor index. Format: https://mcap.dev/spec (records of one opcode byte, a length
of eight bytes, content; all little-endian).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat

from vla_pruner_ros.bags.compression import DECOMPRESSION_ERRORS, decompress

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD = 1 << 30
"""Largest record (bytes) taken for real; a longer one is damage."""

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class _DamagedError(Exception):
    """The file goes no further; the message says why."""


@dataclass(frozen=True)
class _Channel:
    topic: str
    msgtype: str
    definition: MessageDefinition


class McapScan:
    """What is left of an MCAP file.

    Attributes:
        connections: one per topic, with message counts.
        custom_data: always empty; it stands at the end of a whole file.
        damage: why reading stopped before the end, or "".
    """

    def __init__(self, path: Path) -> None:
        """Scan the file once for its topics.

        Raises:
            ValueError: it does not begin as an MCAP file.
            OSError: it cannot be read.
        """
        self._path = path
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        self._channels: dict[int, _Channel] = {}
        self.custom_data: dict[str, str] = {}
        self.distribution: str | None = None
        self.damage = ""
        counts: dict[str, int] = {}
        for channel, _, _ in self._scan():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
        self.connections = [
            Connection(
                key, c.topic, c.msgtype, c.definition, "", counts.get(c.topic, 0), None, self
            )
            for key, c in self._channels.items()
        ]

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield (topic, type, log time in ns, CDR bytes) in the order of the file."""
        for channel, time, data in self._scan():
            if channel.topic in topics:
                yield channel.topic, channel.msgtype, time, data

    def close(self) -> None:
        """Nothing is held open."""

    def _scan(self) -> Iterator[tuple[_Channel, int, bytes]]:
        with self._path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self._path.name} does not begin as an MCAP file")
            try:
                yield from self._records(file)
            except (
                _DamagedError,
                struct.error,
                UnicodeDecodeError,
                *DECOMPRESSION_ERRORS,
            ) as error:
                self.damage = f"{self._path.name}: {error}"

    def _records(self, file: BinaryIO) -> Iterator[tuple[_Channel, int, bytes]]:
        while head := file.read(9):
            if len(head) < 9:
                raise _DamagedError(f"the file ends at byte {file.tell()} within a record")
            opcode, size = struct.unpack("<BQ", head)
            if opcode == _DATA_END:
                return
            if size > MAX_RECORD:
                raise _DamagedError(f"the record at byte {file.tell() - 9} claims {size} bytes")
            content = file.read(size)
            if len(content) < size:
                raise _DamagedError(f"the file ends at byte {file.tell()} within a record")
            if opcode == _CHUNK:
                yield from self._chunk(content)
            else:
                yield from self._record(opcode, content)
        raise _DamagedError("the file ends before its index")

    def _chunk(self, content: bytes) -> Iterator[tuple[_Channel, int, bytes]]:
        size, crc, name_length = struct.unpack_from("<QII", content, 16)
        compression = content[32 : 32 + name_length].decode()
        records = decompress(content[40 + name_length :], compression, min(size, MAX_RECORD))
        if crc and zlib.crc32(records) != crc:
            raise _DamagedError("the checksum of a chunk does not fit its content")
        place, found = 0, []
        while place + 9 <= len(records):
            opcode, length = struct.unpack_from("<BQ", records, place)
            found.extend(self._record(opcode, records[place + 9 : place + 9 + length]))
            place += 9 + length
        yield from sorted(found, key=lambda message: message[1])

    def _record(self, opcode: int, content: bytes) -> Iterator[tuple[_Channel, int, bytes]]:
        if opcode == _SCHEMA:
            self._read_schema(content)
        elif opcode == _CHANNEL:
            self._read_channel(content)
        elif opcode == _MESSAGE:
            key, _, time = struct.unpack_from("<HIQ", content)
            if key in self._channels:
                yield self._channels[key], time, content[22:]

    def _read_schema(self, content: bytes) -> None:
        (key,) = struct.unpack_from("<H", content)
        name, place = _string(content, 2)
        encoding, place = _string(content, place)
        text, _ = _string(content, place)
        kind = _FORMATS.get(encoding, MessageDefinitionFormat.NONE)
        self._schemas[key] = (name, MessageDefinition(kind, text))

    def _read_channel(self, content: bytes) -> None:
        key, schema = struct.unpack_from("<HH", content)
        topic, _ = _string(content, 4)
        none = ("", MessageDefinition(MessageDefinitionFormat.NONE, ""))
        self._channels[key] = _Channel(topic, *self._schemas.get(schema, none))


def _string(content: bytes, place: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", content, place)
    return content[place + 4 : place + 4 + size].decode(), place + 4 + size
