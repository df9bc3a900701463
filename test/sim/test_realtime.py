"""The simulation against the wall clock, and its node over real DDS."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip(
    "vla_pruner_ros.sim.backend",
    reason="the simulator needs mujoco, metaworld and libosmesa6",
    exc_type=ImportError,
)

from vla_pruner_ros.sim.realtime import RealTimeSimulation
from vla_pruner_ros.sim.robot import SimulatedRobot

DOMAIN = int(os.environ["ROS_DOMAIN_ID"])
WAIT = 20.0  # s, longest wait for an event; nothing takes nearly as long


class Recorder:
    """Collects the simulation's events; `until` waits for an event of one kind."""

    def __init__(self):
        self.events = {"frame": queue.Queue(), "state": queue.Queue(), "episode": queue.Queue()}
        self.threads = set()

    def on_frame(self, camera, image):
        self.threads.add(threading.current_thread())
        self.events["frame"].put((camera, image))

    def on_state(self, state):
        self.events["state"].put(state)

    def on_episode(self, episode):
        self.events["episode"].put(episode)

    def until(self, kind, fits=lambda event: True):
        while True:
            event = self.events[kind].get(timeout=WAIT)
            if fits(event):
                return event


@contextmanager
def running(task="reach", cameras=("scene",), **options):
    recorder = Recorder()
    simulation = RealTimeSimulation(
        lambda: SimulatedRobot(task, image_size=(64, 64), cameras=cameras), recorder, **options
    )
    simulation.start()
    try:
        yield simulation, recorder
    finally:
        simulation.close()


def test_frames_come_from_every_camera_and_one_thread():
    with running(cameras=("scene", "gripper"), frame_rate=20.0) as (_, recorder):
        cameras = [recorder.until("frame")[0] for _ in range(6)]
    assert cameras == ["scene", "gripper"] * 3
    assert len(recorder.threads) == 1
    assert threading.current_thread() not in recorder.threads


def test_simulated_time_never_runs_ahead_and_nothing_moves_uncommanded():
    with running() as (_, recorder):
        settled = recorder.until("state", lambda state: state.time > 0.5)
        began = time.monotonic()
        later = recorder.until("state", lambda state: state.time > settled.time + 0.5)
        passed = time.monotonic() - began
    assert later.time - settled.time <= passed + 0.3  # a quarter of a second may be caught up
    np.testing.assert_allclose(
        later.end_effector_position, settled.end_effector_position, atol=0.002
    )


def test_commands_move_and_halt_holds():
    with running() as (simulation, recorder):
        start = recorder.until("state").end_effector_position
        simulation.command(np.array([0.06, 0, 0, 0, 0, 0, 1.0]), 0.3)
        recorder.until("state", lambda state: state.end_effector_position[0] > start[0] + 0.05)
        simulation.command(np.array([0, 0.5, 0, 0, 0, 0, 1.0]), 2.0)
        recorder.until("state", lambda state: state.end_effector_position[1] > start[1] + 0.03)
        simulation.halt()
        times = recorder.until("state").time
        held = recorder.until("state", lambda state: state.time > times + 0.5)
        later = recorder.until("state", lambda state: state.time > held.time + 0.3)
    np.testing.assert_allclose(later.end_effector_position, held.end_effector_position, atol=0.002)


def test_an_episode_times_out_and_the_next_begins_from_the_next_seed():
    with running(seed=5, max_episode_time=0.2, reset_pause=0.1) as (_, recorder):
        outcomes = []
        while len(outcomes) < 3:
            episode = recorder.until("episode")
            outcomes.append((episode.number, episode.seed, episode.outcome, episode.finished))
    assert outcomes == [(0, 5, "running", 0), (0, 5, "timed_out", 1), (1, 6, "running", 1)]


def test_reset_begins_the_next_episode_at_once():
    with running() as (simulation, _):
        assert simulation.reset().number == 1
        assert simulation.reset().seed == 2


def test_a_robot_that_cannot_be_built_is_reported_by_start():
    simulation = RealTimeSimulation(lambda: SimulatedRobot("fly"), Recorder())
    with pytest.raises(ValueError, match="unknown task 'fly'"):
        simulation.start()
    simulation.close()


def test_a_failure_while_running_is_kept_for_the_owner():
    class Deaf(Recorder):
        def on_frame(self, camera, image):
            raise OSError("no more space")

    simulation = RealTimeSimulation(lambda: SimulatedRobot(image_size=(64, 64)), Deaf())
    simulation.start()
    simulation._thread.join(WAIT)
    assert isinstance(simulation.failure, OSError)
    with pytest.raises(RuntimeError, match="no more space"):
        simulation.reset()
    simulation.close()


# The node, over real DDS


@pytest.fixture(scope="module")
def ros():
    """A node of the test's own, spun while a test waits."""
    pytest.importorskip("vla_pruner_ros.msg", reason="build the messages: make setup, . ./env.sh")
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("sim_robot_test", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture(scope="module")
def process(ros, tmp_path_factory):
    """The node's own process, not started from the repository: it would hide the built package."""
    command = [sys.executable, "-m", "vla_pruner_ros.nodes.sim_robot", "--ros-args"]
    command += ["-p", "task:=reach", "-p", "reset_pause:=0.5"]
    environment = dict(
        os.environ, ROS_DOMAIN_ID=str(DOMAIN), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST"
    )
    child = subprocess.Popen(
        command,
        cwd=tmp_path_factory.mktemp("sim_robot"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield child
    if child.poll() is None:
        child.kill()
    child.wait(WAIT)


class Inbox:
    """Messages of one topic; `until` spins the node until one fits."""

    def __init__(self, ros, kind, topic, qos=10):
        self._executor = ros[1]
        self._messages = []
        self._node = ros[0]
        self._subscription = self._node.create_subscription(kind, topic, self._messages.append, qos)

    def until(self, fits=lambda message: True):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            while self._messages:
                message = self._messages.pop(0)
                if fits(message):
                    return message
            self._executor.spin_once(timeout_sec=0.1)
        raise TimeoutError("no such message came")

    def close(self):
        self._node.destroy_subscription(self._subscription)


@pytest.fixture
def inbox(ros, process):
    opened = []

    def make(*arguments):
        opened.append(Inbox(ros, *arguments))
        return opened[-1]

    yield make
    for box in opened:
        box.close()


def _seconds(stamp):
    return stamp.sec + stamp.nanosec * 1e-9


def _action(ros, frame="base_link", **fields):
    from vla_pruner_ros.msg import EndEffectorAction

    message = EndEffectorAction(gripper=1.0, **fields)
    message.header.stamp = ros[0].get_clock().now().to_msg()
    message.header.frame_id = frame
    message.duration.nanosec = 100_000_000
    return message


def _x(message):
    return message.pose.position.x


@pytest.fixture
def sender(ros, process):
    from vla_pruner_ros.msg import EndEffectorAction

    publisher = ros[0].create_publisher(EndEffectorAction, "vla_pruner/action", 10)
    yield publisher
    ros[0].destroy_publisher(publisher)


def test_images_arrive_at_the_frame_rate(inbox):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    images = inbox(Image, "image_raw", qos_profile_sensor_data)
    messages = [images.until() for _ in range(20)]
    first = messages[0]
    assert (first.width, first.height, first.encoding, first.step) == (224, 224, "rgb8", 672)
    assert len(first.data) == 224 * 224 * 3
    assert first.header.frame_id == "camera"
    intervals = np.diff([_seconds(message.header.stamp) for message in messages])
    assert np.median(intervals) < 1 / 8


def test_actions_move_the_hand_by_their_metres(ros, inbox, sender):
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import JointState

    poses, joints = inbox(PoseStamped, "end_effector_pose"), inbox(JointState, "joint_states")
    start = poses.until()
    assert start.header.frame_id == "base_link"
    assert len(joints.until().name) == 9
    _until_connected(ros, sender)
    message = _action(ros)
    message.translation.x = 0.03
    for _ in range(2):  # the second one comes while the first is being carried out: both count
        sender.publish(message)
    moved = poses.until(lambda pose: _x(pose) > _x(start) + 0.05)
    assert _x(moved) < _x(start) + 0.07


@pytest.mark.parametrize(
    ("frame", "x"), [("camera", 0.05), ("base_link", float("nan"))], ids=["frame", "nan"]
)
def test_actions_in_a_strange_frame_or_not_finite_do_nothing(ros, inbox, sender, frame, x):
    from geometry_msgs.msg import PoseStamped

    poses = inbox(PoseStamped, "end_effector_pose")
    _until_connected(ros, sender)
    bad, good = _action(ros, frame), _action(ros)
    bad.translation.x, good.translation.y = x, 0.03
    start = poses.until()
    sender.publish(bad)
    sender.publish(good)
    moved = poses.until(lambda pose: pose.pose.position.y > start.pose.position.y + 0.02)
    assert abs(_x(moved) - _x(start)) < 0.01


def test_reset_starts_the_next_episode(ros, inbox):
    from diagnostic_msgs.msg import DiagnosticStatus
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_srvs.srv import Trigger

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    episodes = inbox(DiagnosticStatus, "sim_robot/episode", latched)
    before = int(_values(episodes.until())["episode"])
    answer = _call(ros, Trigger, "sim_robot/reset", Trigger.Request())
    assert answer.success, answer.message
    now = _values(episodes.until(lambda status: int(_values(status)["episode"]) > before))
    assert now["instruction"] == "move the gripper to the green ball"
    assert now["seed"] == now["episode"]


def test_frame_rate_changes_live_and_the_task_does_not(ros, process):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    def set_parameter(name, value):
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return _call(ros, SetParameters, "sim_robot/set_parameters", request).results[0]

    assert set_parameter("frame_rate", 12).successful, "a whole number is a number too"
    assert set_parameter("frame_rate", 10.0).successful
    assert "60.0" in set_parameter("frame_rate", 500.0).reason
    assert not set_parameter("task", "push").successful


def test_ctrl_c_ends_the_node_in_order(process):
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, output
    assert "terminate called" not in output
    assert "Traceback" not in output
    assert "Action refused" in output


def _values(status):
    return {pair.key: pair.value for pair in status.values}


def _until_connected(ros, publisher):
    deadline = time.monotonic() + WAIT
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        ros[1].spin_once(timeout_sec=0.05)
    assert publisher.get_subscription_count()


def _call(ros, kind, name, request):
    node, executor = ros
    client = node.create_client(kind, name)
    assert client.wait_for_service(WAIT)
    future = client.call_async(request)
    executor.spin_until_future_complete(future, WAIT)
    node.destroy_client(client)
    assert future.done(), f"{name} did not answer"
    return future.result()
