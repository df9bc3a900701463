"""Damaged and incomplete bags, and no bags: what can be read is replayed, the rest is named."""

from __future__ import annotations

import json
import os

import pytest
from replay_bags import PERIOD, BagMaker, sample_image
from replay_helpers import plain, recorded
from rosbags.rosbag2.enums import StoragePlugin
from rosbags.typesys import get_types_from_msg


def test_truncated_bag_gives_a_partial_report(tmp_path, run):
    recorded(tmp_path, 900)
    file = tmp_path / "bag" / "bag.mcap"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    status, printed, summary = run()
    assert status == 1
    assert "damaged: " in printed.out
    assert 100 < summary["parity"]["comparable"] < 900
    assert summary["parity"]["holds"] is True
    assert "Damaged: " in (tmp_path / "out" / "report.html").read_text()


def empty_bag(path):
    with BagMaker(path):
        pass


def no_instruction(path):
    with BagMaker(path) as bag:
        bag.image(sample_image(0), 0)


def wrong_encoding(path):
    with BagMaker(path) as bag:
        bag.instruction("go", -PERIOD)
        bag.image(sample_image(0), 0, encoding="16UC1")


def unknown_type_of_the_instruction(path):
    with BagMaker(path, definitions=False) as bag:
        for number in range(4):
            bag.image(sample_image(number), number * PERIOD)
        bag.store.register(get_types_from_msg("string data\n", "acme_msgs/msg/Order"))
        order = bag.make("acme_msgs/msg/Order", data="go")
        bag.add("/instruction", "acme_msgs/msg/Order", -PERIOD, order)


def announced_but_empty(path):
    with BagMaker(path) as bag:
        bag.connections["/image_raw"] = bag.writer.add_connection(
            "/image_raw", "sensor_msgs/msg/Image", typestore=bag.store
        )
        bag.instruction("go", 0)


def without_metadata(path):
    plain(path.parent)
    (path / "metadata.yaml").unlink()


def truncated_database(path):
    with BagMaker(path, storage=StoragePlugin.SQLITE3) as bag:
        bag.instruction("go", -PERIOD)
        for number in range(200):
            bag.image(sample_image(number), number * PERIOD)
    (file,) = path.glob("*.db3")
    os.truncate(file, file.stat().st_size // 2)


def with_a_hole(path):
    """A bag as a file system in trouble leaves it: 1 TB long, empty behind the first messages."""
    plain(path.parent)
    os.truncate(path / "bag.mcap", 1 << 40)


def stamps_that_go_back(path):
    with BagMaker(path) as bag:
        bag.instruction("go", -PERIOD)
        for place, number in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 1, 8]):
            bag.image(sample_image(number), number * PERIOD // 2, received=place * PERIOD)


def instruction_that_comes_late(path):
    with BagMaker(path) as bag:
        for number in range(6):
            if number == 2:
                bag.instruction("go", number * PERIOD)
            bag.image(sample_image(number), number * PERIOD)


def broken_messages(path):
    with BagMaker(path) as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.image(sample_image(number), number * PERIOD)
        bag.raw("/image_raw", "sensor_msgs/msg/Image", 9 * PERIOD, b"\0\1\0\0short")


@pytest.mark.parametrize(
    ("make", "reason", "count"),
    [
        (without_metadata, "damaged: metadata.yaml is missing", 6),
        (truncated_database, "damaged: bag.db3: ", 50),
        (with_a_hole, "damaged: bag.mcap: ", 6),
        (stamps_that_go_back, "skipped: 1 frames came after newer ones", 9),
        (instruction_that_comes_late, "skipped: 2 frames came before the first instruction", 4),
        (broken_messages, "skipped: 1 messages skipped: a message on /image_raw is damaged", 4),
    ],
)
def test_what_can_be_read_of_a_bad_bag_is_replayed(tmp_path, run, make, reason, count):
    """In part: exit status 1, a sentence, and a report of the rest."""
    make(tmp_path / "bag")
    status, printed, summary = run("--keep-ratio", "0.5")
    assert status == 1
    assert reason in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert summary["settings"][1]["overall"]["count"] >= count
    sentence = reason.partition(": ")[2]
    assert sentence in (tmp_path / "out" / "report.html").read_text()
    assert sentence in json.dumps(summary)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "cannot be read as a bag"),
        (lambda path: path.write_bytes(b"\x89MCAP0\r\n" + bytes(40)), "cannot be read as a bag"),
        (empty_bag, "the bag has no image topic; it has: nothing"),
        (announced_but_empty, "the bag has no message on /image_raw"),
        (no_instruction, "1 frames came before the first instruction"),
        (unknown_type_of_the_instruction, "4 frames came before the first instruction"),
        (lambda path: path.symlink_to(path), "bag"),
        (wrong_encoding, "'16UC1' holds depth"),
    ],
)
def test_nothing_to_replay_is_one_sentence(tmp_path, run, make, reason):
    make(tmp_path / "bag")
    status, printed, summary = run()
    assert status == 2
    *steps, sentence = printed.err.splitlines()
    assert reason in sentence
    assert all(step.startswith(("Reading ", "Loading ")) for step in steps)
    assert "Traceback" not in printed.err
    assert summary is None


def test_what_is_missing_because_of_damage_is_told_with_it(tmp_path, run):
    recorded(tmp_path)
    file = tmp_path / "bag" / "bag.mcap"
    file.write_bytes(file.read_bytes()[:500])
    status, printed, summary = run()
    assert (status, summary) == (2, None)
    assert "no image topic" in printed.err
    assert "ends at byte 500" in printed.err
