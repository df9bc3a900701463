"""Typed settings of the vla_pruner node: the values of all its parameters at one instant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.families import option_specs
from vla_pruner_ros.models.loading_config import LoadingConfig
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.serving.client.address import IMAGE_FORMATS
from vla_pruner_ros.settings import Spec, check_value, setting, specs_of

TRANSPORTS = ("raw", "compressed", "mjpeg")
OPTIONS = "Options of a model family"


@dataclass(frozen=True)
class NodeSettings(LoadingConfig):
    """All settings at one instant; replaced together, never changed.

    Attributes:
        pruning: which tokens are kept.
        execution: how the policy is run.
        options: of the model family, by name; None leaves one to the checkpoint.

    Raises:
        ValueError: one sentence that names the parameter, the value and what is allowed.
    """

    remote_image_format: str = setting(
        "raw",
        "Images to a policy server: raw, or jpeg to save bandwidth.",
        choices=IMAGE_FORMATS,
        when="configure",
    )
    remote_timeout: float = setting(
        1.0,
        "Longest wait for a policy server's answer (s); a later one is dropped.",
        low=1e-2,
        high=60.0,
        when="configure",
    )
    remote_api_key_file: str = setting(
        "",
        "File with the policy server's API key; empty takes the variable VLA_PRUNER_API_KEY.",
        when="configure",
    )
    checkpoint_root: str = setting(
        "",
        "Directory that every checkpoint and tokenizer must lie in, apart from those of the "
        "package; empty: any.",
        when="start",
    )
    robot: str = setting(
        "",
        "Robot profile that explains the policy's numbers: a bundled name or a file; empty: the "
        "one that the checkpoint names.",
        when="configure",
    )
    dry_run: bool = setting(
        False,
        "Compute everything and publish commands under ~/preview/ alone: nothing moves.",
        when="configure",
    )
    # Inputs
    image_topics: tuple[str, ...] = setting(
        ("image_raw",), "One image topic per camera, in the model's order.", when="configure"
    )
    image_transport: str = setting(
        "raw",
        "raw: sensor_msgs/Image; compressed: CompressedImage on <topic>/compressed; mjpeg: "
        "CompressedImage on the topic itself, as MJPEG cameras publish it.",
        choices=TRANSPORTS,
        when="configure",
    )
    image_transports: tuple[str, ...] = setting(
        (),
        "image_transport of each camera, if they differ; empty: image_transport for all.",
        when="configure",
    )
    max_image_age: float = setting(
        0.5,
        "A frame older than this (s) yields no action; when frames stop for this long, motion "
        "stops.",
        low=1e-3,
        high=60.0,
    )
    max_camera_spread: float = setting(
        0.1,
        "Largest difference (s) between the stamps of frames used together.",
        low=0.0,
        high=60.0,
    )
    on_camera_loss: str = setting(
        "hold",
        "If one of several cameras is silent for max_image_age: hold stops motion; continue "
        "infers without it, for models that can (pi0, pi05, smolvla).",
        choices=("hold", "continue"),
        when="configure",
    )
    instruction: str = setting("", "The task, until one arrives on the instruction topic.")
    state_joints: tuple[str, ...] = setting(
        (), "Joints in the order the model's state expects; empty takes all.", when="configure"
    )
    joint_state_topics: tuple[str, ...] = setting(
        ("joint_states",),
        "Topics of joint states, merged by joint name. left_=/left/joint_states puts left_ before "
        "the names of that topic.",
        when="configure",
    )
    max_state_age: float = setting(
        0.5,
        "Joint states, and the pose a workspace needs, older than this (s) stop motion.",
        low=1e-3,
        high=60.0,
    )
    # Motion
    control_rate: float = setting(10.0, "Actions per second (Hz).", low=0.1, high=1000.0)
    command_rate: float = setting(50.0, "Twist commands per second (Hz).", low=20.0, high=1000.0)
    action_frame: str = setting("base_link", "Frame whose axes the actions use (header.frame_id).")
    max_translation: float = setting(
        0.05, "Longest displacement of one action (m).", low=0.0, high=1.0
    )
    max_rotation: float = setting(
        0.25, "Largest rotation of one action (rad).", low=0.0, high=math.pi
    )
    max_joint_velocity: float = setting(
        1.0,
        "Fastest motion of a joint (rad/s or m/s); the profile's and the URDF's limits apply too.",
        low=1e-3,
        high=100.0,
    )
    joint_commands: str = setting(
        "both",
        "For profiles that command joints: trajectory (~/joint_trajectory), positions "
        "(~/joint_command) or both.",
        choices=("trajectory", "positions", "both"),
    )
    separate_arms: bool = setting(
        False,
        "Publish each arm of the robot profile on topics of its own, such as "
        "~/left/joint_trajectory, for robots with one controller for each arm.",
        when="configure",
    )
    gripper_action: str = setting(
        "none",
        "Action of control_msgs that the gripper takes next to ~/gripper_command and "
        "~/gripper_trajectory, on <gripper>/gripper_cmd.",
        choices=("none", "gripper_command", "parallel_gripper_command"),
        when="configure",
    )
    gripper_max_effort: float = setting(
        0.0, "Effort of gripper_action's goals (N or Nm); 0: the driver's.", low=0.0, high=1000.0
    )
    max_gripper_step: float = setting(
        1.0, "Largest change of the gripper in one action (1 = full stroke).", low=0.0, high=1.0
    )
    workspace: tuple[float, ...] = setting(
        (),
        "Box the end effector stays in, in action_frame: x_min y_min z_min x_max y_max z_max (m); "
        "empty: no box. Needs end_effector_pose.",
    )
    arm_latency: float = setting(
        0.2,
        "Longest time (s) until the arm starts a published action, or until a pose without a "
        "stamp arrives; a workspace also counts the motions of this time.",
        low=0.0,
        high=5.0,
    )
    latency_compensation: bool = setting(
        True, "Skip the actions of a chunk whose time passed while it was computed."
    )
    blend_steps: int = setting(
        0, "Actions over which a new chunk is blended into the old one.", low=0, high=100
    )
    # Failures
    relevance_timeout: float = setting(
        2.0,
        "A longer gap (s) between inferences clears the temporal relevance.",
        low=1e-2,
        high=3600.0,
    )
    max_consecutive_failures: int = setting(
        5,
        "Failed inferences in a row after which motion is held until ~/reset or re-activation.",
        low=1,
        high=1000,
    )
    inference_timeout: float = setting(
        10.0,
        "An inference that takes longer than this (s) is reported, and motion stops until one "
        "succeeds.",
        low=0.1,
        high=3600.0,
    )
    transition_timeout: float = setting(
        2.0,
        "Longest wait (s) for a running inference on deactivate, cleanup and shutdown.",
        low=0.0,
        high=60.0,
    )
    pruning: PruningConfig = field(default_factory=PruningConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_workspace(self.workspace)
        if not self.image_topics or not all(self.image_topics):
            raise ValueError("image_topics must name at least one topic, and none may be empty")
        _check_transports(self.image_transports, len(self.image_topics))
        if not self.joint_state_topics or not all(
            entry.rpartition("=")[2] for entry in self.joint_state_topics
        ):
            raise ValueError(
                "joint_state_topics must name at least one topic, and none may be empty, got "
                f"{list(self.joint_state_topics)}"
            )


def _check_transports(transports: tuple[str, ...], cameras: int) -> None:
    unknown = [name for name in transports if name not in TRANSPORTS]
    if unknown or (transports and len(transports) != cameras):
        raise ValueError(
            f"image_transports must be empty or name one of {', '.join(TRANSPORTS)} for each of "
            f"the {cameras} image_topics, got {list(transports)}"
        )


def _check_workspace(box: tuple[float, ...]) -> None:
    if box and (
        len(box) != 6 or not all(low < high for low, high in zip(box[:3], box[3:], strict=True))
    ):
        raise ValueError(
            "workspace must be empty or x_min y_min z_min x_max y_max z_max with each minimum "
            f"below its maximum, got {list(box)}"
        )


def make_settings(values: Mapping[str, Any]) -> NodeSettings:
    """Sort parameter values by name into NodeSettings; names left out keep their default.

    Raises:
        ValueError: one sentence that names the parameter, the value and what is allowed.
    """
    options = {
        spec.name: check_value(spec, values[spec.name])
        for spec in sections()[OPTIONS]
        if spec.name in values
    }
    return NodeSettings(
        pruning=PruningConfig(**_of(PruningConfig, values)),
        execution=ExecutionConfig(**_of(ExecutionConfig, values)),
        options=options,
        **_of(NodeSettings, values),
    )


def _of(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {spec.name: values[spec.name] for spec in specs_of(cls) if spec.name in values}


@cache
def sections() -> dict[str, tuple[Spec, ...]]:
    """Return the specs of all parameters of the node, by the heading they stand under."""
    return {
        "Visual tokens": specs_of(PruningConfig),
        "Execution": specs_of(ExecutionConfig),
        OPTIONS: option_specs(),
        "Model, inputs, motion and failures": specs_of(NodeSettings),
    }


@cache
def parameter_specs() -> dict[str, Spec]:
    """Return the specs of all parameters of the node by name.

    Raises:
        TypeError: two settings have one name.
    """
    found: dict[str, Spec] = {}
    for specs in sections().values():
        for spec in specs:
            if spec.name in found:
                raise TypeError(f"two settings of the node are called {spec.name}")
            found[spec.name] = spec
    return found
