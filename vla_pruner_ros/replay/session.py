"""Session of a replay: an open bag, its topics, its recorded outputs, and its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from vla_pruner_ros.bags.parameter_events import Changes, first_parameters, read_parameters
from vla_pruner_ros.bags.parameter_file import read_parameter_file
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.pruning.config import FIELD_NAMES, PruningConfig
from vla_pruner_ros.replay.inputs.camera_order import order_by_stamps
from vla_pruner_ros.replay.inputs.exact import recorded_inputs
from vla_pruner_ros.replay.inputs.recorded import Recorded, pruning_config, read_recorded
from vla_pruner_ros.replay.inputs.sample import ReplayInput
from vla_pruner_ros.replay.inputs.sampling import Sampling, sampled_inputs
from vla_pruner_ros.replay.inputs.topics import (
    TopicSelection,
    choose_topics,
    find_node,
    recorded_commands,
    remarks_on_choice,
)


@dataclass(frozen=True)
class Choice:
    """Choice of the user for a session.

    every: 0 replays the recorded inferences; n replays every n-th set of frames.
    limit: most inferences, 0 for all. instruction: for all frames; with selection.instruction, for
    those before the first one received there.
    params_file: parameters of the recorded node as the recording began.
    """

    selection: TopicSelection = field(default_factory=TopicSelection)
    every: int = 0
    limit: int = 0
    instruction: str = ""
    params_file: Path | None = None


def recorded_parameters(reader: BagReader, choice: Choice) -> Changes:
    """Return the parameters of the recorded node over time, beginning with those of the file.

    Raises:
        BagError: the choice of node is not clear. ValueError: the file cannot be used.
    """
    node = find_node(reader.topics, choice.selection.node)
    changes = read_parameters(reader, node) if node else []
    if choice.params_file is None:
        return changes
    return [(0, read_parameter_file(choice.params_file, node)), *changes]


class Session:
    """The inputs of a bag, the same ones on every pass.

    Attributes:
        inferences: recorded ones, empty in every-n-th mode.
        robot: profile that explained the recorded node's numbers, "" in bags of earlier releases.
        joints: parameter state_joints of the recorded node, if it is in the bag.
        pruning: the recorded node's first settings, or the defaults.
    """

    def __init__(self, reader: BagReader, num_cameras: int, choice: Choice) -> None:
        """Find the topics and read the recorded outputs.

        Raises:
            BagError: topics are missing or not clear, or there is nothing to replay.
            ValueError: the parameter file cannot be used.
        """
        self._reader, self._choice = reader, choice
        changes = recorded_parameters(reader, choice)
        parameters = first_parameters(changes)
        self.topics = choose_topics(
            reader.topics,
            num_cameras,
            choice.selection,
            parameters.get("image_topics") or (),
            parameters.get("joint_state_topics") or (),
        )
        run = read_recorded(reader, self.topics, changes, choice.limit)
        self.exact = choice.every == 0 and bool(run.inferences)
        self._skipped = list(run.skipped)
        self._remarks: list[str] = []
        if not self.exact:  # a chunk names its instruction and its state
            if choice.instruction and not choice.selection.instruction:
                self.topics = replace(self.topics, instruction=None)
            else:
                self._remarks += remarks_on_choice(reader.topics, self.topics)
        if choice.every == 0 and not run.inferences:
            self._remark_on_commands()
        self.inferences: list[Recorded] = run.inferences if self.exact else []
        if not (choice.selection.images or parameters.get("image_topics")):
            self._order_cameras(run.inferences)
        if self.exact:
            self._remark_on_parameters(parameters)
        self.joints = tuple(parameters.get("state_joints") or ())
        named = [one.robot for one in run.inferences if one.robot]
        self.robot = str(parameters.get("robot") or (named[0] if named else ""))
        self.pruning = self._first_pruning(parameters)
        self._sampling = Sampling(
            every=max(choice.every, 1),
            instruction=choice.instruction or str(parameters.get("instruction") or ""),
            follow_parameter=not choice.instruction,
            max_spread=float(parameters.get("max_camera_spread", Sampling.max_spread)),
            relevance_timeout=float(
                parameters.get("relevance_timeout", Sampling.relevance_timeout)
            ),
        )
        self._last_pass = self._sampling
        self._check_not_empty()

    @property
    def skipped(self) -> list[str]:
        """Messages of the bag that were left out, complete after one pass."""
        return [*self._skipped, *self._last_pass.skipped()]

    @property
    def remarks(self) -> list[str]:
        """Uncertain points, complete after one pass."""
        return [*self._remarks, *self._last_pass.remarks()]

    @property
    def expected(self) -> int:
        """Approximate number of inputs in a pass, for a progress bar."""
        if self.exact:
            return len(self.inferences)
        frames = self._reader.topics[self.topics.images[0]].count // self._sampling.every
        return min(frames, self._choice.limit) if self._choice.limit else frames

    def inputs(self) -> Iterator[ReplayInput]:
        """Yield the inputs of one pass over the bag."""
        if self.exact:
            yield from recorded_inputs(self._reader, self.topics, self.inferences)
            return
        self._last_pass = replace(self._sampling)
        found = sampled_inputs(self._reader, self.topics, self._last_pass)
        yield from islice(found, self._choice.limit or None)

    def _first_pruning(self, parameters: dict) -> PruningConfig:
        try:
            return pruning_config(parameters)
        except (ValueError, TypeError) as error:
            self._remarks.append(f"the recorded parameters are not usable: {error}")
            return PruningConfig()

    def _order_cameras(self, outputs: list[Recorded]) -> None:
        images, certain = order_by_stamps(self._reader, self.topics.images, outputs)
        self.topics = replace(self.topics, images=images)
        if not certain:
            self._remarks.append(
                f"the bag does not name the cameras' order: taken as {', '.join(images)}; choose "
                "with --image-topic, in the policy's order"
            )

    def _remark_on_commands(self) -> None:
        commands = recorded_commands(self._reader.topics)
        if commands:
            self._remarks.append(
                f"the bag has commands ({', '.join(commands)}) but no ActionChunk: what the policy "
                "returned for which images is not known. Every set of images is replayed, and "
                "nothing is compared with the recording"
            )

    def _remark_on_parameters(self, parameters: dict) -> None:
        if not parameters.keys() >= set(FIELD_NAMES):
            self._remarks.append(
                "not all pruning parameters of the recorded node are in the bag (ros2 bag record "
                "notes changes alone): defaults stand for the others; give --params with what "
                "ros2 param dump wrote"
            )

    def _check_not_empty(self) -> None:
        counts = [self._reader.topics[name].count for name in self.topics.images]
        if not min(counts):
            raise BagError(f"the bag has no message on {' or '.join(self.topics.images)}")
