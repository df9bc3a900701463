"""Storage variants as recorders leave them: every message is read, what is lost is named."""

from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mcap_file import McapFile
from replay_bags import PERIOD, START, BagMaker, sample_image
from rosbags.rosbag2.enums import CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_typestore

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.reader import BagError, BagReader

STORE = standard_store()
STRING_DEFINITION, _ = STORE.generate_msgdef(types.STRING)


def message(number: int) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[types.STRING](data=f"{number}"), types.STRING))


def mcap(times=range(6), **options) -> McapFile:
    file = McapFile(**options)
    topic = file.topic("/texts", types.STRING, STRING_DEFINITION)
    for time in times:
        file.message(topic, START + time * PERIOD, message(time))
    return file


def read(path, topic="/texts"):
    """Return (numbers in the order of reading, twice, and the damage)."""
    with BagReader(path) as reader:
        passes = [[int(reader.decode(r).data) for r in reader.messages({topic})] for _ in range(2)]
        return passes, reader.damage


VARIANTS = {
    "unchunked": {},
    "unchunked, without summary": {"summary": False},
    "unchunked, without statistics": {"statistics": False},
    "chunked": {"chunk_size": 2},
    "chunked, without summary": {"chunk_size": 2, "summary": False},
    "chunked, without statistics": {"chunk_size": 2, "statistics": False},
    "chunked, without chunk index": {"chunk_size": 2, "chunk_index": False},
    "chunked, one chunk not indexed": {"chunk_size": 2, "unindexed_chunks": (1,)},
    "chunked, some messages outside chunks": {"chunk_size": 2, "loose": (2, 5)},
    "profile empty": {"profile": "", "chunk_size": 2},
    "profile of somebody": {"profile": "px4", "chunk_size": 4},
    "without checksums": {"chunk_size": 3, "crc": False},
}
ORDERS = {
    "in order": (0, 1, 2, 3, 4, 5),
    "first late": (1, 0, 2, 3, 4, 5),
    "last late": (0, 1, 2, 3, 5, 4),
    "one very late": (1, 2, 3, 4, 5, 0),
    "reversed": (5, 4, 3, 2, 1, 0),
    "two at once": (0, 1, 1, 2, 3, 5),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_message_of_a_whole_mcap_is_read_in_order(tmp_path, variant, order):
    path = mcap(order, **variant).write(tmp_path / "bag.mcap")
    passes, damage = read(path)
    assert passes == [sorted(order)] * 2
    assert damage == []


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20),
    st.integers(0, 5),
    st.sets(st.integers(0, 19)),
    st.booleans(),
    st.booleans(),
)
def test_any_layout_of_an_mcap_gives_every_message(
    tmp_path_factory, times, chunk_size, loose, summary, index
):
    file = mcap(times, chunk_size=chunk_size, loose=tuple(loose), summary=summary,
                chunk_index=index)  # fmt: skip
    path = file.write(tmp_path_factory.mktemp("any") / "bag.mcap")
    passes, damage = read(path)
    assert passes == [sorted(times)] * 2
    assert damage == []


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_mcap_without_footer_is_read_and_named_as_cut(tmp_path, chunk_size):
    path = mcap(chunk_size=chunk_size, footer=False, summary=False).write(tmp_path / "bag.mcap")
    content = path.read_bytes()
    path.write_bytes(content[:-13])  # data end and all behind it
    passes, damage = read(path)
    assert passes[0] == list(range(6))
    assert damage == ["bag.mcap: the file ends before its index"]


def test_damaged_chunk_is_left_out_and_the_rest_read(tmp_path):
    path = mcap(chunk_size=2).write(tmp_path / "bag.mcap")
    content = bytearray(path.read_bytes())
    place = content.index(message(2))
    content[place + 8] ^= 0xFF
    path.write_bytes(content)
    passes, damage = read(path)
    assert passes == [[0, 1, 4, 5]] * 2
    assert "the checksum of a chunk does not fit its content" in damage[0]
    assert damage[1] == (
        "its index promises 6 messages on /texts, and the bag's files hold 4 that can be read"
    )


def ros1_image(number: int):
    """Return (definition, bytes) of a ROS 1 sensor_msgs/Image."""
    store = get_typestore(Stores.ROS1_NOETIC)
    name = "sensor_msgs/msg/Image"
    stamp = store.types["builtin_interfaces/msg/Time"](sec=1700000000 + number, nanosec=5)
    header = store.types["std_msgs/msg/Header"](seq=number, stamp=stamp, frame_id="camera")
    rgb = sample_image(number)
    image = store.types[name](
        header=header, height=24, width=32, encoding="rgb8", is_bigendian=0, step=96,
        data=rgb.reshape(-1),
    )  # fmt: skip
    definition, _ = store.generate_msgdef(name, ros_version=1)
    return definition, store.serialize_ros1(image, name)


def test_ros_1_messages_in_an_mcap_are_read_and_named(tmp_path):
    file = McapFile(profile="ros1", chunk_size=2)
    definition, _ = ros1_image(0)
    topic = file.topic("/camera/image_raw", "sensor_msgs/Image", definition, "ros1msg", "ros1")
    for number in range(4):
        file.message(topic, START + number, ros1_image(number)[1])
    with BagReader(file.write(tmp_path / "bag.mcap")) as reader:
        assert reader.topics["/camera/image_raw"].msgtype == types.IMAGE
        images = [reader.decode(record) for record in reader.messages({"/camera/image_raw"})]
        assert [image.header.stamp.sec - 1700000000 for image in images] == [0, 1, 2, 3]
        assert np.array_equal(images[2].data.reshape(24, 32, 3), sample_image(2))
        assert reader.damage == []
        assert "ROS 1 messages (encoding ros1) on /camera/image_raw" in reader.remarks[0]


@pytest.mark.parametrize("encoding", ["json", "protobuf", "flatbuffer"])
def test_other_encodings_are_named(tmp_path, encoding):
    file = McapFile(profile="")
    topic = file.topic("/texts", types.STRING, STRING_DEFINITION, "jsonschema", encoding)
    file.message(topic, START, b'{"data": "go"}')
    with (
        BagReader(file.write(tmp_path / "bag.mcap")) as reader,
        pytest.raises(BagError, match=f"/texts is encoded as '{encoding}'"),
    ):
        reader.decode(next(reader.messages({"/texts"})))


# --- sqlite3 ------------------------------------------------------------------------------------


def database(path, count=6):
    with BagMaker(path, storage=StoragePlugin.SQLITE3) as bag:
        for number in range(count):
            bag.instruction(f"{number}", number * PERIOD, topic="/texts")
    return next(path.glob("*.db3"))


def with_a_log(tmp_path, mode: str, in_file: int = 1):
    """A bag whose recorder ended before its last messages had come from the log into the file."""
    path = database(tmp_path / "whole")
    rows = (
        sqlite3.connect(path).execute("SELECT topic_id, timestamp, data FROM messages").fetchall()
    )
    work = tmp_path / "work.db3"
    shutil.copyfile(path, work)
    live = sqlite3.connect(work, isolation_level=None)
    live.execute(f"DELETE FROM messages WHERE id > {in_file}")
    live.execute("PRAGMA journal_mode = " + mode)
    live.execute("PRAGMA wal_autocheckpoint = 0")
    live.execute("PRAGMA cache_size = 1")
    for row in rows[in_file:]:
        live.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    target = tmp_path / "bag"
    target.mkdir()
    shutil.copyfile(path.parent / "metadata.yaml", target / "metadata.yaml")
    for ending in ("", "-wal"):
        file = work.with_name(work.name + ending)
        if file.is_file():
            shutil.copyfile(file, target / f"whole.db3{ending}")
    live.close()
    return target


@pytest.mark.parametrize("in_file", [0, 1, 5])
@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_messages_in_the_write_ahead_log_are_read(tmp_path, in_file, metadata, single):
    bag = with_a_log(tmp_path, "WAL", in_file)
    if not metadata:
        (bag / "metadata.yaml").unlink()
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    passes, damage = read(bag / "whole.db3" if single else bag)
    assert passes == [list(range(6))] * 2
    assert damage == ([] if metadata or single else [
        "metadata.yaml is missing; the files next to it were read alone"
    ])  # fmt: skip
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before


def test_bag_on_a_medium_that_cannot_be_written(tmp_path):
    bag = with_a_log(tmp_path, "WAL")
    for path in (*bag.iterdir(), bag):
        path.chmod(0o555)
    assert read(bag)[0][0] == list(range(6))


def test_lost_write_ahead_log_is_told_by_the_counts(tmp_path):
    bag = with_a_log(tmp_path, "WAL")
    (bag / "whole.db3-wal").unlink()
    passes, damage = read(bag)
    assert passes[0] == [0]
    assert damage == [
        "metadata.yaml promises 6 messages on /texts, and the bag's files hold 1 that can be read"
    ]


def test_half_written_transaction_is_rolled_back(tmp_path):
    """A rollback journal next to the file: a recorder was killed within a transaction."""
    path = database(tmp_path / "bag", count=6)
    live = sqlite3.connect(path, isolation_level=None)
    live.execute("PRAGMA cache_size = 1")
    live.execute("BEGIN")
    live.execute("UPDATE messages SET data = zeroblob(40000)")
    live.execute("UPDATE messages SET topic_id = 99")
    journal = path.with_name(path.name + "-journal")
    assert journal.is_file()
    target = tmp_path / "killed"
    target.mkdir()
    shutil.copyfile(path, target / path.name)
    shutil.copyfile(journal, target / journal.name)
    live.execute("ROLLBACK")
    live.close()
    passes, _ = read(target / path.name)
    assert passes == [list(range(6))] * 2


def test_view_that_never_ends_is_refused(tmp_path):
    path = tmp_path / "bag.db3"
    with sqlite3.connect(path) as live:
        live.execute("CREATE TABLE topics (id, name, type, serialization_format)")
        live.execute(
            "CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 "
            "FROM n) SELECT id, 1 AS topic_id, id AS timestamp, x'00' AS data FROM n"
        )
    live.close()
    with pytest.raises(BagError, match="the tables topics and messages are not both there"):
        BagReader(path)


# --- Directories ---------------------------------------------------------------------------------


def split(tmp_path):
    """A bag of three files of two messages each."""
    bag = tmp_path / "bag"
    bag.mkdir()
    for part in range(3):
        mcap((2 * part, 2 * part + 1), chunk_size=2).write(bag / f"bag_{part}.mcap")
    topic = {"name": "/texts", "type": types.STRING, "serialization_format": "cdr"}
    information = {
        "version": 8,
        "storage_identifier": "mcap",
        "relative_file_paths": [f"bag_{part}.mcap" for part in range(3)],
        "message_count": 6,
        "topics_with_message_count": [{"topic_metadata": topic, "message_count": 6}],
    }
    (bag / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    return bag


def test_split_bag(tmp_path):
    assert read(split(tmp_path)) == ([list(range(6))] * 2, [])


def test_file_of_a_split_bag_that_is_missing_is_named(tmp_path):
    bag = split(tmp_path)
    (bag / "bag_1.mcap").unlink()
    passes, damage = read(bag)
    assert passes[0] == [0, 1, 4, 5]
    assert damage == [
        "bag_1.mcap, a file that metadata.yaml names, is missing",
        "metadata.yaml promises 6 messages on /texts, and the bag's files hold 4 that can be read",
    ]


def test_file_that_the_metadata_does_not_know_is_read(tmp_path):
    bag = split(tmp_path)
    mcap((6, 7), footer=False, summary=False).write(bag / "bag_3.mcap")
    passes, damage = read(bag)
    assert passes[0] == list(range(8))
    assert damage[0].startswith("bag_3.mcap is not named in metadata.yaml")


def test_stale_count_in_the_metadata_loses_nothing(tmp_path):
    bag = split(tmp_path)
    path = bag / "metadata.yaml"
    path.write_text(path.read_text().replace("message_count: 6", "message_count: 1"))
    assert read(bag) == ([list(range(6))] * 2, [])


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_compressed_bags_are_whole(tmp_path, mode, storage):
    with BagMaker(tmp_path / "bag", storage=storage, compression=mode) as bag:
        for number in range(6):
            bag.instruction(f"{number}", number * PERIOD, topic="/texts")
    assert read(tmp_path / "bag") == ([list(range(6))] * 2, [])


def test_lerobot_data_set_is_named(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "data" / "chunk-000").mkdir(parents=True)
    (tmp_path / "meta" / "info.json").write_text('{"codebase_version": "v3.0", "total_frames": 9}')
    with pytest.raises(BagError, match=r"a LeRobot data set \(version v3.0, 9 frames\)"):
        BagReader(tmp_path)


def test_ros_1_bag_in_a_directory_is_named(tmp_path):
    (tmp_path / "run.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match=r"run\.bag is a ROS 1 bag: convert it with rosbags-convert"):
        BagReader(tmp_path)
