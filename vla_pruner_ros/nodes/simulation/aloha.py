"""Simulated ALOHA on the topics of a real one: joint states out, joint commands in."""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from vla_pruner_ros.nodes.parameter_specs import declare_settings
from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.settings import check_fields, setting
from vla_pruner_ros.sim.aloha import ARM_JOINTS, CAMERAS, JOINTS, SIDES, AlohaArms
from vla_pruner_ros.sim.trajectories import FollowedTrajectory

COMMANDED = tuple(f"{side}_{name}" for side in SIDES for name in ARM_JOINTS)
"""Order of joint_command, as the profile aloha has it."""
GRIPPERS = tuple(f"{side}_left_finger" for side in SIDES)
MAX_CATCH_UP = 0.25
"""Seconds of simulation run at once after a hold-up."""


@dataclass(frozen=True)
class SimAlohaSettings:
    """Settings of the simulated ALOHA."""

    image_width: int = setting(
        640, "Width of the images (pixels).", low=32, high=1920, when="start"
    )
    image_height: int = setting(
        480, "Height of the images (pixels).", low=32, high=1080, when="start"
    )
    frame_rate: float = setting(
        10.0, "Images per second and camera (Hz).", low=0.1, high=60.0, when="start"
    )
    state_rate: float = setting(
        50.0, "Joint states per second (Hz).", low=1.0, high=100.0, when="start"
    )
    interface: str = setting(
        "trajectory",
        "Command that the arms follow: trajectory (as a JointTrajectoryController), positions (as "
        "a forward_command_controller), or separate (a JointTrajectoryController for each arm, "
        "with the names that its driver knows).",
        choices=("trajectory", "positions", "separate"),
        when="start",
    )

    def __post_init__(self) -> None:
        check_fields(self)


class SimAlohaNode(Node):
    """Simulates both arms in real time, on a thread of its own.

    | in  | vla_pruner/joint_trajectory, vla_pruner/joint_command | by parameter interface |
    | in  | vla_pruner/gripper_command          | Float64MultiArray, finger positions (m) |
    | in  | vla_pruner/left/joint_trajectory, vla_pruner/left/gripper_command, ... | separate |
    | out | joint_states                        | JointState, 16 joints |
    | out | robot_description                   | String, latched |
    | out | cam_high/image_raw, cam_left/image_raw, cam_right/image_raw | Image |
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__("sim_aloha", **node_options)
        self.settings = declare_settings(self, SimAlohaSettings)
        self._lock = threading.Lock()
        self._followed: dict[str, FollowedTrajectory] = {}
        self._commanded: dict[str, float] = {}
        self._led: dict[str, float] = {}
        self.failure: BaseException | None = None
        self._make_topics()
        self._done, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulation")
        self._thread.start()
        self._ready.wait()
        if self.failure:
            self._thread.join()
            raise self.failure
        self._take_commands()

    def close(self) -> None:
        """Stop simulating; nothing is published afterwards."""
        self._done.set()
        self._thread.join()

    def _make_topics(self) -> None:
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._images = {
            name: self.create_publisher(Image, f"{name}/image_raw", newest) for name in CAMERAS
        }
        self._states = self.create_publisher(JointState, "joint_states", 10)
        self._description = self.create_publisher(String, "robot_description", latched)

    def _take_commands(self) -> None:
        arms = SIDES if self.settings.interface == "separate" else ("",)
        for side in arms:
            topic = f"vla_pruner/{side}/" if side else "vla_pruner/"
            names = tuple(name for name in COMMANDED if name.startswith(side))
            fingers = tuple(name for name in GRIPPERS if name.startswith(side))
            if self.settings.interface == "positions":
                self._listen(Float64MultiArray, f"{topic}joint_command", self._on_positions(names))
            else:
                self._listen(JointTrajectory, f"{topic}joint_trajectory", self._on_trajectory(side))
            self._listen(Float64MultiArray, f"{topic}gripper_command", self._on_positions(fingers))
        self.create_timer(0.5, self._check_simulation)

    def _listen(self, message_type: type, topic: str, callback: Callable[[Any], None]) -> None:
        self.create_subscription(message_type, topic, callback, 10)

    def _on_trajectory(self, side: str) -> Callable[[JointTrajectory], None]:
        """Return the callback of one arm's trajectories, "" for those of both arms together."""
        prefix = f"{side}_" if side else ""

        def on_trajectory(message: JointTrajectory) -> None:
            points = message.points
            times = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in points]
            names = [prefix + name for name in message.joint_names]
            positions = [list(point.positions) for point in points]
            with self._lock:
                try:
                    self._followed[side] = FollowedTrajectory.checked(
                        names, times, positions, self._led, time.monotonic()
                    )
                except ValueError as error:
                    self.get_logger().error(f"Trajectory refused: {error}")

        return on_trajectory

    def _on_positions(self, names: tuple[str, ...]) -> Callable[[Float64MultiArray], None]:
        def on_positions(message: Float64MultiArray) -> None:
            if len(message.data) != len(names) or not np.isfinite(message.data).all():
                self.get_logger().error(
                    f"Command refused: it must hold {len(names)} finite positions, has "
                    f"{list(message.data)}"
                )
                return
            with self._lock:
                self._commanded.update(zip(names, message.data, strict=True))

        return on_positions

    # --- The simulation's thread --------------------------------------------------------------

    def _run(self) -> None:
        try:
            size = (self.settings.image_height, self.settings.image_width)
            arms = AlohaArms(size)
            self._led = dict(zip(JOINTS, arms.setpoints.tolist(), strict=True))
            self._description.publish(String(data=arms.urdf()))
            self._ready.set()
            self._loop(arms)
            arms.close()
        except BaseException as error:
            self.failure = error
        finally:
            self._ready.set()

    def _loop(self, arms: AlohaArms) -> None:
        step = state = frame = time.monotonic()
        while not self._done.wait(max(0.0, step - time.monotonic())):
            now = time.monotonic()
            step = max(step, now - MAX_CATCH_UP)
            while step <= now:
                self._lead(arms, step)
                positions = arms.tick()
                step += arms.control_period
            if now >= state:
                self._publish_state(positions)
                state = max(state + 1.0 / self.settings.state_rate, now)
            if now >= frame:
                for camera in arms.views:
                    self._publish_image(camera, arms.render(camera))
                frame = max(frame + 1.0 / self.settings.frame_rate, now)

    def _lead(self, arms: AlohaArms, now: float) -> None:
        with self._lock:
            for followed in self._followed.values():
                self._commanded.update(followed.at(now))
            arms.command(self._commanded)
            self._commanded.clear()
            self._led = dict(zip(JOINTS, arms.setpoints.tolist(), strict=True))

    def _publish_state(self, positions: np.ndarray) -> None:
        message = JointState(name=list(JOINTS), position=positions.tolist())
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def _publish_image(self, camera: str, image: np.ndarray) -> None:
        height, width, channels = image.shape
        message = Image(height=height, width=width, encoding="rgb8", step=width * channels)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = camera
        message.data = array("B", image.tobytes())
        self._images[camera].publish(message)

    def _check_simulation(self) -> None:
        """Take the node down if the simulation failed, instead of leaving it silent."""
        if self.failure:
            raise self.failure


def main(args: list[str] | None = None) -> int:
    return run_node(SimAlohaNode, args, threads=2)


if __name__ == "__main__":
    sys.exit(main())
