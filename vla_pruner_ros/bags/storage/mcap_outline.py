"""An MCAP file's records counted without their content: the check that its index is complete."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vla_pruner_ros.bags.storage import mcap_records as records


@dataclass
class McapOutline:
    """Parts of an MCAP file.

    profile: of its header, for example ros2, ros1 or "". damage: why the records end early, "" if
    they do not. unindexed: why the index does not lead to every message, "" if it does.
    counts: messages that its statistics promise, by topic.
    """

    profile: str = ""
    damage: str = ""
    unindexed: str = ""
    counts: Counter[str] = field(default_factory=Counter)


def outline_mcap(path: Path) -> McapOutline:
    """Walk over the records of a file; chunks and messages are skipped.

    Raises:
        ValueError: it does not begin as an MCAP file. OSError: it cannot be read.
    """
    outline = McapOutline()
    with path.open("rb") as file:
        if file.read(len(records.MAGIC)) != records.MAGIC:
            raise ValueError(f"{path.name} does not begin as an MCAP file")
        try:
            _walk(file, outline)
        except (records.DamagedError, struct.error, UnicodeDecodeError) as error:
            outline.damage = str(error)
    return outline


def _walk(file: BinaryIO, outline: McapOutline) -> None:
    chunks, indexed, loose = set(), set(), 0
    topics: dict[int, str] = {}
    statistics: dict[int, int] = {}
    ends = False
    for head in records.heads(file):
        if head.opcode == records.HEADER:
            outline.profile = records.read_string(records.content_of(file, head), 0)[0]
        elif head.opcode == records.CHUNK:
            chunks.add(head.start - 9)
        elif head.opcode == records.MESSAGE:
            loose += 1
        elif head.opcode == records.CHANNEL:
            key, _, topics[key], _ = records.read_channel(records.content_of(file, head))
        elif head.opcode == records.CHUNK_INDEX:
            content = records.content_of(file, head)
            indexed.add(struct.unpack_from("<Q", content, 16)[0])
        elif head.opcode == records.STATISTICS:
            statistics = records.read_statistics(records.content_of(file, head))
        ends = ends or head.opcode == records.FOOTER
    for key, count in statistics.items():
        if key in topics:
            outline.counts[topics[key]] += count
    if not ends:
        outline.damage = "the file ends before its index"
    if loose:
        outline.unindexed = f"{loose} messages lie outside of chunks"
    elif chunks - indexed:
        outline.unindexed = f"the index lacks {len(chunks - indexed)} of {len(chunks)} chunks"
