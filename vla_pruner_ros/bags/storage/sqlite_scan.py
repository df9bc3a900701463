"""A sqlite3 bag file read by itself: damaged, or with what its recorder had not moved into it yet.

Rows are read in the order of their time; if that index is damaged, in the order of writing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

LOGS = ("-wal", "-journal")
"""Endings of the files in which SQLite keeps data not yet, or not fully, in the .db3 file."""

_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")


def log_of(path: Path) -> Path | None:
    """Return the write-ahead log or rollback journal that belongs to a .db3 file, if it has one."""
    for ending in LOGS:
        log = path.with_name(path.name + ending)
        if log.is_file() and log.stat().st_size > 0:
            return log
    return None


class SqliteScan:
    """Readable rows of a .db3 file; attributes as of mcap_scan.McapScan."""

    def __init__(self, path: Path) -> None:
        """Read the topics and count the messages that can be read.

        Raises:
            ValueError: not even the topics can be read.
        """
        self._path, self._name = path, path.name
        self._stack = ExitStack()
        self.custom_data: dict[str, str] = {}
        self.distribution: str | None = None
        self.damage = ""
        self.counts: Counter[str] = Counter()
        try:
            self._path, self._options = self._with_its_log(path)
            with closing(self._open()) as database:
                _refuse_views(database)
                topics = _topics(database)
                definitions = _definitions(database)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._stack.close()
            raise ValueError(f"the topics cannot be read: {error}") from None
        self._topics = {key: (name, msgtype) for key, name, msgtype, _ in topics}
        counts = Counter(key for key, _, _ in self._rows("topic_id, timestamp, NULL"))
        self.connections = [
            Connection(
                key,
                name,
                kind,
                definitions.get(kind, _NO_DEFINITION),
                "",
                counts[key],
                ConnectionExtRosbag2(encoding, []),
                self,
            )
            for key, name, kind, encoding in topics
        ]

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield (topic, type, receive time in ns, message bytes) in the order of time."""
        for key, time, data in self._rows("topic_id, timestamp, data"):
            name, msgtype = self._topics[key]
            if name in topics:
                yield name, msgtype, time, data

    def close(self) -> None:
        """Remove the copy that was made of a file with a log."""
        self._stack.close()

    def _with_its_log(self, path: Path) -> tuple[Path, str]:
        """Return the file to open and the mode.

        With a log next to it, the file is a copy into which SQLite can take that log: the bag
        itself is not written to.
        """
        log = log_of(path)
        if log is None:
            return path, "mode=ro&immutable=1"
        directory = TemporaryDirectory(prefix="vla_pruner_replay_")
        copy = Path(self._stack.enter_context(directory)) / path.name
        if log.name.endswith("-journal"):  # rolling back writes into the file
            shutil.copyfile(path, copy)
        else:
            _link_or_copy(path, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        return copy, "mode=rw" if log.name.endswith("-journal") else "mode=ro"

    def _open(self) -> sqlite3.Connection:
        place = f"file:{quote(str(self._path))}?{self._options}"
        database = sqlite3.connect(place, uri=True)
        # With this, SQLite reads a file shorter than its header states; nothing is written.
        database.execute("PRAGMA writable_schema = ON")
        return database

    def _rows(self, columns: str) -> Iterator[tuple[int, int, bytes]]:
        """Yield rows by time; if the index over time is damaged, go on by id with what is left."""
        seen: set[int] = set()
        self.damage = ""
        with closing(self._open()) as database:
            for order in ("timestamp, id", "id"):
                try:
                    query = f"SELECT id, {columns} FROM messages ORDER BY {order}"
                    for row, key, *rest in database.execute(query):
                        if row not in seen and key in self._topics:
                            seen.add(row)
                            yield key, *rest
                except sqlite3.Error as error:
                    self.damage = f"{self._name}: reading stopped: {error}"
                else:
                    return


def _link_or_copy(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # another file system
        shutil.copyfile(path, copy)


def _refuse_views(database: sqlite3.Connection) -> None:
    """Refuse views: one can compute rows without end."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN (?, ?)"
    if database.execute(query, ("messages", "topics")).fetchone() != (2,):
        raise ValueError("the tables topics and messages are not both there")


def _topics(database: sqlite3.Connection) -> list[tuple[int, str, str, str]]:
    query = "SELECT id, name, type, serialization_format FROM topics"
    return database.execute(query).fetchall()


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
