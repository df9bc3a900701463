"""Bags that would fill memory or the disk, or never end: refused with a sentence."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

from vla_pruner_ros.bags.definitions import store_for
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.bags.storage import compression
from vla_pruner_ros.bags.storage.compression import zstd

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
