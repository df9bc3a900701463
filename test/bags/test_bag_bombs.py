"""Bags that would fill memory or the disk, or never end: refused with a sentence."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing

import pytest
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS
from rosbags.serde import SerdeError

from vla_pruner_ros.bags import reader
from vla_pruner_ros.bags.bounds import extents
from vla_pruner_ros.bags.definitions import standard_store, store_for
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.bags.storage import compression
from vla_pruner_ros.bags.storage.compression import zstd
from vla_pruner_ros.bags.writer import BagWriter

SEPARATOR = "=" * 80 + "\n"
BOMB = zstd.compress(bytes(64 * 2**20))


@pytest.mark.parametrize("claimed", [1000, 0, 2**40])
def test_a_chunk_unpacks_to_what_it_claims_or_to_nothing(claimed):
    """A chunk of 328 kB unpacked to 10 GB."""
    assert len(BOMB) < 10_000
    if claimed < len(BOMB):
        with pytest.raises(ValueError, match="larger than"):
            DECOMPRESSORS["zstd"](BOMB, claimed)
    else:  # never more than a record may have, whatever it claims
        assert len(DECOMPRESSORS["zstd"](BOMB, claimed)) == 64 * 2**20


def test_a_packed_file_that_grows_without_measure_is_refused(tmp_path, monkeypatch):
    """197 kB filled 6 GB of the disk."""
    monkeypatch.setattr(compression, "MAX_SMALL", 2**20)
    packed = tmp_path / "bag.mcap.zstd"
    packed.write_bytes(BOMB)
    with pytest.raises(BagError, match="unpacks to more than"):
        BagReader(packed)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "SPARE_DISK", 2**62)
    packed = tmp_path / "bag.mcap.zstd"
    packed.write_bytes(BOMB)
    with pytest.raises(BagError, match="disk is too full"):
        BagReader(packed)


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3", "bag.mcap.zstd"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path, name, inside):
    os.mkfifo(tmp_path / name)
    with pytest.raises(BagError, match="not a regular file"):
        BagReader(tmp_path if inside else tmp_path / name)


def test_a_view_without_end_is_refused(tmp_path):
    bag = tmp_path / "bag.db3"
    with closing(sqlite3.connect(bag)) as database:
        database.executescript("""
            CREATE TABLE topics (id INTEGER, name TEXT, type TEXT, serialization_format TEXT);
            INSERT INTO topics VALUES (1, '/image_raw', 'sensor_msgs/msg/Image', 'cdr');
            CREATE VIEW messages AS
                WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
                SELECT id, 1 AS topic_id, id AS timestamp, zeroblob(1000) AS data FROM n;
        """)
    with pytest.raises(BagError, match="tables"):
        BagReader(bag)


def connection(msgtype: str, text: str) -> Connection:
    definition = MessageDefinition(MessageDefinitionFormat.MSG, text)
    extra = ConnectionExtRosbag2("cdr", [])
    return Connection(1, "/topic", msgtype, definition, "", 1, extra, None)


def test_a_type_that_contains_itself_stays_unknown():
    around = "acme_msgs/B[] b\n" + "=" * 80 + "\nMSG: acme_msgs/B\nacme_msgs/A[] a\n"
    store = store_for(
        [
            connection("acme_msgs/msg/Self", "acme_msgs/Self[] more\nint32 x\n"),
            connection("acme_msgs/msg/A", around),
            connection("acme_msgs/msg/Sound", "int32 x\n"),
        ],
        None,
    )
    unknown = {"acme_msgs/msg/Self", "acme_msgs/msg/A", "acme_msgs/msg/B"}
    assert not unknown & store.fielddefs.keys()
    assert "acme_msgs/msg/Sound" in store.fielddefs
    assert "sensor_msgs/msg/Image" in store.fielddefs


DOUBLING = "".join(
    f"acme_msgs/T{n} a\nacme_msgs/T{n} b\n{SEPARATOR}MSG: acme_msgs/T{n}\n" for n in range(40)
)
CHAIN = "".join(f"acme_msgs/T{n} a\n{SEPARATOR}MSG: acme_msgs/T{n}\n" for n in range(100))
WITHOUT_BOUND = {
    "a sequence of types without fields": f"acme_msgs/E[] many\n{SEPARATOR}MSG: acme_msgs/E\n",
    "a sequence of constants": f"acme_msgs/C[] many\n{SEPARATOR}MSG: acme_msgs/C\nint32 X=1\n",
    "a sequence of empty elements": f"acme_msgs/Empty[] many\n{SEPARATOR}"
    "MSG: acme_msgs/Empty\nuint8[0] none\n",
    "empty elements two levels down": f"acme_msgs/A[] a\n{SEPARATOR}MSG: acme_msgs/A\n"
    f"acme_msgs/Empty[] many\n{SEPARATOR}MSG: acme_msgs/Empty\nuint8[0] none\n",
    "an array of a billion strings": "string[1000000000] many\n",
    "an array of a billion messages": f"acme_msgs/B[1000000000] many\n{SEPARATOR}"
    "MSG: acme_msgs/B\nint8 x\n",
    "a million empty elements": f"acme_msgs/Empty[1000000] m\n{SEPARATOR}MSG: acme_msgs/Empty\n",
    "a tree of 2 to the power of 40": DOUBLING + "uint8 x\n",
    "a chain of 100 types": CHAIN + "uint8 x\n",
    "a definition of a megabyte": "uint8 x\n" * 200_000,
}


@pytest.mark.parametrize("text", WITHOUT_BOUND.values(), ids=WITHOUT_BOUND)
def test_a_type_without_bound_stays_unknown(text):
    """Reading one message compiled or made as many objects as its definition asked for."""
    store = store_for([connection("acme_msgs/msg/Bomb", text)], None)
    assert "acme_msgs/msg/Bomb" not in store.fielddefs
    assert "sensor_msgs/msg/Image" in store.fielddefs


def test_every_type_of_ros_is_bounded():
    store = store_for([], None)
    found = extents(store.fielddefs)
    assert found.keys() == store.fielddefs.keys() > {"std_msgs/msg/Empty"}
    assert [name for name, extent in found.items() if not extent.is_bounded] == []


def test_what_a_message_becomes_at_most_follows_from_its_bytes():
    bytes_of = f"acme_msgs/Byte[] many\n{SEPARATOR}MSG: acme_msgs/Byte\nuint8 x\n"
    store = store_for(
        [
            connection("acme_msgs/msg/Words", "string[] many\n"),
            connection("acme_msgs/msg/Bytes", bytes_of),
            connection("acme_msgs/msg/Numbers", "uint8[] many\nfloat64[36] covariance\n"),
        ],
        None,
    )
    found = extents(store.fielddefs)
    assert found["acme_msgs/msg/Words"].parts_of(400) == 2 + 100
    assert found["acme_msgs/msg/Bytes"].parts_of(400) == 2 + 2 * 400
    assert found["acme_msgs/msg/Numbers"].parts_of(2**30) == 3


def test_a_message_of_too_many_parts_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """A gigabyte of wrapped bytes became a hundred gigabytes of objects."""
    monkeypatch.setattr(reader, "MAX_PARTS", 100)
    path = tmp_path / "bag"
    store = standard_store()
    writer = BagWriter(path, store)
    status = store.types["diagnostic_msgs/msg/KeyValue"]
    kind = store.types["diagnostic_msgs/msg/DiagnosticStatus"]
    values = [status("key", "value") for _ in range(40)]
    writer.write_message(
        "/words", 1, "diagnostic_msgs/msg/DiagnosticStatus", kind(0, "", "", "", values)
    )
    writer.close()
    with BagReader(path) as bag, pytest.raises(BagError, match="more than 100 parts"):
        [bag.decode(record) for record in bag.messages(["/words"])]


LIES = {
    "a string longer than its message": struct.pack("<II", 0x00000100, 2**31) + b"abc\0",
    "a string of no bytes at all": struct.pack("<II", 0x00000100, 0),
    "a string without its end": struct.pack("<II", 0x00000100, 4) + b"abcd",
    "a string that is not there": struct.pack("<I", 0x00000100),
    "no header": b"\0",
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_a_string_whose_length_lies_is_refused(data):
    store = store_for([], None)
    with pytest.raises((SerdeError, ValueError)):
        store.deserialize_cdr(data, "std_msgs/msg/String")
