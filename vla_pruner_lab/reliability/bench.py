"""Test bench around the node in a soak test: its clock, camera, arm, operator and judge."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_pruner_lab.reliability.policy import STATE_JOINTS, SoakPolicy
from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.messages import to_time
from vla_pruner_ros.nodes.spin import NodeExecutor, spin_on
from vla_pruner_ros.nodes.vla_pruner.node import VlaPrunerNode

TICK = 0.1
"""Simulated time between two frames (s)."""

PACE = 0.005
"""Wall time between two frames (s), at least: the bench runs TICK / PACE times real time."""

POSE_LAG = 4 * TICK
"""Largest age of a pose when it is sent, in simulated time (s)."""

PATIENCE = 10.0
"""Longest wait for a service (s)."""

LIMITS = {"max_translation": 0.02, "max_rotation": 0.1}
BOX = (-0.3, -0.3, 0.0, 0.3, 0.3, 0.6)
SLACK = 1e-6


class TestBench:
    """Test bench that runs a node and everything around it on loopback until closed.

    violations: sentences about what must never happen. Simulated time only moves in step().
    state_joints: names that the node waits for. limits: parameters that a judged action must keep.
    """

    state_joints: tuple[str, ...] = STATE_JOINTS
    limits: ClassVar[dict[str, Any]] = {
        "workspace": list(BOX),
        "state_joints": list(STATE_JOINTS),
        **LIMITS,
    }

    def __init__(self, domain: int, policy: Any = None) -> None:
        """domain: of ROS. policy: None for one that moves an end effector."""
        self.policy = policy or SoakPolicy()
        self.violations: list[str] = []
        self.now = 1_000_000_000_000
        self.received = self.motions = self.stops = self.frames = self.ticks = 0
        self._published_before = 0
        self.camera_on = self.joints_on = True
        self._last_allowed = 0
        self.position = np.array([0.0, 0.0, 0.3])
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._start()

    def _start(self) -> None:
        parameters = {
            "use_sim_time": True,
            "instruction": "push the button",
            "control_rate": 10.0,
            "transition_timeout": 1.0,
            **self.limits,
        }
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = VlaPrunerNode(
            load=lambda settings: self.policy,
            context=self._context,
            parameter_overrides=overrides,
        )
        self.robot = rclpy.create_node("robot", context=self._context)
        self._connect()
        self._executor = NodeExecutor(4, context=self._context)
        for node in (self.node, self.robot):
            self._executor.add_node(node)
        self._spinner = threading.Thread(target=spin_on, args=(self._executor,))
        self._spinner.start()

    def _connect(self) -> None:
        create, sensor = self.robot.create_publisher, qos_profile_sensor_data
        self._clock = create(Clock, "/clock", 10)
        self._images = create(Image, "image_raw", sensor)
        self._instructions = create(String, "instruction", 10)
        self._connect_arm()

    def _connect_arm(self) -> None:
        """Offer the arm's topics; called once, before the first step."""
        create, sensor = self.robot.create_publisher, qos_profile_sensor_data
        self._joints = create(JointState, "joint_states", sensor)
        self._poses = create(PoseStamped, "end_effector_pose", sensor)
        self.robot.create_subscription(
            EndEffectorAction, "/vla_pruner/action", self._on_action, QoSProfile(depth=1000)
        )

    def close(self) -> None:
        """Stop node, robot and executor."""
        self.node.close()
        self._executor.shutdown()
        self._spinner.join()
        self.node.destroy_node()
        self.robot.destroy_node()
        self._context.try_shutdown()

    # --- Time ---------------------------------------------------------------------------------

    def step(self, image: Image | None = None) -> None:
        """Let TICK of simulated time pass, with all sensors that are on."""
        self.ticks += 1
        self.now += round(TICK * 1e9)
        self._clock.publish(Clock(clock=to_time(self.now)))
        self._send_state()
        if image is not None or self.camera_on:
            self.send_image(image or plain_image(self.frames % 256))
        time.sleep(PACE)

    def run(self, seconds: float) -> None:
        """Step for `seconds` of wall time."""
        self.until(lambda: False, seconds)

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Step until a condition holds; return False after `seconds` of wall time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            self.step()
        return condition()

    # --- Sensors ------------------------------------------------------------------------------

    def send_image(self, image: Image) -> None:
        """Publish an image, stamped with the simulated time."""
        image.header.stamp = to_time(self.now)
        self.frames += 1
        self._images.publish(image)

    def _send_state(self) -> None:
        if self.joints_on:
            self.send_joints(list(self.state_joints), [0.1, 0.2])
        self._send_pose()

    def send_joints(self, names: list[str], positions: list[float]) -> None:
        """Publish joint positions (rad) by name."""
        self._joints.publish(JointState(name=names, position=positions))

    def _send_pose(self) -> None:
        message = PoseStamped()
        message.header.frame_id = "base_link"
        # Time runs faster than messages do: what is under way now shows a few ticks later.
        message.header.stamp = to_time(self.now - round(POSE_LAG * 1e9))
        p = message.pose.position
        p.x, p.y, p.z = self.position.tolist()
        message.pose.orientation.w = 1.0
        self._poses.publish(message)

    # --- Operator -----------------------------------------------------------------------------

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        self._instructions.publish(String(data=text))

    def set_parameter(self, name: str, value: Any) -> bool:
        """Set a parameter of the node; return whether it was taken."""
        message = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        return self._call(SetParameters, "set_parameters", request).results[0].successful

    def reset(self) -> None:
        """Call ~/reset."""
        self._call(Trigger, "reset", Trigger.Request())

    def change_state(self, transition: int) -> None:
        """Request a transition; once one other than to active is answered, no action may follow."""
        to_active = transition == Transition.TRANSITION_ACTIVATE
        if transition == Transition.TRANSITION_CONFIGURE:
            self._published_before = self.published()  # configuring starts the counts anew
        if to_active:
            self._last_allowed = sys.maxsize
        request = ChangeState.Request(transition=Transition(id=transition))
        if not self._call(ChangeState, "change_state", request).success:
            self.violations.append(f"transition {transition} failed: {self.node.health.problem}")
        if not to_active:
            # Counted, not timed: what was sent before may still be on its way.
            self._last_allowed = self.published()

    def published(self) -> int:
        """Return the number of actions and stops that the node reports as published."""
        counts = self.node.health.counts()
        names = ("actions", "stops", "stops_repeated")
        return self._published_before + sum(counts.get(name, 0) for name in names)

    def _call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self.robot.create_client(service_type, f"/vla_pruner/{name}")
        try:
            if not client.wait_for_service(PATIENCE):
                raise TimeoutError(f"the service {name} is not available")
            answered = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: answered.set())
            if not answered.wait(PATIENCE):
                self.violations.append(
                    f"the service {name} did not respond within {PATIENCE:.0f} s"
                )
                raise TimeoutError(self.violations[-1])
            return future.result()
        finally:
            self.robot.destroy_client(client)

    # --- Judge and arm ------------------------------------------------------------------------

    def _on_action(self, action: EndEffectorAction) -> None:
        self.received += 1
        self.stops += action.stop
        if action.stop:
            return
        self.motions += 1
        move = np.array([action.translation.x, action.translation.y, action.translation.z])
        turn = np.array([action.rotation.x, action.rotation.y, action.rotation.z])
        self._judge(move, turn, action.gripper)
        self.position = self.position + move
        self._judge_position()

    def _judge(self, move: np.ndarray, turn: np.ndarray, gripper: float) -> None:
        if self.received > self._last_allowed:
            self.violations.append("an action came while the node was not active")
        if not np.isfinite([*move, *turn, gripper]).all():
            self.violations.append("an action was not finite")
        if not np.linalg.norm(move) <= LIMITS["max_translation"] + SLACK:
            self.violations.append(f"a translation of {np.linalg.norm(move):.3f} m")
        if not np.linalg.norm(turn) <= LIMITS["max_rotation"] + SLACK:
            self.violations.append(f"a rotation of {np.linalg.norm(turn):.3f} rad")
        if not 0.0 <= gripper <= 1.0:
            self.violations.append(f"a gripper opening of {gripper}")

    def _judge_position(self) -> None:
        outside = np.maximum(np.array(BOX[:3]) - self.position, self.position - np.array(BOX[3:]))
        if outside.max() > SLACK:
            self.violations.append(f"the workspace was left by {outside.max():.3f} m")


def plain_image(brightness: int) -> Image:
    """Return a grey image, 16 x 12 pixels."""
    image = Image(height=12, width=16, encoding="rgb8", step=48)
    image.data = bytes([brightness]) * (12 * 48)
    return image
