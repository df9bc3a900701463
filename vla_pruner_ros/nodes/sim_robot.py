"""A simulated camera and robot on the topics of a real one; see sim/ for the simulation itself."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.parameter_specs import declare_settings
from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.settings import check_fields, check_value, setting, specs_of
from vla_pruner_ros.sim.realtime import Episode, RealTimeSimulation
from vla_pruner_ros.sim.rendering import DEFAULT_VIEWS, QUALITIES
from vla_pruner_ros.sim.robot import SimState, SimulatedRobot
from vla_pruner_ros.sim.tasks import INSTRUCTIONS, instruction_for


@dataclass(frozen=True)
class SimRobotSettings:
    """Settings of the simulated robot."""

    task: str = setting(
        "drawer-close", "MetaWorld task.", choices=tuple(INSTRUCTIONS), when="start"
    )
    seed: int = setting(
        0, "Seed of the first episode; each later one adds 1.", low=0, high=2**31 - 1, when="start"
    )
    image_width: int = setting(
        224, "Width of the images (pixels).", low=32, high=1920, when="start"
    )
    image_height: int = setting(
        224, "Height of the images (pixels).", low=32, high=1080, when="start"
    )
    cameras: tuple[str, ...] = setting(
        ("scene",),
        f"Cameras, of {', '.join(DEFAULT_VIEWS)}: the first publishes image_raw, any other "
        "<camera>/image_raw.",
        when="start",
    )
    render_quality: str = setting(
        "fast",
        "fast leaves out shadows, reflections and multisampling.",
        choices=QUALITIES,
        when="start",
    )
    base_frame: str = setting(
        "base_link",
        "Frame of poses and actions: x forward from the robot, y left, z up.",
        when="start",
    )
    frame_rate: float = setting(10.0, "Images per second (Hz).", low=0.1, high=60.0)
    max_episode_time: float = setting(
        15.0, "Time after which an episode has failed (s).", low=0.1, high=3600.0
    )
    reset_pause: float = setting(
        1.0, "Time between the end of an episode and the next one (s).", low=0.0, high=60.0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        unknown = set(self.cameras) - set(DEFAULT_VIEWS)
        if unknown or not self.cameras:
            raise ValueError(f"cameras must name some of {list(DEFAULT_VIEWS)}, got {unknown}")


LIVE = tuple(spec.name for spec in specs_of(SimRobotSettings) if spec.when == "live")
OUTCOME_LEVEL = {
    "running": DiagnosticStatus.OK,
    "succeeded": DiagnosticStatus.OK,
    "timed_out": DiagnosticStatus.WARN,
}


class SimRobotNode(Node):
    """Publishes images, joint states and poses; executes EndEffectorActions in real time.

    | in  | vla_pruner/action                   | EndEffectorAction |
    | out | image_raw, <camera>/image_raw       | sensor_msgs/Image, sensor-data QoS |
    | out | joint_states, end_effector_pose     | JointState, PoseStamped, 20 Hz |
    | out | ~/episode                           | DiagnosticStatus, latched, also once a second |
    | srv | ~/reset                             | Trigger: the next episode, now |

    Raises ValueError for a parameter that is not allowed.
    """

    def __init__(self, **node_options):
        super().__init__("sim_robot", **node_options)
        settings = declare_settings(self, SimRobotSettings)
        self._task, self._frame = settings.task, settings.base_frame
        self._make_topics(settings.cameras)
        self._simulation = RealTimeSimulation(
            lambda: _make_robot(settings),
            listener=self,
            seed=settings.seed,
            **{name: getattr(settings, name) for name in LIVE},
        )
        self._simulation.start()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._take_orders()
        self.get_logger().info(f"Task: {instruction_for(self._task)} ({self._task})")

    def close(self) -> None:
        """Stop simulating; nothing is published afterwards."""
        self._simulation.close()

    def on_frame(self, camera: str, image: np.ndarray) -> None:
        """Publish a camera's image, uint8 [H, W, 3] RGB."""
        height, width, channels = image.shape
        message = Image(height=height, width=width, encoding="rgb8", step=width * channels)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._optical_frames[camera]
        message.data = array("B", image.tobytes())
        self._image_publishers[camera].publish(message)

    def on_state(self, state: SimState) -> None:
        """Publish joint states and the pose of the end effector."""
        stamp = self.get_clock().now().to_msg()
        joints = JointState(name=list(state.joint_names), position=state.joint_positions.tolist())
        joints.header.stamp = stamp
        self._joints.publish(joints)
        self._poses.publish(self._pose_message(state, stamp))

    def on_episode(self, episode: Episode) -> None:
        """Publish task, instruction and number of a new episode."""
        status = {
            "task": self._task,
            "instruction": instruction_for(self._task),
            "episode": episode.number,
            "seed": episode.seed,
            "time": f"{episode.time:.2f}",
            "episodes_finished": episode.finished,
            "episodes_succeeded": episode.succeeded,
        }
        self._episodes.publish(
            DiagnosticStatus(
                level=OUTCOME_LEVEL[episode.outcome],
                name=f"{self.get_name()}: episode",
                message=episode.outcome,
                hardware_id="simulated arm",
                values=[KeyValue(key=key, value=str(value)) for key, value in status.items()],
            )
        )
        if episode.outcome != self._last_outcome:
            self.get_logger().info(f"Episode {episode.number} {episode.outcome}")
        self._last_outcome = episode.outcome

    def _make_topics(self, cameras: tuple[str, ...]) -> None:
        first = cameras[0]
        topics = {name: "image_raw" if name == first else f"{name}/image_raw" for name in cameras}
        self._optical_frames = {
            name: "camera" if name == first else f"{name}_camera" for name in cameras
        }
        self._image_publishers = {
            name: self.create_publisher(Image, topic, _newest_only())
            for name, topic in topics.items()
        }
        self._joints = self.create_publisher(JointState, "joint_states", 10)
        self._poses = self.create_publisher(PoseStamped, "end_effector_pose", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._episodes = self.create_publisher(DiagnosticStatus, "~/episode", latched)
        self._last_outcome = ""

    def _take_orders(self) -> None:
        self.create_subscription(EndEffectorAction, "vla_pruner/action", self._on_action, 10)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_timer(0.5, self._check_simulation)

    def _on_action(self, message: EndEffectorAction) -> None:
        if message.stop:
            self._simulation.halt()
            return
        try:
            self._simulation.command(*self._checked(message))
        except ValueError as error:
            self.get_logger().warning(f"Action refused: {error}", throttle_duration_sec=1.0)

    def _checked(self, message: EndEffectorAction) -> tuple[np.ndarray, float]:
        """The action [7] and its duration (s), or ValueError with the reason."""
        frame = message.header.frame_id
        if frame not in ("", self._frame):
            raise ValueError(
                f"it is given in frame '{frame}', this robot moves in '{self._frame}'; set "
                "action_frame of the policy or base_frame of the robot"
            )
        shift, turn = message.translation, message.rotation
        numbers = (shift.x, shift.y, shift.z, turn.x, turn.y, turn.z, message.gripper)
        duration = message.duration.sec + message.duration.nanosec * 1e-9
        if not np.all(np.isfinite(numbers)):
            raise ValueError(f"it is not finite: {numbers}")
        if duration <= 0:
            raise ValueError(f"its duration must be positive, got {duration} s")
        return np.array(numbers), duration

    def _on_reset(self, _request, response: Trigger.Response) -> Trigger.Response:
        try:
            episode = self._simulation.reset()
        except RuntimeError as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        response.message = f"episode {episode.number} starts from seed {episode.seed}"
        return response

    def _on_set_parameters(self, parameters) -> SetParametersResult:
        specs = {spec.name: spec for spec in specs_of(SimRobotSettings) if spec.name in LIVE}
        known = [parameter for parameter in parameters if parameter.name in specs]
        try:
            values = {p.name: check_value(specs[p.name], p.value) for p in known}
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name, value in values.items():
            setattr(self._simulation, name, value)
        return SetParametersResult(successful=True)

    def _check_simulation(self) -> None:
        """A simulation that failed takes the node down instead of leaving it silent."""
        if self._simulation.failure:
            raise self._simulation.failure

    def _pose_message(self, state: SimState, stamp) -> PoseStamped:
        message = PoseStamped()
        message.header.stamp = stamp
        message.header.frame_id = self._frame
        point, turn = message.pose.position, message.pose.orientation
        point.x, point.y, point.z = map(float, state.end_effector_position)
        turn.x, turn.y, turn.z, turn.w = map(float, state.end_effector_quaternion)
        return message


def _newest_only() -> QoSProfile:
    """Sensor data, depth 1: an old image is of no use to anyone."""
    profile = qos_profile_sensor_data
    return QoSProfile(depth=1, reliability=profile.reliability, durability=profile.durability)


def _make_robot(settings: SimRobotSettings) -> SimulatedRobot:
    return SimulatedRobot(
        task=settings.task,
        seed=settings.seed,
        image_size=(settings.image_height, settings.image_width),
        cameras=settings.cameras,
        render_quality=settings.render_quality,
    )


def main(args: list[str] | None = None) -> int:
    return run_node(SimRobotNode, args, threads=2)


if __name__ == "__main__":
    sys.exit(main())
