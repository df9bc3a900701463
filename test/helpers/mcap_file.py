"""MCAP files written record by record, with the parts that a test leaves out or gets wrong."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


@dataclass
class McapFile:
    """A file to be: topics first, then messages in the order of the file.

    chunk_size: messages a chunk, 0 for none. loose: numbers of messages that lie outside chunks.
    summary: whether schemas, channels and what follows are repeated at the end.
    """

    profile: str = "ros2"
    chunk_size: int = 0
    loose: tuple[int, ...] = ()
    summary: bool = True
    statistics: bool = True
    chunk_index: bool = True
    unindexed_chunks: tuple[int, ...] = ()
    footer: bool = True
    crc: bool = True
    topics: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    messages: list[tuple[int, int, bytes]] = field(default_factory=list)

    def topic(
        self, name: str, msgtype: str, definition: str, schema: str = "ros2msg", encoding="cdr"
    ) -> int:
        self.topics.append((name, msgtype, definition, schema, encoding))
        return len(self.topics)

    def message(self, topic: int, time: int, data: bytes) -> None:
        self.messages.append((topic, time, bytes(data)))

    def write(self, path: Path) -> Path:
        out = bytearray(b"\x89MCAP0\r\n")
        out += record(0x01, text(self.profile) + text("test"))
        described = b"".join(map(self._described, range(1, len(self.topics) + 1)))
        out += described
        indexes = b""
        for number, (loose, batch) in enumerate(self._batches()):
            body = b"".join(map(self._message, batch))
            if loose:
                out += body
                continue
            place = len(out)
            times = [time for _, time, _ in batch]
            span = struct.pack("<QQ", min(times), max(times))
            crc = zlib.crc32(body) if self.crc else 0
            chunk = span + struct.pack("<QI", len(body), crc) + text("")
            out += record(0x06, chunk + struct.pack("<Q", len(body)) + body)
            length = len(out) - place
            offsets = b""
            for topic in sorted({message[0] for message in batch}):
                offsets += struct.pack("<HQ", topic, len(out))
                entries = b"".join(struct.pack("<QQ", t, 0) for key, t, _ in batch if key == topic)
                out += record(0x07, struct.pack("<HI", topic, len(entries)) + entries)
            index_length = len(out) - place - length
            if number not in self.unindexed_chunks:
                entry = span + struct.pack("<QQ", place, length)
                entry += struct.pack("<I", len(offsets)) + offsets
                entry += struct.pack("<Q", index_length) + text("")
                indexes += record(0x08, entry + struct.pack("<QQ", len(body), len(body)))
        out += record(0x0F, struct.pack("<I", 0))
        start = len(out) if self.summary else 0
        if self.summary:
            out += described
            out += indexes if self.chunk_index else b""
            out += self._statistics() if self.statistics else b""
        if self.footer:
            out += record(0x02, struct.pack("<QQI", start, 0, 0)) + b"\x89MCAP0\r\n"
        path.write_bytes(out)
        return path

    def _batches(self) -> list[tuple[bool, list]]:
        batches: list[tuple[bool, list]] = []
        for number, message in enumerate(self.messages):
            loose = self.chunk_size == 0 or number in self.loose
            if loose or not batches or batches[-1][0] or len(batches[-1][1]) >= self.chunk_size:
                batches.append((loose, []))
            batches[-1][1].append(message)
        return batches

    def _described(self, key: int) -> bytes:
        name, msgtype, definition, schema, encoding = self.topics[key - 1]
        described = struct.pack("<H", key) + text(msgtype) + text(schema) + text(definition)
        channel = struct.pack("<HH", key, key) + text(name) + text(encoding) + text("")
        return record(0x03, described) + record(0x04, channel)

    @staticmethod
    def _message(message: tuple[int, int, bytes]) -> bytes:
        topic, time, data = message
        return record(0x05, struct.pack("<HIQQ", topic, 0, time, time) + data)

    def _statistics(self) -> bytes:
        counts = {}
        for topic, _, _ in self.messages:
            counts[topic] = counts.get(topic, 0) + 1
        times = [time for _, time, _ in self.messages] or [0]
        found = b"".join(struct.pack("<HQ", key, count) for key, count in counts.items())
        numbers = struct.pack(
            "<QHIIIIQQ", len(self.messages), 1, len(self.topics), 0, 0, 0, min(times), max(times)
        )
        return record(0x0B, numbers + struct.pack("<I", len(found)) + found)
