"""Recorded live, replayed offline: the same actions. Real rclpy, real DDS on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the recorder needs rclpy")

import rclpy
from builtin_interfaces.msg import Time
from node_helpers import bench
from rclpy.context import Context
from rclpy.duration import Duration
from recorder_helpers import recorder
from replay_bags import PERIOD, SECOND, BagMaker, MemoryPolicy, sample_image
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.msg import ActionChunk
from vla_pruner_ros.replay.replayer import RECORDED, Replayer, ReplaySetting, Run
from vla_pruner_ros.replay.results.parity import check_parity
from vla_pruner_ros.replay.session import Choice, Session

DOMAIN = int(os.environ["ROS_DOMAIN_ID"])
WAIT = 20.0


class LivePolicy(MemoryPolicy):
    """The replay's policy in a node, which asks for previews as well."""

    def preview(self, image: np.ndarray) -> np.ndarray:
        return image


def send_image(b, number: int) -> None:
    rgb = sample_image(number)
    image = Image(height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", step=rgb.shape[1] * 3)
    image.data = rgb.tobytes()
    b.send_image(image)


def drive(b, chunks: list) -> None:
    """An episode with everything that changes what the policy remembers or is asked."""
    first = b.node.runner.instruction
    for number in range(24):
        if number == 6:
            assert b.set_parameter("keep_ratio", 0.5).successful
        if number == 12:
            b.instruct("close the drawer")
            b.until(lambda: b.node.runner.instruction != first, "the instruction")
        if number == 18:
            b.call(Trigger, "/vla_pruner/reset", Trigger.Request())
        seen = len(chunks)
        send_image(b, number)
        b.until(lambda seen=seen: len(chunks) > seen, f"the answer to image {number}")


@pytest.mark.parametrize("compression", ["none", "png"])
def test_what_is_recorded_live_replays_to_the_same_actions(tmp_path, compression):
    live = LivePolicy()
    with bench(live, keep_ratio=0.25, temporal_window=4, max_image_age=5.0) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        b.activate()
        context = b.client.context
        with recorder(context, tmp_path / "bag", image_compression=compression) as r:
            # One image before: the recorder finds the camera's topic by its publisher.
            b.show_until(lambda: r.recording.knows("/image_raw"), "the first recorded image")
            b.until(lambda: r.snapshot.is_taken, "the parameters")
            drive(b, chunks)
            b.until(lambda: r.recording.knows("/vla_pruner/pruning"), "a recorded status")
            sent = len(chunks)
            b.show_until(lambda: len(chunks) > sent, "a last answer")

    with BagReader(tmp_path / "bag") as reader:
        assert reader.damage == []
        image_type = types.IMAGE if compression == "none" else types.COMPRESSED_IMAGE
        assert image_type in {topic.msgtype for topic in reader.topics.values()}
        session = Session(reader, 1, Choice())
        run = Run(ReplaySetting(RECORDED, None))
        for _ in Replayer(MemoryPolicy()).run(session.inputs(), run):
            pass
        parity = check_parity(run, session.inferences)
    assert session.pruning.temporal_window == 4
    assert parity.comparable >= 12, session.remarks
    assert parity.holds, f"largest difference {parity.largest}"
    assert parity.kept_equal == parity.comparable
    ratios = {one.pruning.keep_ratio for one in session.inferences}
    assert ratios == {0.25, 0.5}
    assert {one.instruction for one in session.inferences} == {
        "push the button",
        "close the drawer",
    }
    assert sum(step.reset == "recorded" for step in run.steps) >= 2


def test_bag_played_in_a_loop_gives_the_same_actions_every_time(tmp_path):
    """Loop as ros2 bag play --clock --loop does: the clock jumps back and the node starts anew."""
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(8):
            bag.image(sample_image(number), number * PERIOD)
    with bench(LivePolicy(), use_sim_time=True, temporal_window=4) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        b.activate()
        clock = b._publisher(Clock, "/clock", 10)
        camera = b._publisher(Image, "image_raw", 10)
        for _ in range(2):
            with BagReader(tmp_path / "bag") as reader:
                for record in reader.messages({"/image_raw"}):
                    play(b, clock, camera, reader.decode(record), record.time, chunks)
        actions = np.array([chunk.actions for chunk in chunks])
    np.testing.assert_array_equal(actions[:8], actions[8:])
    assert len(np.unique(actions[:, 3])) > 4  # the fourth number is the policy's memory


def play(b, clock, camera, message, time: int, chunks: list) -> None:
    """Publish one recorded image at its time and wait for the answer."""
    now = Time(sec=time // SECOND, nanosec=time % SECOND)
    clock.publish(Clock(clock=now))
    b.until(lambda: b.node.get_clock().now().nanoseconds == time, "the bag's time")
    stamp = Time(sec=message.header.stamp.sec, nanosec=message.header.stamp.nanosec)
    image = Image(height=message.height, width=message.width, encoding="rgb8", step=message.step)
    image.header.stamp, image.data = stamp, message.data.tobytes()
    seen = len(chunks)
    camera.publish(image)
    b.until(lambda: len(chunks) > seen, "the answer")


def test_default_camera_is_recorded_until_the_node_names_another(tmp_path):
    """A loading node answers no question and acts at once afterwards: its first images count."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    camera = rclpy.create_node("camera", context=context)
    publisher = camera.create_publisher(Image, "image_raw", 10)
    waiting = threading.Event()
    try:
        with recorder(context, tmp_path / "bag") as r:
            while not r.recording.knows("/image_raw"):
                publisher.publish(Image())
                waiting.wait(0.02)
            with bench(LivePolicy(), image_topics=["eye"]):
                while publisher.get_subscription_count():
                    waiting.wait(0.02)
                assert r.snapshot.is_taken
    finally:
        camera.destroy_node()
        context.try_shutdown()


def test_parameters_are_asked_for_again_where_the_answer_was_lost(tmp_path):
    """Without them the recorder does not learn which cameras the node has."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    silent = rclpy.create_node("vla_pruner", context=context)  # nobody spins it
    waiting = threading.Event()
    try:
        with recorder(context, tmp_path / "bag") as r:
            for _ in range(int(WAIT / 0.02)):
                if r.snapshot.is_asked:
                    break
                waiting.wait(0.02)
            assert r.snapshot.is_asked
            silent.destroy_node()
            with bench(LivePolicy(), image_topics=["eye"]) as b:
                b.until(lambda: r.snapshot.is_taken, "the parameters")
    finally:
        context.try_shutdown()


def test_terminated_recorder_finishes_its_bag(tmp_path):
    """Everything received before SIGTERM is in a whole bag, in order, with types and QoS."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("speaker", context=context)
    publisher = node.create_publisher(String, "instruction", 500)
    start = "import sys; from vla_pruner_ros.nodes.recorder import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "--ros-args"]
    command += ["-p", f"output:={tmp_path / 'bag'}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        waiting = threading.Event()
        for _ in range(int(WAIT / 0.02)):
            if publisher.get_subscription_count():
                break
            assert process.poll() is None, process.stderr.read()
            waiting.wait(0.02)
        for number in range(300):
            publisher.publish(String(data=str(number)))
        assert publisher.wait_for_all_acked(Duration(seconds=WAIT))
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
        context.try_shutdown()
    assert process.returncode == 0, printed
    with BagReader(tmp_path / "bag") as reader:
        assert reader.damage == []
        instructions = [reader.decode(record).data for record in reader.messages({"/instruction"})]
    assert instructions == [str(number) for number in range(300)]


def test_type_hashes_are_those_of_ros():
    """ros2 bag play compares them; ours come from the definitions, ROS's from its generator."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("hashes", context=context)
    try:
        publishers = [
            node.create_publisher(message, name, 1)
            for name, message in (("a", String), ("b", Image), ("c", ActionChunk))
        ]
        if not hasattr(node.get_publishers_info_by_topic("/a")[0], "topic_type_hash"):
            pytest.skip("this distribution knows no type hashes (Iron and later do)")
        store = types.standard_store()
        for publisher, name in zip(
            publishers, (types.STRING, types.IMAGE, types.ACTION_CHUNK), strict=True
        ):
            info = node.get_publishers_info_by_topic(publisher.topic_name)[0]
            assert str(info.topic_type_hash) == store.hash_rihs01(name)
    finally:
        node.destroy_node()
        context.try_shutdown()
