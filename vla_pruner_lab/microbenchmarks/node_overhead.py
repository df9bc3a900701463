"""Time that the node adds to the policy's: image callback to action publication, less the policy's.

python -m vla_pruner_lab.microbenchmarks.node_overhead --seconds 60 --markdown FILE

Starts vla_pruner_node as a process of its own, sends it images over DDS on loopback and reads the
percentiles from its diagnostics (over its last 100 inferences).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_pruner_lab.common.program import COUNT, POSITIVE, lab_program
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.resources import share_directory
from vla_pruner_ros.robots import load_profile

PROGRAM = lab_program("microbenchmarks.node_overhead", __doc__, "--seconds 20")
DISCOVERY = 10.0
"""Longest wait for the node's subscription (s)."""

NODE = "vla_pruner_node"

ALOHA_CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
ALOHA_START = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0)
"""Joint positions of one arm (rad)."""
SMALLEST = {"hidden": 32, "layers": 5, "mlp": 64, "vision_width": 32, "vision_depth": 2}
"""A policy that leaves the node most of the time: it is not what is measured."""
STATE_RATE = 50.0
"""Joint states a second."""

IDLE = 10.0
"""Time without images (s) over which the CPU time is taken."""

ENOUGH = 0.9
"""Share of images that must reach the node; below it, the transport would be measured."""


def parse_arguments(given: list[str]) -> argparse.Namespace:
    """Parse the command line of the benchmark."""
    parser = PROGRAM.parser()
    parser.add_argument("--seconds", type=POSITIVE, default=30.0, help="of each part")
    parser.add_argument("--rate", type=POSITIVE, default=10.0, help="images per second")
    parser.add_argument(
        "--robot",
        choices=("end_effector", "aloha"),
        default="end_effector",
        help="end_effector: OpenVLA with one camera; aloha: pi0 with 14 joints and three cameras",
    )
    parser.add_argument("--width", type=COUNT, default=640, help="pixels")
    parser.add_argument("--height", type=COUNT, default=480, help="pixels")
    parser.add_output("--markdown", help="write the result there")
    return parser.parse_args(given)


@PROGRAM.main
def main(given: list[str]) -> int:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("ROS_DOMAIN_ID", "54")
    # Needed to publish raw images, see the file.
    profile = share_directory() / "config" / "fastdds_large_images.xml"
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        os.environ.setdefault(variable, str(profile))
    arguments = parse_arguments(given)
    with tempfile.TemporaryDirectory() as directory:
        setup = write_setup(arguments, Path(directory))
        values = measure(arguments, setup, Path(directory))
    received, sent = int(values.get("frames", 0)), images(arguments)
    if received < ENOUGH * sent:
        print(f"Only {received} of {sent} images reached the node: nothing was measured")
        return 1
    text = report(arguments, setup, values)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    return 0


@dataclass(frozen=True)
class Setup:
    """Policy, cameras and joints of a measurement.

    policy: in words. topics: of the cameras. settings: further parameters of the node.
    joints: name -> position (rad or m) that the robot reports; empty if it reports none.
    """

    policy: str
    topics: tuple[str, ...] = ("image_raw",)
    settings: dict[str, Any] = field(default_factory=dict)
    joints: dict[str, float] = field(default_factory=dict)


def write_setup(arguments: argparse.Namespace, directory: Path) -> Setup:
    """Write the checkpoint and return what goes with it."""
    if arguments.robot == "end_effector":
        write_untrained_checkpoint(directory)
        return Setup("small random OpenVLA, one thread")
    write_untrained_checkpoint(directory, "pi0", **SMALLEST)
    path = directory / "processor_config.json"
    start = [*ALOHA_START, 0.5] * 2
    numbers = {"state_mean": start, "actions_mean": start}
    numbers |= {"state_std": [0.1] * len(start), "actions_std": [0.01] * len(start)}
    path.write_text(json.dumps({**json.loads(path.read_text()), **numbers}))
    profile = load_profile("aloha")
    fingers = {gripper.joints[0]: gripper.position(0.5) for gripper in profile.commanded_grippers}
    joints = dict(zip(profile.joints, ALOHA_START * 2, strict=True)) | fingers
    topics = tuple(f"{name}/image_raw" for name in ALOHA_CAMERAS)
    settings = {"robot": "aloha", "num_flow_steps": 2, "control_rate": profile.control_rate}
    return Setup("small random pi0, 14 numbers, one thread", topics, settings, joints)


def images(arguments: argparse.Namespace) -> int:
    """Return the number of images that are published, all cameras."""
    cameras = 1 if arguments.robot == "end_effector" else len(ALOHA_CAMERAS)
    return int(arguments.seconds * arguments.rate) * cameras


def measure(arguments: argparse.Namespace, setup: Setup, checkpoint: Path) -> dict[str, str]:
    """Run the node with images.

    Returns:
        The last diagnostics as key -> value, and cpu_idle and cpu_busy: the share of one core
        that the active node's process used without and with images.

    Raises:
        RuntimeError: the node does not become active; its log's last lines.
    """
    # rclpy is imported here only: most of the lab runs without ROS.
    from diagnostic_msgs.msg import DiagnosticArray

    from vla_pruner_ros.bringup.cli import parameter
    from vla_pruner_ros.bringup.client import PolicyClient
    from vla_pruner_ros.bringup.processes import Processes

    newest: dict[str, str] = {}
    heard = threading.Event()

    def keep(message: DiagnosticArray) -> None:
        newest.update({pair.key: pair.value for pair in message.status[0].values})
        heard.set()

    with Processes(checkpoint / "logs") as processes, PolicyClient("node_overhead") as client:
        client.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
        settings = {"checkpoint": str(checkpoint), "instruction": "push the button",
                    "control_rate": arguments.rate, "num_threads": 1,
                    "image_topics": list(setup.topics), **setup.settings}  # fmt: skip
        arguments_of_node = [a for name, value in settings.items() for a in parameter(name, value)]
        processes.start(NODE, *arguments_of_node)
        if not (client.configure() and client.activate()):
            raise RuntimeError(processes.log_tail(NODE))
        newest["cpu_idle"] = cpu_share(processes, lambda: threading.Event().wait(IDLE))
        with reporting_joints(client, setup.joints):
            newest["cpu_busy"] = cpu_share(
                processes, lambda: publish_images(client, setup.topics, arguments)
            )
        heard.clear()
        heard.wait(5.0)  # diagnostics come once a second
    return newest


def cpu_share(processes, run: Callable[[], object]) -> str:
    """Return the share of one core that the node uses while `run` does."""
    used, started = processes.cpu_seconds(NODE), time.monotonic()
    run()
    share = (processes.cpu_seconds(NODE) - used) / (time.monotonic() - started)
    return f"{share:.4f}"


@contextmanager
def reporting_joints(client, joints: dict[str, float]) -> Iterator[None]:
    """Publish joint states at STATE_RATE on a thread of their own, as a driver does."""
    from sensor_msgs.msg import JointState

    done = threading.Event()
    publisher = client.node.create_publisher(JointState, "joint_states", 10)

    def run() -> None:
        while joints and not done.wait(1.0 / STATE_RATE):
            message = JointState(name=list(joints), position=list(joints.values()))
            message.header.stamp = client.node.get_clock().now().to_msg()
            publisher.publish(message)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def publish_images(client, topics: Sequence[str], arguments: argparse.Namespace) -> None:
    """Publish noise images of every camera at a steady rate for the time asked for."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    create = client.node.create_publisher
    publishers = [create(Image, topic, qos_profile_sensor_data) for topic in topics]
    height, width = arguments.height, arguments.width
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data = np.random.default_rng(0).integers(0, 256, height * width * 3, np.uint8).tobytes()
    pause, next_time = threading.Event(), time.monotonic()
    while time.monotonic() < next_time + DISCOVERY and not all(
        publisher.get_subscription_count() for publisher in publishers
    ):
        pause.wait(0.05)
    next_time = time.monotonic()
    for _ in tqdm(range(int(arguments.seconds * arguments.rate)), unit="image", disable=None):
        image.header.stamp = client.node.get_clock().now().to_msg()
        for publisher in publishers:
            publisher.publish(image)
        next_time += 1.0 / arguments.rate
        pause.wait(max(0.0, next_time - time.monotonic()))


def report(arguments: argparse.Namespace, setup: Setup, values: dict[str, str]) -> str:
    """Return the result as Markdown, with machine, command and date."""
    milliseconds = {k: 1e3 * float(values[k]) for k in values if k.endswith(("_p50", "_p95"))}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"""# Node overhead

Image callback to action publication, less the policy's own time.

| | p50 (ms) | p95 (ms) |
|---|---|---|
| overhead | {milliseconds["overhead_p50"]:.2f} | {milliseconds["overhead_p95"]:.2f} |
| policy ({setup.policy}) | {milliseconds["latency_p50"]:.1f} | \
{milliseconds["latency_p95"]:.1f} |

| CPU of the active node's process | share of one core |
|---|---|
| no images | {100 * float(values["cpu_idle"]):.1f} % |
| with images, policy included | {100 * float(values["cpu_busy"]):.1f} % |

{values["frames"]} of {images(arguments)} images of {len(setup.topics)} camera(s), \
{arguments.width}x{arguments.height} rgb8 at \
{arguments.rate:g} Hz, received, {values["inferences"]} inferences; percentiles over the last 100.
The overhead holds everything around the policy: waiting for the worker's turn (at most one \
inference a control period), conversion, limits, publication. An image that came while the \
policy was busy counts from when the policy was free.

{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, {platform.system()}, \
Python {platform.python_version()}, {datetime.date.today().isoformat()}.
Command: `python -m vla_pruner_lab.microbenchmarks.node_overhead {" ".join(sys.argv[1:])}`
"""


if __name__ == "__main__":
    sys.exit(main())
