"""Records of an MCAP file: one opcode byte, a length of eight bytes, content; little-endian.

Format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_pruner_ros.bags.storage.compression import decompress

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD = 1 << 30
"""Largest record (bytes) taken for real; a longer one is damage."""

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
CHUNK_INDEX, STATISTICS, DATA_END = 0x08, 0x0B, 0x0F

_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros1msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}


class DamagedError(Exception):
    """The record or the file goes no further; the message gives the reason."""


class Head(NamedTuple):
    """A record's opcode, where its content begins and how long that is (bytes)."""

    opcode: int
    start: int
    size: int


@dataclass(frozen=True)
class Channel:
    """A topic of the file. encoding: of its messages, for example cdr or ros1."""

    topic: str
    msgtype: str
    definition: MessageDefinition
    encoding: str


def heads(file: BinaryIO) -> Iterator[Head]:
    """Yield the records from the file's place on, without their content.

    The caller may move the file's place meanwhile.

    Raises:
        DamagedError: the file ends within a record, or a record's length cannot be.
    """
    place, end = file.tell(), file.seek(0, 2)
    while place < end:
        file.seek(place)
        head = file.read(9)
        if head.startswith(MAGIC) and place + len(MAGIC) == end:
            return
        if len(head) < 9:
            raise DamagedError(f"the file ends at byte {end} within a record")
        opcode, size = struct.unpack("<BQ", head)
        if size > MAX_RECORD:
            raise DamagedError(f"the record at byte {place} claims {size} bytes")
        if place + 9 + size > end:
            raise DamagedError(f"the file ends at byte {end} within a record")
        yield Head(opcode, place + 9, size)
        place += 9 + size


def content_of(file: BinaryIO, head: Head) -> bytes:
    """Read the content of a record."""
    file.seek(head.start)
    return file.read(head.size)


def records_of_chunk(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (opcode, content) of the records in a chunk.

    Raises:
        DamagedError, struct.error, DECOMPRESSION_ERRORS: it is damaged.
    """
    size, crc, name_length = struct.unpack_from("<QII", content, 16)
    compression = content[32 : 32 + name_length].decode()
    records = decompress(content[40 + name_length :], compression, min(size, MAX_RECORD))
    if crc and zlib.crc32(records) != crc:
        raise DamagedError("the checksum of a chunk does not fit its content")
    place = 0
    while place + 9 <= len(records):
        opcode, length = struct.unpack_from("<BQ", records, place)
        yield opcode, records[place + 9 : place + 9 + length]
        place += 9 + length


def read_schema(content: bytes) -> tuple[int, str, str, MessageDefinition]:
    """Return id, type name, encoding and definition."""
    (key,) = struct.unpack_from("<H", content)
    name, place = read_string(content, 2)
    encoding, place = read_string(content, place)
    text, _ = read_string(content, place)
    kind = _FORMATS.get(encoding, MessageDefinitionFormat.NONE)
    return key, name, encoding, MessageDefinition(kind, text if kind else "")


def read_channel(content: bytes) -> tuple[int, int, str, str]:
    """Return id, schema id, topic and message encoding."""
    key, schema = struct.unpack_from("<HH", content)
    topic, place = read_string(content, 4)
    encoding, _ = read_string(content, place)
    return key, schema, topic, encoding


def read_statistics(content: bytes) -> dict[int, int]:
    """Return the number of messages by channel id."""
    (size,) = struct.unpack_from("<I", content, 42)
    return dict(struct.iter_unpack("<HQ", content[46 : 46 + size]))


def read_string(content: bytes, place: int) -> tuple[str, int]:
    """Return the string at a place, and the place behind it."""
    (size,) = struct.unpack_from("<I", content, place)
    return content[place + 4 : place + 4 + size].decode(), place + 4 + size
