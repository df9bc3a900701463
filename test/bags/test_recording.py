"""The recorder's queue and file: nothing is lost unsaid, and the bag is always finished."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from replay_bags import NOT_SET, BagMaker, sample_image
from rosbags.rosbag2 import WriterError

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.image_packing import pack_image
from vla_pruner_ros.bags.parameter_events import (
    first_parameters,
    make_event,
    plain_values,
    read_parameters,
)
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.bags.recording import NOTE_KEY, BagRecording, recorder_remarks
from vla_pruner_ros.bags.writer import qos
from vla_pruner_ros.conversions.images import to_rgb


@pytest.fixture
def store():
    return standard_store()


def string_message(store, text: str) -> bytes:
    return bytes(store.serialize_cdr(store.types[types.STRING](data=text), types.STRING))


def image(store, rgb: np.ndarray, **changes) -> bytes:
    fields = {
        "header": store.types["std_msgs/msg/Header"](
            stamp=store.types["builtin_interfaces/msg/Time"](sec=3, nanosec=4), frame_id="eye"
        ),
        "height": rgb.shape[0],
        "width": rgb.shape[1],
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": 3 * rgb.shape[1],
        "data": rgb.reshape(-1),
    }
    message = store.types[types.IMAGE](**{**fields, **changes})
    return bytes(store.serialize_cdr(message, types.IMAGE))


def test_everything_is_written_in_order(tmp_path, store):
    recording = BagRecording(tmp_path / "bag", store)
    recording.add_topic("/instruction", types.STRING, qos(reliable=True))
    for number in range(500):
        assert recording.put("/instruction", number, string_message(store, str(number)))
    assert recording.close() == {"/instruction": 500}
    with BagReader(tmp_path / "bag") as reader:
        found = [(r.time, reader.decode(r).data) for r in reader.messages({"/instruction"})]
        assert recorder_remarks(reader.custom_data) == []
    assert found == [(number, str(number)) for number in range(500)]


def test_from_several_threads(tmp_path, store):
    recording = BagRecording(tmp_path / "bag", store)
    for topic in "abcd":
        recording.add_topic(f"/{topic}", types.STRING)

    def speak(topic: str) -> None:
        for number in range(200):
            recording.put(f"/{topic}", number, string_message(store, str(number)))

    threads = [threading.Thread(target=speak, args=topic) for topic in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recording.close() == {f"/{topic}": 200 for topic in "abcd"}


def test_full_queue_drops_counts_and_tells(tmp_path, store, monkeypatch):
    recording = BagRecording(tmp_path / "bag", store, max_queued_bytes=300_000)
    recording.add_topic("/image_raw", types.IMAGE)
    recording.add_topic("/instruction", types.STRING)
    data = image(store, np.zeros((200, 200, 3), np.uint8))  # 120 kB
    busy, release = threading.Event(), threading.Event()
    write = recording._writer.write

    def slow(*message):
        busy.set()
        release.wait()
        write(*message)

    monkeypatch.setattr(recording._writer, "write", slow)
    recording.put("/instruction", 0, string_message(store, "keeps the disk busy"))
    assert busy.wait(10)
    accepted = [recording.put("/image_raw", number, data) for number in range(5)]
    assert accepted == [True, True, False, False, False]
    assert recording.put(
        "/instruction", 9, string_message(store, "small ones have room of their own")
    )
    release.set()
    assert recording.close() == {"/image_raw": 2, "/instruction": 2}
    assert recording.dropped == {"/image_raw": 3}
    with BagReader(tmp_path / "bag") as reader:
        notes = json.loads(reader.custom_data[NOTE_KEY])
        assert notes["dropped"] == {"/image_raw": 3}
        remarks = recorder_remarks(reader.custom_data)
    assert remarks == ["the recorder dropped 3 messages on /image_raw"]


def test_disk_that_fails_is_told_and_every_message_counted(tmp_path, store, monkeypatch):
    recording = BagRecording(tmp_path / "bag", store)
    recording.add_topic("/instruction", types.STRING)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording._writer, "write", full)
    for number in range(10):
        recording.put("/instruction", number, string_message(store, "x"))
    recording.close()
    assert "No space left" in str(recording.failure)
    assert recording.dropped["/instruction"] == 10


def test_closed_recording_refuses_and_closing_twice_is_harmless(tmp_path, store):
    recording = BagRecording(tmp_path / "bag", store)
    recording.add_topic("/instruction", types.STRING)
    recording.close()
    assert not recording.put("/instruction", 0, string_message(store, "late"))
    assert recording.close() == {}


def test_existing_directory_is_not_overwritten(tmp_path, store):
    (tmp_path / "bag").mkdir()
    with pytest.raises(WriterError, match="exists already"):
        BagRecording(tmp_path / "bag", store)


@pytest.mark.parametrize(("kind", "tolerance"), [("png", 0), ("jpeg", 12)])
def test_packed_images_keep_header_and_image(tmp_path, store, kind, tolerance):
    rgb = np.kron(sample_image(5), np.ones((4, 4, 1), np.uint8))
    recording = BagRecording(tmp_path / "bag", store, image_compression=kind)
    recording.add_topic("/image_raw", types.IMAGE)
    recording.put("/image_raw", 7, image(store, rgb))
    assert recording.close() == {"/image_raw/compressed": 1}
    with BagReader(tmp_path / "bag") as reader:
        message = reader.decode(next(iter(reader.messages({"/image_raw/compressed"}))))
        remarks = recorder_remarks(reader.custom_data)
    assert (message.header.stamp.sec, message.header.frame_id) == (3, "eye")
    assert message.format == f"rgb8; {kind} compressed bgr8"
    assert np.abs(to_rgb(message).astype(int) - rgb).mean() <= tolerance
    assert bool(remarks) == (kind == "jpeg")


def test_image_that_cannot_be_packed_is_written_as_it_came(tmp_path, store):
    recording = BagRecording(tmp_path / "bag", store, image_compression="png")
    recording.add_topic("/depth", types.IMAGE)
    data = image(store, sample_image(1), encoding="16UC1")
    recording.put("/depth", 7, data)
    assert recording.close() == {"/depth": 1}
    assert recording.unpacked == {"/depth": 1}
    with BagReader(tmp_path / "bag") as reader:
        assert next(iter(reader.messages({"/depth"}))).data == data


def test_unknown_packing_is_refused(store):
    with pytest.raises(ValueError, match="must be png or jpeg, got 'webp'"):
        pack_image(store, image(store, sample_image(0)), "webp")


def test_abandoned_recording_can_be_read(tmp_path, store):
    """Leave a bag as a killed recorder does: no index, no metadata."""
    recording = BagRecording(tmp_path / "bag", store)
    recording.add_topic("/image_raw", types.IMAGE)
    data = image(store, np.zeros((200, 200, 3), np.uint8))
    for number in range(40):
        recording.put("/image_raw", number, data)
    recording._queue.put(None)
    recording._thread.join()
    recording._writer._writer.abort()
    with BagReader(tmp_path / "bag") as reader:
        count = sum(1 for _ in reader.messages({"/image_raw"}))
        assert reader.damage
    assert 30 <= count <= 40


def test_parameters_survive_as_an_event(tmp_path, store):
    with BagMaker(tmp_path / "source") as bag:
        bag.parameters(5, keep_ratio=0.5, seed=3, method="fastv", on=True, image_topics=["a", "b"])
    with BagReader(tmp_path / "source") as reader:
        event = reader.decode(next(iter(reader.messages({"/parameter_events"}))))
        names = [p.name for p in event.changed_parameters]
        values = [p.value for p in event.changed_parameters]
    expected = {
        "keep_ratio": 0.5, "seed": 3, "method": "fastv", "on": True, "image_topics": ["a", "b"]
    }  # fmt: skip
    assert plain_values(names, values) == expected
    recording = BagRecording(tmp_path / "bag", store)
    recording.add_topic("/parameter_events", types.PARAMETER_EVENT)
    recording.put("/parameter_events", 9, make_event(store, 77, "/vla_pruner", names, values))
    recording.close()
    with BagReader(tmp_path / "bag") as reader:
        assert read_parameters(reader, "/vla_pruner") == [(77, expected)]
        assert read_parameters(reader, "/other") == []


def test_a_parameter_without_a_value_is_left_out(tmp_path):
    """Today's node declares old names so. They were read as a recording with old settings."""
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(1, pruner=NOT_SET)
        bag.parameters(2, keep_ratio=0.5, warm_up=NOT_SET)
        bag.parameters(3, method="fastv", preset="default")
    with BagReader(tmp_path / "bag") as reader:
        first = first_parameters(read_parameters(reader, "/vla_pruner"))
    assert first == {"keep_ratio": 0.5, "method": "fastv", "preset": "default"}


def test_first_value_of_each_parameter_counts():
    changes = [(1, {"a": 1}), (2, {"b": 2}), (5, {"a": 9, "c": 3})]
    assert first_parameters(changes) == {"a": 1, "b": 2, "c": 3}
