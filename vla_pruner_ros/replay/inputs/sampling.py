"""Every n-th frame of a bag from any recorder: no recorded outputs are needed.

Cameras are brought together as in the node (control/frames.py); instruction and joint state are the
newest received before a frame.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.parameter_events import plain_values
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.control.frames import CameraFrame, FrameBuffer
from vla_pruner_ros.conversions.instruction_and_state import (
    clean_instruction,
    named_positions,
    pose_of,
)
from vla_pruner_ros.replay.inputs.sample import ReplayInput
from vla_pruner_ros.replay.inputs.stamped import read_stamped
from vla_pruner_ros.replay.inputs.topics import Topics
from vla_pruner_ros.robots import Measured

REORDERED = 4
"""Frames per camera that are held to sort them by stamp."""
CLOCK_JUMP = 1_000_000_000
"""A stamp that goes back by more (ns) is a new pass of a looped recording, not a late frame."""


@dataclass
class Sampling:
    """Rule by which frames are picked, and counts of the frames that were left out.

    every: n, the frame sets between two inferences.
    instruction: used until one is received on the topic.
    follow_parameter: follow the recorded node's parameter `instruction` as it changes.
    max_spread: largest difference between the stamps of one set (s).
    relevance_timeout: a longer gap between inferences clears the temporal relevance (s).
    """

    every: int = 1
    instruction: str = ""
    max_spread: float = 0.1
    relevance_timeout: float = 2.0
    follow_parameter: bool = False
    without_instruction: int = field(default=0, init=False)
    late: int = field(default=0, init=False)
    after_gap: int = field(default=0, init=False)
    unreadable: dict[str, int] = field(default_factory=dict, init=False)

    def skipped(self) -> list[str]:
        """Return sentences about what was left out."""
        found = []
        if self.without_instruction:
            found.append(
                f"{self.without_instruction} frames came before the first instruction and were "
                "skipped; give --instruction to use them"
            )
        if self.late:
            found.append(f"{self.late} frames came after newer ones and were skipped")
        found += [f"{count} messages skipped: {why}" for why, count in self.unreadable.items()]
        return found

    def remarks(self) -> list[str]:
        """Return sentences about further peculiarities."""
        if not self.after_gap:
            return []
        return [
            f"{self.after_gap} inferences came more than relevance_timeout "
            f"({self.relevance_timeout:g} s) after the one before and start anew: a method that "
            "remembers runs unpruned there"
        ]


class InstructionParameter:
    """The parameter `instruction` of one node, as a bag's parameter events change it."""

    def __init__(self, node: str) -> None:
        self._node, self._value = node, None

    def changed_to(self, event: Any, instruction: str) -> str:
        """Return the instruction after an event.

        A node that starts, and the recorder at its start, name every value without a change: an
        instruction that came on the topic meanwhile stays.
        """
        if event.node != self._node:
            return instruction
        changed = event.changed_parameters
        named = [*event.new_parameters, *changed]
        values = plain_values([p.name for p in named], [p.value for p in named])
        if "instruction" not in values:
            return instruction
        before, self._value = self._value, str(values["instruction"] or "")
        is_set = len(named) == len(changed) == 1
        if before is None and not is_set:
            return instruction
        return self._value if is_set or before != self._value else instruction


class _Arrival(NamedTuple):
    stamp: int
    order: int
    camera: int
    message: Any
    state: tuple[Any, int]
    instruction: str
    measured: Measured = Measured()


def sampled_inputs(reader: BagReader, topics: Topics, sampling: Sampling) -> Iterator[ReplayInput]:
    """Yield an input for every n-th set of frames, in the order of their stamps."""
    buffer = FrameBuffer(len(topics.images), sampling.max_spread)
    sets, index, newest = 0, 0, 0
    before: ReplayInput | None = None
    for arrival in _in_stamp_order(_arrivals(reader, topics, sampling), topics, sampling):
        if arrival.stamp < newest:  # only a jump of the clock gets here, see _in_stamp_order
            buffer.clear()
        newest = arrival.stamp
        buffer.put(arrival.camera, CameraFrame(arrival.message, arrival.stamp, 0.0))
        frames = buffer.take()
        if frames is None:
            continue
        sets += 1
        if not arrival.instruction:
            sampling.without_instruction += 1
        elif (sets - 1) % sampling.every == 0:
            replay_input = _input(index, frames, arrival)
            reset = _reset(before, replay_input, sampling)
            sampling.after_gap += reset == "gap"
            yield replace(replay_input, reset=reset)
            before, index = replay_input, index + 1


def _input(index: int, frames: list[CameraFrame], arrival: _Arrival) -> ReplayInput:
    state, state_stamp = arrival.state
    return ReplayInput(
        index,
        frames[0].stamp,
        arrival.instruction,
        images=tuple(frame.message for frame in frames),
        image_stamps=tuple(frame.stamp for frame in frames),
        state=state,
        state_stamp=state_stamp,
        measured=arrival.measured,
    )


def _reset(before: ReplayInput | None, replay_input: ReplayInput, sampling: Sampling) -> str:
    if before is None:
        return "first"
    if replay_input.instruction != before.instruction:
        return "instruction"
    if replay_input.stamp < before.stamp:
        return "clock"
    gap = (replay_input.stamp - before.stamp) * 1e-9
    return "gap" if gap > sampling.relevance_timeout else ""


def _arrivals(reader: BagReader, topics: Topics, sampling: Sampling) -> Iterator[_Arrival]:
    """Yield every image with the instruction and joint state known when it was received."""
    cameras = {name: place for place, name in enumerate(topics.images)}
    instruction, state = clean_instruction(sampling.instruction), (None, 0)
    prefixes = {topic: prefix for prefix, topic in topics.states}
    joints: dict[str, float] = {}
    pose: tuple[Any, Any] = (None, None)
    parameter = InstructionParameter(topics.node)
    followed = topics.parameters if sampling.follow_parameter and topics.node else None
    others = (topics.instruction, topics.state, topics.pose, followed)
    names = {*cameras, *prefixes, *(name for name in others if name)}

    def on_error(error: BagError) -> None:
        sampling.unreadable[str(error)] = sampling.unreadable.get(str(error), 0) + 1

    for order, found in enumerate(read_stamped(reader, names, on_error)):
        record, message, stamp, _ = found
        if record.msgtype == types.STRING:
            instruction = clean_instruction(message.data)
        elif record.msgtype == types.PARAMETER_EVENT:
            instruction = clean_instruction(parameter.changed_to(message, instruction))
        elif record.msgtype == types.JOINT_STATE:
            joints = joints | named_positions(message, prefixes.get(record.topic, ""))
            if record.topic == topics.state:
                state = (message, stamp)
        elif record.topic == topics.pose:
            pose = pose_of(message) or pose
        else:
            camera = cameras[record.topic]
            measured = Measured(joints, *pose)
            yield _Arrival(stamp, order, camera, message, state, instruction, measured)


def _in_stamp_order(
    arrivals: Iterable[_Arrival], topics: Topics, sampling: Sampling
) -> Iterator[_Arrival]:
    """Sort by stamp over a few frames; a jump back starts anew, a late frame is left out."""
    depth = REORDERED * len(topics.images)
    held: list[_Arrival] = []
    newest, last = 0, 0
    for arrival in arrivals:
        if newest - arrival.stamp > CLOCK_JUMP:
            yield from _emptied(held)
            newest, last = 0, 0
        if arrival.stamp < last:
            sampling.late += 1
            continue
        heapq.heappush(held, arrival)
        newest = max(newest, arrival.stamp)
        if len(held) > depth:
            first = heapq.heappop(held)
            last = first.stamp
            yield first
    yield from _emptied(held)


def _emptied(held: list[_Arrival]) -> Iterator[_Arrival]:
    while held:
        yield heapq.heappop(held)
