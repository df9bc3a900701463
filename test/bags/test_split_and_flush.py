"""Bags of several files, and what is left of a recorder that was killed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import yaml

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags import writer as bag_writer
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.bags.recording import BagRecording
from vla_pruner_ros.bags.writer import BagWriter

STORE = standard_store()


def message(number: int, size: int = 0) -> bytes:
    text = STORE.types[types.STRING](data=f"{number}" + " " * size)
    return bytes(STORE.serialize_cdr(text, types.STRING))


def read(path):
    with BagReader(path) as reader:
        numbers = [int(reader.decode(r).data) for r in reader.messages({"/texts", "/more"})]
        return numbers, reader.damage


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(("size", "files"), [(1000, 20), (10_000, 2), (100_000, 1), (1, 20)])
def test_a_bag_is_split_by_size(tmp_path, size, files, compress):
    writer = BagWriter(tmp_path / "bag", STORE, compress, max_file_bytes=size)
    for number in range(20):
        topic = "/texts" if number % 3 else "/more"
        writer.add_topic(topic, types.STRING)
        writer.write(topic, 1000 + number, message(number, 900))
    writer.note("key", "value")
    assert sum(writer.counts.values()) == 20
    writer.close()
    assert read(tmp_path / "bag") == (list(range(20)), [])
    names = sorted(p.name for p in (tmp_path / "bag").iterdir())
    assert len([name for name in names if name.endswith(".mcap")]) == files
    assert set(names) - {f"bag_{n}.mcap" for n in range(files)} == {"metadata.yaml"}
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())[
        "rosbag2_bagfile_information"
    ]
    assert information["message_count"] == 20
    assert information["relative_file_paths"] == [f"bag_{n}.mcap" for n in range(files)]
    assert information["starting_time"]["nanoseconds_since_epoch"] == 1000
    assert information["duration"]["nanoseconds"] == 19
    assert information["custom_data"] == {"key": "value"}
    assert [f["message_count"] for f in information["files"]].count(0) == 0


def test_an_existing_directory_is_not_written_over(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(Exception, match="exists already"):
        BagWriter(tmp_path / "bag", STORE, max_file_bytes=1000)


PROGRAM = """
import sys, time
from pathlib import Path
from vla_pruner_ros.bags import definitions as types, writer
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.recording import BagRecording
writer.FLUSH_PERIOD = 0.05
from vla_pruner_ros.bags import recording
recording.FLUSH_PERIOD = 0.05
store = standard_store()
made = BagRecording(Path(sys.argv[1]), store, max_file_bytes=int(sys.argv[2]))
made.add_topic("/texts", types.STRING)
for number in range(500):
    data = bytes(store.serialize_cdr(store.types[types.STRING](data=f"{number}"), types.STRING))
    made.put("/texts", 1000 + number, data)
time.sleep(0.5)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("split", [0, 3000])
def test_a_killed_recorder_leaves_all_that_was_flushed(tmp_path, split):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "bag"), str(split)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    numbers, damage = read(tmp_path / "bag")
    assert numbers == list(range(500))
    assert any("the file ends before its index" in sentence for sentence in damage)


def test_a_full_disk_ends_the_recording_and_leaves_the_rest(tmp_path):
    """A limit on the size of files stands for the disk: the same OSError from write()."""
    recording = BagRecording(tmp_path / "bag", STORE)
    recording.add_topic("/texts", types.STRING)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
        number, deadline = 0, time.monotonic() + 20
        while recording.failure is None and time.monotonic() < deadline:
            recording.put("/texts", 1000 + number, message(number, 100_000))
            number += 1
            time.sleep(0.001)
        assert isinstance(recording.failure, OSError)
        assert not recording.put("/texts", 10**9, message(0))
        recording.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    numbers, damage = read(tmp_path / "bag")
    assert numbers[:10] == list(range(10))
    assert damage


def test_small_messages_reach_the_disk_within_a_few_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_writer, "FLUSH_PERIOD", 0.0)
    writer = BagWriter(tmp_path / "bag", STORE)
    writer.add_topic("/texts", types.STRING)
    for number in range(3):
        writer.write("/texts", 1000 + number, message(number))
        writer.flush()
        assert read(tmp_path / "bag")[0] == list(range(number + 1))
    writer.close()
    assert read(tmp_path / "bag") == ([0, 1, 2], [])
