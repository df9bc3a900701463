"""The newest frame of each camera, in sets that belong together."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.control.frames import CameraFrame, FrameBuffer

MS = 10**6


def frame(stamp_ms: int, arrival: float = 0.0) -> CameraFrame:
    return CameraFrame(f"image at {stamp_ms} ms", stamp_ms * MS, arrival)


def test_only_the_newest_frame_is_handed_out_and_once():
    buffer = FrameBuffer(1, 0.1)
    assert buffer.put(0, frame(1))
    assert buffer.put(0, frame(2))
    assert [f.stamp for f in buffer.take()] == [2 * MS]
    assert buffer.take() is None
    assert buffer.replaced == 1


def test_a_set_waits_for_every_camera():
    buffer = FrameBuffer(2, 0.1)
    assert not buffer.put(0, frame(0))
    assert buffer.take() is None
    assert buffer.put(1, frame(50))
    buffer.take()
    assert not buffer.put(1, frame(60)), "camera 0 has shown nothing new"


def test_stamps_too_far_apart_make_no_set_until_the_other_camera_catches_up():
    buffer = FrameBuffer(2, 0.1)
    buffer.put(0, frame(0))
    assert not buffer.put(1, frame(101))
    assert buffer.spread() == 0.101
    assert buffer.put(0, frame(90))


def test_clear_forgets_everything():
    buffer = FrameBuffer(1, 0.1)
    buffer.put(0, frame(1, arrival=5.0))
    assert buffer.arrivals() == [5.0]
    buffer.clear()
    assert buffer.take() is None
    assert buffer.arrivals() == [None]


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=60))
def test_every_set_is_new_complete_and_close(cameras, puts):
    buffer = FrameBuffer(cameras, 0.1)
    taken: set[tuple[int, int]] = set()
    for number, (camera, stamp) in enumerate(puts):
        if camera >= cameras:
            continue
        complete = buffer.put(camera, CameraFrame(number, stamp * MS, 0.0))
        found = buffer.take()
        assert (found is not None) == complete
        if found:
            stamps = [f.stamp for f in found]
            assert max(stamps) - min(stamps) <= 100 * MS
            used = {(i, f.message) for i, f in enumerate(found)}
            assert not used & taken, "a frame was handed out twice"
            taken |= used


def test_a_silent_camera_is_waited_for_only_as_long_as_patience_lasts():
    buffer, now = FrameBuffer(2, 0.1), time.monotonic()
    buffer.put(0, frame(0, now))
    assert not buffer.put(0, frame(1, now)), "waited for without end by default"
    buffer.patience = 1.0
    assert not buffer.put(0, frame(2, now)), "camera 1 may still come"
    buffer.put(1, frame(3, now - 1.5))
    assert buffer.missing() == [1]
    assert buffer.put(0, frame(400, now)), "its old frame is neither used nor compared"
    assert [f and f.stamp for f in buffer.take()] == [400 * MS, None]
    buffer.put(1, frame(410, now))
    assert buffer.missing() == []
    assert buffer.put(0, frame(420, now))
    assert None not in buffer.take()


def test_where_all_cameras_are_silent_there_is_no_set():
    buffer = FrameBuffer(2, 0.1)
    buffer.patience = 1.0
    for camera in (0, 1):
        buffer.put(camera, frame(0, time.monotonic() - 2.0))
    assert buffer.take() is None
    assert buffer.missing() == []


def test_a_frame_that_is_repeated_keeps_its_first_arrival():
    buffer = FrameBuffer(1, 0.1)
    for stamp, arrival, first in ((1, 10.0, 10.0), (1, 10.5, 10.0), (2, 11.0, 11.0)):
        buffer.put(0, frame(stamp, arrival))
        newest = buffer.newest()[0]
        assert (newest.arrival, newest.first) == (arrival, first)
