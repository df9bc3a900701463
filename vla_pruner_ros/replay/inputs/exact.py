"""Exact mode: the messages that each recorded inference was computed from.

One pass over the bag. An ActionChunk names the stamps of its images and joint state; they were
received shortly before it, so only the newest messages are held, whatever the bag's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.replay.inputs.recorded import Recorded
from vla_pruner_ros.replay.inputs.sample import ReplayInput
from vla_pruner_ros.replay.inputs.stamped import read_stamped
from vla_pruner_ros.replay.inputs.topics import Topics

HELD_BYTES = 256 << 20
"""Most bytes of recent images held, about ten seconds of one raw 640x480 camera at 30 Hz."""
HELD_STATES = 4096
GRACE = 2_000_000_000
"""Longest time (ns) from a chunk to its image in the bag; later the image counts as lost."""


@dataclass(frozen=True)
class _Held:
    stamp: int
    received: int
    message: Any
    size: int


_NONE = _Held(0, 0, None, 0)


class _Recent:
    """The newest messages of one topic, limited in bytes and in number."""

    def __init__(self, max_bytes: int, max_count: int = 1 << 20) -> None:
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._max_bytes, self._max_count = max_bytes, max_count

    def add(self, one: _Held) -> None:
        self._held.append(one)
        self._bytes += one.size
        while self._bytes > self._max_bytes or len(self._held) > self._max_count:
            self._bytes -= self._held.popleft().size

    def with_stamp(self, stamp: int) -> _Held:
        """Return the newest message with this stamp, or none."""
        return next((one for one in reversed(self._held) if one.stamp == stamp), _NONE)

    def received_by(self, time: int) -> _Held:
        """Return the newest message received by then, or none."""
        return next((one for one in reversed(self._held) if one.received <= time), _NONE)


class _Aligner:
    """Stream of images and states, turned into the inputs of the recorded inferences."""

    def __init__(self, topics: Topics, inferences: Sequence[Recorded]) -> None:
        share = HELD_BYTES // len(topics.images)
        self._images = {name: _Recent(share) for name in topics.images}
        self._states = _Recent(HELD_BYTES, HELD_STATES)
        self._topics = topics
        self._pending = deque(enumerate(inferences))
        self._before: ReplayInput | None = None

    @property
    def is_done(self) -> bool:
        return not self._pending

    def add(self, topic: str, one: _Held) -> None:
        (self._images.get(topic) or self._states).add(one)

    def ready(self, now: int) -> Iterator[ReplayInput]:
        """Yield the inputs of chunks received by now, in order; a missing image is awaited."""
        while self._pending and self._pending[0][1].received <= now:
            index, recorded = self._pending[0]
            replay_input = self._input(index, recorded)
            if replay_input.problem and recorded.received + GRACE > now:
                return
            self._pending.popleft()
            replay_input = replace(replay_input, reset=self._reset(recorded))
            self._before = replay_input
            yield replay_input

    def rest(self) -> Iterator[ReplayInput]:
        """Yield the inputs that are left at the end of the bag."""
        yield from self.ready(1 << 62)

    def _input(self, index: int, recorded: Recorded) -> ReplayInput:
        images = tuple(
            self._image(place, name, recorded) for place, name in enumerate(self._topics.images)
        )
        missing = [
            topic
            for place, (topic, image) in enumerate(zip(self._topics.images, images, strict=True))
            if image is _NONE and not recorded.went_without(place)
        ]
        problem = f"the image on {', '.join(missing)} is not in the bag" if missing else ""
        state = self._state(recorded)
        return ReplayInput(
            index=index,
            stamp=recorded.stamp,
            instruction=recorded.instruction,
            images=tuple(image.message for image in images),
            image_stamps=tuple(image.stamp for image in images),
            state=state.message,
            state_stamp=state.stamp,
            recorded=recorded,
            problem=problem,
        )

    def _image(self, place: int, topic: str, recorded: Recorded) -> _Held:
        if recorded.went_without(place):
            return _NONE
        if place < len(recorded.image_stamps):
            return self._images[topic].with_stamp(recorded.image_stamps[place])
        return self._images[topic].received_by(recorded.started or recorded.received)

    def _state(self, recorded: Recorded) -> _Held:
        if recorded.state_stamp:
            return self._states.with_stamp(recorded.state_stamp)
        return self._states.received_by(recorded.started or recorded.received)

    def _reset(self, recorded: Recorded) -> str:
        if recorded.resets is not None:
            return "recorded" if recorded.resets else ""
        before = self._before
        if before is None:
            return "first"
        if recorded.instruction != before.instruction:
            return "instruction"
        return "clock" if recorded.stamp < before.stamp else ""


def recorded_inputs(
    reader: BagReader, topics: Topics, inferences: Sequence[Recorded]
) -> Iterator[ReplayInput]:
    """Yield one input per recorded inference, in order; one whose image is lost has a problem."""
    aligner = _Aligner(topics, inferences)
    names = {*topics.images, *([topics.state] if topics.state else [])}
    # The inference that needs an unreadable message reports it as missing.
    for record, message, stamp, size in read_stamped(reader, names, lambda _: None):
        aligner.add(record.topic, _Held(stamp, record.time, message, size))
        yield from aligner.ready(record.time)
        if aligner.is_done:
            return
    yield from aligner.rest()
