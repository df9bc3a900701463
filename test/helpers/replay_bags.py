"""Bags and a policy for the replay's tests. The bags are written by rosbags, without ROS."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from rosbags.rosbag2 import Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.models.policy import ActionChunk, Observation, PolicyError, PruningReport
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.results.outputs import OutputMessages
from vla_pruner_ros.settings import AUTO

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
PERIOD = SECOND // 10
NOT_SET = object()
"""A parameter that is declared without a value."""
GRID = (4, 4)
NODE = "/vla_pruner"


class MemoryPolicy:
    """A deterministic policy whose actions depend on image, instruction, state, budget and memory.

    It remembers the mean colours of the last frames as a pruned VLA remembers action attention. So
    a wrong frame, a missed reset or another order of frames changes its actions. As there, only a
    pruned step looks at the memory, and what it leaves depends on what it saw there.
    """

    family, trained, chunk_size = "memory", False, 2

    can_miss_cameras = False
    robot = str(Path(__file__).parent / "robots" / "end_effector.yaml")

    def __init__(self, num_cameras: int = 1, state_dim: int = 0) -> None:
        self.num_cameras, self.state_dim = num_cameras, state_dim
        self.pruning = PruningConfig()
        self.history: list[float] = []
        self.calls = 0

    def reset(self) -> None:
        self.history.clear()

    def act(self, observation: Observation) -> ActionChunk:
        self.calls += 1
        if observation.instruction == "fail":
            raise PolicyError("this instruction is refused")
        colour = np.mean([image.mean((0, 1)) for image in observation.images], axis=0) / 255.0
        memory = sum(self.history) / 7.0 if self.pruning.keep_ratio < 1.0 else 0.0
        state = 0.0 if observation.state is None else float(np.sum(observation.state))
        length = len(observation.instruction) / 100.0
        step = np.array([*colour, memory, length, state, colour[0] > 0.5])
        actions = np.stack([step, step / 2]) * 0.02
        actions[:, :3] += 0.01 * (1.0 - self.pruning.keep_ratio)
        report = self._report(colour)
        window = self.pruning.temporal_window
        self.history = [*self.history, float(colour[0]) + memory / 9.0][-window:]
        return ActionChunk(actions.astype(np.float32), report)

    def _report(self, colour: np.ndarray) -> PruningReport:
        total = 16 * self.num_cameras
        keep = max(1, round(self.pruning.keep_ratio * 16))
        first = int(colour[0] * 15)
        kept = np.sort((np.arange(keep) + first) % 16).astype(np.int32)
        return PruningReport(
            kept_indices=[kept] * self.num_cameras,
            grid=GRID,
            tokens_total=total,
            tokens_requested=keep * self.num_cameras,
            tokens_kept=keep * self.num_cameras,
            method=self.pruning.method,
            history_incomplete=len(self.history) < self.pruning.temporal_window,
            history_length=len(self.history),
            timings={"total": 0.001},
        )


def sample_image(number: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Return an image that differs from every other number's."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = (number * 37) % 256
    image[..., 1] = np.arange(size[1])[None] * 3
    image[: size[0] // 2, :, 2] = (number * 11) % 256
    return image


class BagMaker:
    """Writes a bag message by message; times are in ns from START."""

    def __init__(
        self,
        path: Path,
        storage: StoragePlugin = StoragePlugin.MCAP,
        compression: CompressionMode = CompressionMode.NONE,
        version: int = 9,
        store: Typestore | None = None,
        definitions: bool = True,
    ) -> None:
        self.store = store or standard_store()
        self.writer = Writer(path, version=version, storage_plugin=storage)
        if compression != CompressionMode.NONE:
            self.writer.set_compression(compression, CompressionFormat.ZSTD)
        self.writer.open()
        self.definitions = definitions
        self.connections = {}
        self.sequence = 0

    def __enter__(self) -> BagMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def make(self, name: str, /, **fields):
        return self.store.types[name](**fields)

    def time(self, nanoseconds: int):
        seconds, rest = divmod(nanoseconds, SECOND)
        return self.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)

    def header(self, stamp: int):
        return self.make("std_msgs/msg/Header", stamp=self.time(START + stamp), frame_id="camera")

    def add(self, topic: str, msgtype: str, time: int, message) -> None:
        self.raw(topic, msgtype, time, self.store.serialize_cdr(message, msgtype))

    def raw(self, topic: str, msgtype: str, time: int, data: bytes) -> None:
        if topic not in self.connections:
            embedded = {"typestore": self.store}
            if not self.definitions:
                embedded = {"msgdef": "", "rihs01": "RIHS01_0"}
            self.connections[topic] = self.writer.add_connection(topic, msgtype, **embedded)
        self.writer.write(self.connections[topic], START + time, data)

    def image(self, rgb: np.ndarray, stamp: int, topic: str = "/image_raw", **changes) -> None:
        fields = {
            "header": self.header(stamp),
            "height": rgb.shape[0],
            "width": rgb.shape[1],
            "encoding": "rgb8",
            "is_bigendian": 0,
            "step": rgb.shape[1] * 3,
            "data": np.ascontiguousarray(rgb).reshape(-1),
        }
        received = changes.pop("received", stamp + 1_000_000)
        message = self.make(types.IMAGE, **{**fields, **changes})
        self.add(topic, types.IMAGE, received, message)

    def compressed(self, rgb: np.ndarray, stamp: int, kind: str = "PNG", topic="/image/compressed"):
        buffer = io.BytesIO()
        PillowImage.fromarray(rgb).save(buffer, kind)
        message = self.make(
            types.COMPRESSED_IMAGE,
            header=self.header(stamp),
            format=kind.lower(),
            data=np.frombuffer(buffer.getvalue(), np.uint8),
        )
        self.add(topic, types.COMPRESSED_IMAGE, stamp + 1_000_000, message)

    def instruction(self, text: str, time: int, topic: str = "/instruction") -> None:
        self.add(topic, types.STRING, time, self.make(types.STRING, data=text))

    def joints(self, names: list[str], positions: list[float], time: int) -> None:
        message = self.make(
            types.JOINT_STATE,
            header=self.header(time),
            name=names,
            position=np.array(positions),
            velocity=np.zeros(0),
            effort=np.zeros(0),
        )
        self.add("/joint_states", types.JOINT_STATE, time, message)

    def parameters(self, time: int, node: str = NODE, **values) -> None:
        empty = np.zeros(0)
        kinds = {bool: (1, "bool_value"), int: (2, "integer_value"), float: (3, "double_value")}
        kinds |= {str: (4, "string_value"), list: (9, "string_array_value")}
        found = []
        for name, value in values.items():
            value = AUTO if value is None else value
            kind, field = kinds[type(value)] if value is not NOT_SET else (0, "integer_value")
            value = 0 if value is NOT_SET else value
            blank = {
                "bool_value": False,
                "integer_value": 0,
                "double_value": 0.0,
                "string_value": "",
                "byte_array_value": np.zeros(0, np.uint8),
                "bool_array_value": empty.astype(bool),
                "integer_array_value": empty.astype(np.int64),
                "double_array_value": empty,
                "string_array_value": [],
            }
            content = self.make(
                "rcl_interfaces/msg/ParameterValue", type=kind, **{**blank, field: value}
            )
            found.append(self.make("rcl_interfaces/msg/Parameter", name=name, value=content))
        event = self.make(
            types.PARAMETER_EVENT,
            stamp=self.time(START + time),
            node=node,
            new_parameters=[],
            changed_parameters=found,
            deleted_parameters=[],
        )
        self.add("/parameter_events", types.PARAMETER_EVENT, time, event)

    def answer(
        self,
        policy: MemoryPolicy,
        stamps: list[int],
        observation: Observation,
        state_stamp: int = 0,
        node: str = NODE,
        status: bool = True,
        received: int | None = None,
    ) -> ActionChunk:
        """Let the policy act and record what the node would publish."""
        chunk = policy.act(observation)
        time = stamps[0] + 40_000_000 if received is None else received
        messages = OutputMessages(self.store, policy.family, policy.trained)
        message = messages.chunk(
            chunk,
            sequence=self.sequence,
            image_stamps=[START + stamp for stamp in stamps],
            state_stamp=START + state_stamp if state_stamp else 0,
            instruction=observation.instruction,
            started=START + stamps[0] + 2_000_000,
            seconds=0.03,
            period=0.1,
        )
        self.add(f"{node}/action_chunk", types.ACTION_CHUNK, time, message)
        if status:
            pruning = policy.pruning
            message = messages.status(
                chunk.pruning,
                sequence=self.sequence,
                stamp=START + stamps[0],
                keep_ratio=pruning.keep_ratio,
                budget_mode=pruning.budget_mode,
            )
            self.add(f"{node}/pruning", types.PRUNING_STATUS, time + 1000, message)
        self.sequence += 1
        return chunk


def record_episode(bag: BagMaker, frames: int = 12, policy: MemoryPolicy | None = None) -> list:
    """Record frames, two instructions, a keep ratio changed while running, and a reset.

    Returns:
        The recorded chunks.
    """
    policy = policy or MemoryPolicy()
    chunks = []
    policy.pruning = PruningConfig(keep_ratio=0.5, temporal_window=4)
    bag.parameters(-2 * PERIOD, **vars(policy.pruning), image_topics=["image_raw"])
    instruction = "pick up the cup"
    bag.instruction(instruction, -PERIOD)
    for number in range(frames):
        stamp = number * PERIOD
        if number == frames // 3:
            bag.parameters(stamp, keep_ratio=0.25)
            policy.pruning = PruningConfig(keep_ratio=0.25, temporal_window=4)
        if number == frames // 2:
            instruction = "close the drawer"
            bag.instruction(instruction, stamp)
            policy.reset()
        if number == frames * 3 // 4:
            policy.reset()  # ~/reset leaves no message
        bag.image(sample_image(number), stamp)
        chunks.append(bag.answer(policy, [stamp], Observation([sample_image(number)], instruction)))
    return chunks
