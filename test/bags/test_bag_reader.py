"""Bags of every storage and state: whole, compressed, foreign, cut off, empty."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_bags import BagMaker, sample_image
from rosbags.rosbag2.enums import CompressionMode, StoragePlugin
from rosbags.typesys import Stores

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.bags.storage.compression import ZSTD_MAGIC
from vla_pruner_ros.bags.storage.mcap_scan import McapScan
from vla_pruner_ros.bags.writer import BagWriter

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
INSTRUCTIONS = [f"task {number}" for number in range(40)]


def write(path, images: int = 0, instructions=INSTRUCTIONS, **options):
    with BagMaker(path, **options) as bag:
        for number in range(images):
            bag.image(sample_image(number), number * 1000)
        for number, instruction in enumerate(instructions):
            bag.instruction(instruction, number * 1000 + 500)
    return path


def read(path, topic="/instruction") -> tuple[list, list[str]]:
    with BagReader(path) as reader:
        found = [reader.decode(record) for record in reader.messages({topic})]
        return found, reader.damage


def instructions_of(path) -> tuple[list[str], list[str]]:
    messages, damage = read(path)
    return [message.data for message in messages], damage


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
@pytest.mark.parametrize(
    "compression",
    [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE],
)
@pytest.mark.parametrize("version", [8, 9])
def test_every_storage_and_compression(tmp_path, storage, compression, version):
    if storage == SQLITE and compression == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no compression of its own")
    path = write(tmp_path / "bag", storage=storage, compression=compression, version=version)
    assert instructions_of(path) == (INSTRUCTIONS, [])


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
@pytest.mark.parametrize("distribution", [Stores.ROS2_HUMBLE, Stores.ROS2_KILTED])
def test_definitions_of_other_distributions(tmp_path, storage, distribution):
    store = standard_store(distribution)
    with BagMaker(tmp_path / "bag", storage=storage, store=store) as bag:
        bag.image(sample_image(3), 0)
        bag.parameters(0, keep_ratio=0.5)
        bag.joints(["a"], [1.0], 0)
    (image,), damage = read(tmp_path / "bag", "/image_raw")
    assert damage == []
    np.testing.assert_array_equal(image.data.reshape(24, 32, 3), sample_image(3))
    assert read(tmp_path / "bag", "/joint_states")[0][0].name == ["a"]
    assert read(tmp_path / "bag", "/parameter_events")[0][0].node == "/vla_pruner"


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
def test_single_file_without_its_directory(tmp_path, storage):
    path = write(tmp_path / "bag", storage=storage)
    (file,) = [f for f in path.iterdir() if f.suffix in (".mcap", ".db3")]
    assert instructions_of(file) == (INSTRUCTIONS, [])


@pytest.mark.parametrize("suffix", [".zst", ".zstd"])
def test_packed_single_file(tmp_path, suffix):
    path = write(tmp_path / "bag")
    packed = tmp_path / f"bag.mcap{suffix}"
    packed.write_bytes(zstd.compress((path / "bag.mcap").read_bytes()))
    assert instructions_of(packed) == (INSTRUCTIONS, [])


def test_directory_without_metadata(tmp_path):
    path = write(tmp_path / "bag")
    (path / "metadata.yaml").unlink()
    instructions, damage = instructions_of(path)
    assert instructions == INSTRUCTIONS
    assert damage == ["metadata.yaml is missing; the files next to it were read alone"]


def test_single_messages_compressed_and_no_metadata(tmp_path):
    path = write(tmp_path / "bag", storage=SQLITE, compression=CompressionMode.MESSAGE)
    (path / "metadata.yaml").unlink()
    assert instructions_of(path)[0] == INSTRUCTIONS


def test_split_files_are_read_in_numerical_order(tmp_path):
    split = tmp_path / "split"
    split.mkdir()
    for number in (0, 1, 2, 10):
        part = write(tmp_path / f"part{number}", instructions=[f"part {number}"])
        shutil.copy(part / f"part{number}.mcap", split / f"split_{number}.mcap")
    instructions, _ = instructions_of(split)
    assert sorted(instructions) == sorted(["part 0", "part 1", "part 2", "part 10"])


def test_damaged_metadata_still_gives_the_files(tmp_path):
    path = write(tmp_path / "bag")
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: [")
    instructions, damage = instructions_of(path)
    assert instructions == INSTRUCTIONS
    assert len(damage) == 1


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_truncated_mcap_gives_what_is_left(tmp_path, compression):
    path = write(tmp_path / "bag", images=2000, compression=compression)
    file = path / "bag.mcap"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    images, damage = read(path, "/image_raw")
    assert 500 < len(images) < 2000
    np.testing.assert_array_equal(images[499].data.reshape(24, 32, 3), sample_image(499))
    assert any("ends" in sentence for sentence in damage)


def test_mcap_without_its_footer_loses_nothing(tmp_path):
    path = write(tmp_path / "bag")
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[:-20])
    instructions, damage = instructions_of(file)
    assert instructions == INSTRUCTIONS
    assert damage


def test_truncated_packed_file_gives_what_is_left(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "bag"
    with BagMaker(path, compression=CompressionMode.FILE) as bag:
        for number in range(2000):
            bag.image(random.integers(0, 256, (24, 32, 3), dtype=np.uint8), number)
    packed = path / "bag.mcap.zstd"
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    (path / "metadata.yaml").unlink()
    images, damage = read(path, "/image_raw")
    assert 0 < len(images) < 2000
    assert damage


@pytest.mark.parametrize("how", ["cut off", "overwritten"])
def test_damaged_sqlite_gives_what_is_left(tmp_path, how):
    path = write(tmp_path / "bag", images=400, storage=SQLITE)
    file = next(path.glob("*.db3"))
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    if how == "cut off":
        del content[middle:]
    else:
        content[middle : middle + 40960] = b"\xff" * 40960
    file.write_bytes(bytes(content))
    images, damage = read(path, "/image_raw")
    assert 50 < len(images) < 400
    np.testing.assert_array_equal(images[49].data.reshape(24, 32, 3), sample_image(49))
    assert any("malformed" in sentence for sentence in damage)


def test_damaged_chunk_stops_reading_there(tmp_path):
    path = write(tmp_path / "bag", images=2000, compression=CompressionMode.STORAGE)
    file = path / "bag.mcap"
    content = bytearray(file.read_bytes())
    second = content.find(ZSTD_MAGIC, content.find(ZSTD_MAGIC) + 4)
    content[second + 20 : second + 84] = bytes(64)
    file.write_bytes(bytes(content))
    images, damage = read(path, "/image_raw")
    assert 0 < len(images) < 2000
    assert damage


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_noise_in_a_file_never_escapes_as_another_error(tmp_path_factory, seed, count):
    directory = tmp_path_factory.mktemp("noise")
    file = write(directory / "bag", images=20) / "bag.mcap"
    random = np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    for place in random.integers(0, len(content), count):
        content[place] = int(random.integers(0, 256))
    file.write_bytes(bytes(content))
    try:
        with BagReader(file) as reader:
            for record in reader.messages(set(reader.topics)):
                try:
                    reader.decode(record)
                except BagError:
                    continue
    except BagError:
        pass
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "no .mcap or .db3 file is in it"),
        (lambda path: path.write_bytes(b""), "cannot be read as a bag"),
        (lambda path: path.write_text("hello"), "cannot be read as a bag"),
    ],
)
def test_what_is_no_bag_is_refused(tmp_path, make, reason):
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(BagError, match=reason):
        BagReader(path)


@pytest.mark.parametrize("name", ["x.mcap", "x.db3", "x.mcap.zstd"])
def test_files_that_only_look_like_bags(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(BagError, match="cannot be read as a bag"):
        BagReader(tmp_path / name)


def test_directory_named_like_a_file(tmp_path):
    (tmp_path / "x.mcap").mkdir()
    with pytest.raises(BagError, match="cannot be read"):
        BagReader(tmp_path / "x.mcap")


def test_empty_bag_has_no_messages(tmp_path):
    path = write(tmp_path / "bag", instructions=[])
    with BagReader(path) as reader:
        assert reader.topics == {}
        assert list(reader.messages({"/instruction"})) == []


def test_unknown_type_is_told_by_name(tmp_path):
    store = standard_store()
    from rosbags.typesys import get_types_from_msg

    store.register(get_types_from_msg("uint8 x\n", "acme_msgs/msg/Secret"))
    with BagMaker(tmp_path / "bag", store=store, definitions=True) as bag:
        bag.instruction("hello", 0)
        bag.raw("/secret", "acme_msgs/msg/Secret", 1, b"\0\1\0\0\7")
    assert read(tmp_path / "bag", "/secret")[0][0].x == 7  # its definition is in the bag
    with BagReader(tmp_path / "bag") as reader:
        record = next(iter(reader.messages({"/secret"})))
        with pytest.raises(BagError, match="type acme_msgs/msg/Other of /secret is unknown"):
            reader.decode(record._replace(msgtype="acme_msgs/msg/Other"))


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
def test_empty_definitions_are_those_of_the_distribution(tmp_path, storage):
    """They were taken for types without fields, and no message fitted them."""
    with BagMaker(tmp_path / "bag", storage=storage, definitions=False) as bag:
        bag.image(sample_image(3), 0)
    ((image,), damage) = read(tmp_path / "bag", "/image_raw")
    np.testing.assert_array_equal(image.data.reshape(24, 32, 3), sample_image(3))
    assert damage == []


def test_message_that_does_not_fit_its_type(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.raw("/instruction", types.STRING, 0, b"\0\1\0\0\xff\xff\xff\xff")
    with BagReader(tmp_path / "bag") as reader:
        record = next(iter(reader.messages({"/instruction"})))
        with pytest.raises(BagError, match="on /instruction is damaged"):
            reader.decode(record)


def test_recovery_reads_what_the_index_reads(tmp_path):
    file = write(tmp_path / "bag", images=300, compression=CompressionMode.STORAGE) / "bag.mcap"
    with BagReader(file) as reader:
        indexed = [tuple(r) for r in reader.messages({"/image_raw", "/instruction"})]
    scan = McapScan(file)
    assert scan.damage == ""
    key = lambda record: (record[2], record[0])
    scanned = list(scan.messages({"/image_raw", "/instruction"}))
    assert sorted(scanned, key=key) == sorted(indexed, key=key)


def test_written_bag_has_what_rosbag2_asks_for(tmp_path):
    """custom_data must be a map, and QoS of version 8 numbers in a YAML text (Humble)."""
    from ruamel.yaml import YAML

    store = standard_store()
    writer = BagWriter(tmp_path / "bag", store)
    writer.write_message("/instruction", 5, types.STRING, store.types[types.STRING]("hi"))
    writer.note("key", json.dumps({"a": 1}))
    writer.close()
    metadata = YAML(typ="safe").load((tmp_path / "bag" / "metadata.yaml").read_text())
    information = metadata["rosbag2_bagfile_information"]
    assert information["version"] == 8
    assert information["storage_identifier"] == "mcap"
    assert information["custom_data"] == {"key": '{"a": 1}'}
    topic = information["topics_with_message_count"][0]["topic_metadata"]
    profile = YAML(typ="safe").load(topic["offered_qos_profiles"])[0]
    assert (profile["history"], profile["reliability"], profile["durability"]) == (1, 1, 2)
    with BagReader(tmp_path / "bag") as reader:
        assert reader.custom_data == {"key": '{"a": 1}'}
