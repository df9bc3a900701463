"""An episode that node and recorder record live: call record_live, or run CHECKPOINT BAG."""

from __future__ import annotations

import io
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from node_helpers import Transition, bench
from PIL import Image as PillowImage
from recorder_helpers import recorder
from replay_bags import MemoryPolicy, sample_image
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from vla_pruner_ros.msg import ActionChunk
from vla_pruner_ros.nodes.vla_pruner.loading import load_from_settings

INSTRUCTIONS = ("push the button", "close the drawer", "open the drawer")
"""At first, then by topic, then by parameter."""

CAMERAS = ("front/image_raw", "wrist/image_raw")
JOINTS = [f"joint_{number}" for number in range(8)]


def show(b, number: int, compressed: bool) -> None:
    """Send one joint state and one image per camera."""
    positions = [0.01 * number + 0.1 * place for place in range(8)]
    b.send_joint_state(JOINTS[::-1], positions)
    # A bag shows the order of arrival at the recorder, not which state the node held by then.
    b.until(lambda: b.joint_positions() == positions, "this joint state")
    for place, topic in enumerate(CAMERAS):
        rgb = np.kron(sample_image(number + 40 * place), np.ones((4, 4, 1), np.uint8))
        if compressed:
            buffer = io.BytesIO()
            PillowImage.fromarray(rgb).save(buffer, "JPEG")
            b.send_image(
                CompressedImage(format="jpeg", data=buffer.getvalue()), f"{topic}/compressed"
            )
        else:
            height, width, _ = rgb.shape
            image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
            image.data = rgb.tobytes()
            b.send_image(image, topic)


def drive(b, chunks: list, compressed: bool) -> None:
    """Change everything that a replay has to follow."""
    changes = {
        3: lambda: b.set_parameter("keep_ratio", 0.5),
        5: lambda: b.set_parameter("method", "fastv"),
        7: lambda: b.set_parameter("method", "vla_pruner"),
        9: lambda: b.call(Trigger, "/vla_pruner/reset", Trigger.Request()),
        11: lambda: b.set_parameter("prune_layer", 1),
    }
    for number in range(13):
        changes.get(number, lambda: None)()
        if number == 10:
            assert b.set_parameter("instruction", "open the drawer").successful
            b.until(lambda: b.node.runner.instruction == "open the drawer", "the parameter")
        if number == 8:
            b.instruct("close the drawer")
            b.until(lambda: b.node.runner.instruction == "close the drawer", "the instruction")
        seen = len(chunks)
        show(b, number, compressed)
        b.until(lambda seen=seen: len(chunks) > seen, f"the answer to image {number}")


def record_live(bag: Path, checkpoint: str, transport: str = "raw") -> None:
    """Record an episode of a node with a checkpoint of two cameras."""
    parameters = {"checkpoint": checkpoint, "device": "cpu", "num_threads": 1}
    parameters |= {"robot": MemoryPolicy.robot, "instruction": INSTRUCTIONS[0]}
    # Unpruned first steps close the gap that a missed first image leaves in the history.
    parameters |= {"preset": "paper"}
    parameters |= {"image_topics": list(CAMERAS), "state_joints": JOINTS, "temporal_window": 2}
    parameters |= {"image_transport": transport, "max_image_age": 30.0, "max_state_age": 30.0}
    compressed = transport == "compressed"
    with bench(load_from_settings, keep_ratio=0.25, max_camera_spread=30.0, **parameters) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        assert b.change_state(Transition.TRANSITION_CONFIGURE, patience=60.0)
        with recorder(b.client.context, bag) as r:
            b.until(lambda: r.snapshot.is_taken, "the parameters")
            assert b.change_state(Transition.TRANSITION_ACTIVATE)
            drive(b, chunks, compressed)
            b.until(lambda: r.recording.knows("/vla_pruner/pruning"), "a recorded status")
            sent = len(chunks)
            show(b, 20, compressed)
            b.until(lambda: len(chunks) > sent, "a last answer")


if __name__ == "__main__":
    record_live(Path(sys.argv[2]), sys.argv[1])
    print(f"recorded with rclpy {version('ros-rclpy')}")
