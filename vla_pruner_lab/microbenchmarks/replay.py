"""Cost of a replay next to the model: time to read, convert, compare and report, and memory.

python -m vla_pruner_lab.microbenchmarks.replay --frames 20000 --markdown FILE

Writes a bag of noise images with a recorded output for each. Replays it as vla_pruner_replay does,
report included, with a policy that returns at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vla_pruner_lab.common.machine import PeakMemory, metadata
from vla_pruner_lab.common.program import COUNT, lab_program
from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.image_packing import pack_image
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.bags.stamps import SECOND, time_message
from vla_pruner_ros.bags.writer import BagWriter
from vla_pruner_ros.models.policy import ActionChunk, Observation, PruningReport
from vla_pruner_ros.pruning.budget import tokens_to_keep
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.cli import replay_with
from vla_pruner_ros.replay.options import make_parser
from vla_pruner_ros.replay.results.outputs import OutputMessages
from vla_pruner_ros.replay.results.result import ReplayResult

PROGRAM = lab_program("microbenchmarks.replay", __doc__, "--frames 200")
PERIOD = SECOND // 10
SIDE = 16
"""Patches along one side of the image, as of OpenVLA."""
IMAGES = 8
"""Different images in a bag; more would not change the load of disk and page cache."""


class InstantPolicy:
    """Policy that returns at once; its actions depend on the image and on the budget."""

    family, trained, chunk_size, num_cameras, state_dim = "instant", False, 1, 1, 0

    def __init__(self) -> None:
        self.pruning = PruningConfig()

    def reset(self) -> None:
        """Nothing is remembered."""

    def act(self, observation: Observation) -> ActionChunk:
        """Return one action that depends on the first pixel and on keep_ratio alone."""
        keep = tokens_to_keep(self.pruning.keep_ratio, SIDE * SIDE)
        first = float(observation.images[0][0, 0, 0]) / 255.0
        actions = np.full((1, 7), 0.01 * first + 0.001 * self.pruning.keep_ratio, np.float32)
        report = PruningReport(
            kept_indices=[np.arange(keep, dtype=np.int32)],
            grid=(SIDE, SIDE),
            tokens_total=SIDE * SIDE,
            tokens_requested=keep,
            tokens_kept=keep,
            method=self.pruning.method,
            timings={"total": 0.0},
        )
        return ActionChunk(actions, report)


def write_bag(path: Path, frames: int, width: int, height: int, compression: str) -> None:
    """Write noise images at 10 Hz and the outputs of an InstantPolicy for each.

    compression: none, png or jpeg, as of the recorder.
    """
    store = types.standard_store()
    policy = InstantPolicy()
    ratio = policy.pruning.keep_ratio
    messages = OutputMessages(store, policy.family, policy.trained)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, height, width, 3), np.uint8)
    packed = compression != "none"
    topic, msgtype = ("/image_raw/compressed", types.COMPRESSED_IMAGE) if packed else (
        "/image_raw", types.IMAGE)  # fmt: skip
    writer = BagWriter(path, store)
    for topic_, type_ in ((topic, msgtype), ("/instruction", types.STRING)):
        writer.add_topic(topic_, type_)
    writer.write_message("/instruction", 0, types.STRING, store.types[types.STRING](data="go"))
    for number in tqdm(range(frames), "writing the bag", unit="frame"):
        image, stamp = images[number % IMAGES], (number + 1) * PERIOD
        data = store.serialize_cdr(_image(store, image, stamp), types.IMAGE)
        writer.write(topic, stamp, pack_image(store, data, compression, 90) if packed else data)
        chunk = policy.act(Observation([image], "go"))
        answer = messages.chunk(
            chunk, sequence=number, image_stamps=[stamp], instruction="go",
            started=stamp + 1, seconds=0.01,
        )  # fmt: skip
        status = messages.status(chunk.pruning, sequence=number, stamp=stamp, keep_ratio=ratio)
        received = stamp + PERIOD // 2
        writer.write_message("/vla_pruner/action_chunk", received, types.ACTION_CHUNK, answer)
        writer.write_message("/vla_pruner/pruning", received, types.PRUNING_STATUS, status)
    writer.close()


def _image(store, image: np.ndarray, stamp: int):
    height, width, channels = image.shape
    header = store.types["std_msgs/msg/Header"]
    return store.types[types.IMAGE](
        header=header(stamp=time_message(store, stamp), frame_id="camera"),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * channels,
        data=image.reshape(-1),
    )


def measure(bag: Path, out: Path) -> tuple[ReplayResult, float, float]:
    """Replay the recorded settings and one smaller budget.

    Returns:
        The outcome, seconds in all, and MB that the process grew by at its peak.
    """
    command = [str(bag), "--checkpoint", "-", "--out", str(out), "--keep-ratio", "1.0", "0.25"]
    arguments = make_parser().parse_args(command)
    memory = PeakMemory(torch.device("cpu"))
    memory.restart()
    started = time.perf_counter()
    with BagReader(bag) as reader:
        outcome = replay_with(InstantPolicy(), reader, arguments)
    return outcome, time.perf_counter() - started, memory.peak(0.0)


def report(
    arguments: argparse.Namespace, outcome: ReplayResult, seconds: float, peak: float
) -> str:
    """Return the result as Markdown."""
    steps = sum(len(run.steps) for run in outcome.runs)
    lines = [
        f"- {key}: {value}" for key, value in metadata(__spec__.name, torch.device("cpu")).items()
    ]
    lines += [
        "",
        f"{arguments.frames} frames of {arguments.width}x{arguments.height}, compression "
        f"{arguments.compression}; {len(outcome.runs)} runs over the bag, report included; the "
        "policy returns at once.",
        "",
        "| | |",
        "|---|---|",
        f"| reading and converting one frame | {1e3 * outcome.reading_seconds:.2f} ms |",
        f"| everything, per frame and run | {1e3 * seconds / steps:.2f} ms |",
        f"| peak growth of the process | {peak:.0f} MB |",
        f"| equal to the recording | {outcome.parity.equal} of {outcome.parity.recorded} |",
    ]
    return "\n".join(["# Cost of a replay next to the model", "", *lines]) + "\n"


@PROGRAM.main
def main(given: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--frames", type=COUNT, default=1000, help="of the bag")
    parser.add_argument("--width", type=COUNT, default=640, help="pixels")
    parser.add_argument("--height", type=COUNT, default=480, help="pixels")
    parser.add_argument("--compression", choices=("none", "png", "jpeg"), default="none")
    parser.add_output("--markdown", help="write the result there")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="replay_benchmark_") as directory:
        bag = Path(directory) / "bag"
        shape = arguments.width, arguments.height
        print(f"Writing a bag of {arguments.frames} frames, then replaying it", file=sys.stderr)
        write_bag(bag, arguments.frames, *shape, arguments.compression)
        text = report(arguments, *measure(bag, Path(directory) / "out"))
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
