"""A damaged sqlite3 bag file read row by row as far as it goes.

Rows are read in the order they were written, without the index over time, which may be damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat

_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class SqliteScan:
    """What is left of a .db3 file; attributes as of mcap_scan.McapScan."""

    def __init__(self, path: Path) -> None:
        """Read the topics and count the messages that can be read.

        Raises:
            ValueError: not even the topics can be read.
        """
        self._path = path
        self.custom_data: dict[str, str] = {}
        self.distribution: str | None = None
        self.damage = ""
        try:
            with closing(self._open()) as database:
                topics = database.execute("SELECT id, name, type FROM topics").fetchall()
                definitions = _definitions(database)
        except sqlite3.Error as error:
            raise ValueError(f"the topics cannot be read: {error}") from None
        self._topics = {key: (name, msgtype) for key, name, msgtype in topics}
        counts = dict.fromkeys(self._topics, 0)
        for key, _, _ in self._rows():
            counts[key] += 1
        none = MessageDefinition(MessageDefinitionFormat.NONE, "")
        self.connections = [
            Connection(key, name, kind, definitions.get(kind, none), "", counts[key], None, self)
            for key, (name, kind) in self._topics.items()
        ]

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield (topic, type, receive time in ns, CDR bytes) in the order of the file."""
        for key, time, data in self._rows():
            name, msgtype = self._topics[key]
            if name in topics:
                yield name, msgtype, time, data

    def close(self) -> None:
        """Nothing is held open."""

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro&immutable=1", uri=True)
        # With this SQLite reads a file that is shorter than its header says; nothing is written.
        database.execute("PRAGMA writable_schema = ON")
        return database

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        query = "SELECT topic_id, timestamp, data FROM messages ORDER BY id"
        with closing(self._open()) as database:
            try:
                for key, time, data in database.execute(query):
                    if key in self._topics:
                        yield key, time, data
            except sqlite3.Error as error:
                self.damage = f"{self._path.name}: reading stopped: {error}"


def _definitions(database: sqlite3.Connection) -> dict[str, MessageDefinition]:
    """Return the embedded definitions; bags of Humble have no table of them."""
    query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
    try:
        rows = database.execute(query).fetchall()
    except sqlite3.Error:
        return {}
    return {
        msgtype: MessageDefinition(_FORMATS[encoding], text)
        for msgtype, encoding, text in rows
        if encoding in _FORMATS
    }
