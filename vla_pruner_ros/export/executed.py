"""The motion that was carried out, as episodes of frames: newest images, joints and the action."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.bags.stamps import nanoseconds
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.export.inferences import DISPLACEMENT, ExportSource
from vla_pruner_ros.replay.inputs.stamped import read_stamped

PAUSE = 1.0
"""Time without motion (s) that ends an episode."""


@dataclass(frozen=True)
class ExecutedFrame:
    """One action and what was seen when it was published.

    begins: whether an episode begins with it. images: uint8 [H, W, 3] by topic. state: float32 [n].
    action: float32 [n].
    """

    begins: bool
    stamp: int
    instruction: str
    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray


@dataclass(frozen=True)
class MotionForm:
    """Form of the motion: names of action and state numbers, and frames a second (Hz)."""

    action_names: list[str]
    state_names: list[str]
    frames_per_second: int


class ExecutedMotion:
    """The published actions of a bag; where there are none, the first action of each chunk."""

    def __init__(self, source: ExportSource) -> None:
        """Look at the first messages.

        Raises:
            ValueError: the bag holds no actions.
        """
        self._source = source
        topic = f"{source.topics.node}/action"
        self._actions = topic if topic in source.reader.topics else ""
        if not self._actions and not source.session.exact:
            raise ValueError(
                "the bag holds no actions of a vla_pruner node: a data set needs a bag that "
                "vla_pruner_recorder recorded next to one"
            )
        self.form = self._published_form() if self._actions else self._chunk_form()

    def frames(self) -> Iterator[ExecutedFrame]:
        """Yield all frames of all episodes, in order."""
        yield from self._published() if self._actions else self._chunks()

    def _published_form(self) -> MotionForm:
        reader, topics = self._source.reader, self._source.topics
        names: list[str] = []
        if topics.state:
            record = next(iter(reader.messages({topics.state})), None)
            names = list(reader.decode(record).name) if record else []
        record = next(iter(reader.messages({self._actions})))
        duration = reader.decode(record).duration
        seconds = duration.sec + 1e-9 * duration.nanosec
        return MotionForm(
            list(DISPLACEMENT), names, max(1, round(1.0 / seconds)) if seconds else 10
        )

    def _chunk_form(self) -> MotionForm:
        outputs = self._source.session.inferences
        stamps = np.array([one.stamp for one in outputs])
        steps = np.diff(stamps) * 1e-9
        rate = 1.0 / float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 10.0
        width = len(outputs[0].state)
        return MotionForm(
            self._source.action_names(), self._source.state_names(width), max(1, round(rate))
        )

    def _published(self) -> Iterator[ExecutedFrame]:
        topics = self._source.topics
        words = {one.sequence: one.instruction for one in self._source.session.inferences}
        wanted = {*topics.images, self._actions, *([topics.state] if topics.state else [])}
        images: dict[str, Any] = {}
        state = np.zeros(len(self.form.state_names), np.float32)
        cut = _Episodes()
        for record, message, _, _ in read_stamped(self._source.reader, wanted, self._skip):
            if record.topic in topics.images:
                images[record.topic] = message
            elif record.topic == topics.state:
                state = self._positions(message, state)
            elif not message.stop and len(images) == len(topics.images):
                stamp = nanoseconds(message.header.stamp)
                instruction = words.get(message.sequence, "")
                yield ExecutedFrame(
                    cut.begins(stamp, instruction),
                    stamp,
                    instruction,
                    {topic: to_rgb(images[topic]) for topic in topics.images},
                    state,
                    _numbers(message),
                )

    def _positions(self, message: Any, before: np.ndarray) -> np.ndarray:
        """Return the joints in the order of the first message; others' messages change nothing."""
        found = dict(zip(message.name, message.position, strict=False))
        if not set(self.form.state_names) <= found.keys():
            return before
        return np.array([found[name] for name in self.form.state_names], np.float32)

    def _chunks(self) -> Iterator[ExecutedFrame]:
        cut = _Episodes()
        for one in self._source.inferences():
            yield ExecutedFrame(
                cut.begins(one.stamp, one.instruction),
                one.stamp,
                one.instruction,
                one.images,
                np.array(one.state, np.float32),
                one.actions[0].astype(np.float32),
            )

    def _skip(self, error: Exception) -> None:
        self._source.skipped.append(str(error))


class _Episodes:
    """Cuts motion into episodes: at a pause, a new instruction, or a jump of the clock."""

    def __init__(self) -> None:
        self._last, self._words = 0, None

    def begins(self, stamp: int, instruction: str) -> bool:
        gap = (stamp - self._last) * 1e-9
        paused = not 0.0 <= gap <= PAUSE
        begins = self._words is None or instruction != self._words or paused
        self._last, self._words = stamp, instruction
        return begins


def _numbers(message: Any) -> np.ndarray:
    move, turn = message.translation, message.rotation
    values = (move.x, move.y, move.z, turn.x, turn.y, turn.z, message.gripper)
    return np.array(values, np.float32)
