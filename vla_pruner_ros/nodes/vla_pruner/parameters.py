"""Every parameter of the vla_pruner node, declared once: name, default, description, range.

The defaults of pruning stand in PruningConfig, those of execution in ExecutionConfig; all others
stand here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from typing import Any

from rcl_interfaces.msg import (
    SetParametersResult,
)
from rclpy.parameter import Parameter

from vla_pruner_ros.models.execution.config import DRAFTS, QUANTIZATIONS, ExecutionConfig
from vla_pruner_ros.models.policy import UNTRAINED
from vla_pruner_ros.nodes.parameter_specs import Spec, check_value, descriptor
from vla_pruner_ros.pruning.config import (
    BUDGET_MODES,
    DECAY_ORDERS,
    HISTORY_FILLS,
    METHOD_NAMES,
    SEMANTIC_QUERIES,
    TOKEN_RECOVERIES,
    PruningConfig,
)
from vla_pruner_ros.resources import POLICIES
from vla_pruner_ros.serving.client.address import IMAGE_FORMATS

_P = PruningConfig()
_E = ExecutionConfig()
_MAX_INT = 2**31 - 1
TRANSPORTS = ("raw", "compressed", "mjpeg")


SPECS = (
    # Visual tokens
    Spec("keep_ratio", _P.keep_ratio, "Share of visual tokens kept; 1.0 is the unpruned model.",
         1e-3, 1.0),
    Spec("token_budget", _P.token_budget,
         "Visual tokens kept per camera; 0 means: use keep_ratio.", 0, 4096),
    Spec("budget_mode", _P.budget_mode,
         "fixed, deadline (follow target_latency) or motion (more tokens for fine motion).",
         choices=BUDGET_MODES),
    Spec("target_latency", _P.target_latency,
         "Time one inference may take (s): the deadline of budget_mode deadline, and the limit "
         "above which diagnostics count a miss.", 1e-3, 60.0),
    Spec("fine_keep_ratio", _P.fine_keep_ratio,
         "budget_mode motion: share kept while the end effector moves finely.", 1e-3, 1.0),
    Spec("fine_motion", _P.fine_motion,
         "budget_mode motion: below this (m per action) motion is fine.", 1e-6, 1.0),
    Spec("coarse_motion", _P.coarse_motion,
         "budget_mode motion: above this (m per action) motion is coarse.", 1e-6, 1.0),
    Spec("method", _P.method, "Method that chooses the tokens.", choices=METHOD_NAMES),
    Spec("prune_layer", _P.prune_layer,
         "K: 0-based index of the first decoder layer that runs on the kept tokens.", 1, 1000),
    Spec("temporal_window", _P.temporal_window,
         "Inferences whose action attention is remembered.", 1, 64),
    Spec("temporal_decay", _P.temporal_decay,
         "Weight of each older inference relative to the next newer one.", 1e-3, 1.0),
    Spec("history_fill", _P.history_fill,
         "Until temporal_window inferences are remembered: full runs unpruned, semantic prunes by "
         "the prompt's attention alone.", choices=HISTORY_FILLS),
    Spec("semantic_queries", _P.semantic_queries,
         "Prefill queries behind the semantic score.", choices=SEMANTIC_QUERIES),
    Spec("action_layer", _P.action_layer,
         "Decoder layer whose action attention is remembered; -1: mean of the second half.",
         -1, 1000),
    Spec("decay_order", _P.decay_order,
         "newest_first weighs the newest inference most; oldest_first is the released research "
         "code's order.", choices=DECAY_ORDERS),
    Spec("token_recovery", _P.token_recovery,
         "Way back for tokens pruned for long: none, early_layers or refresh.",
         choices=TOKEN_RECOVERIES),
    Spec("refresh_period", _P.refresh_period,
         "Every n-th inference runs unpruned when token_recovery is refresh.", 2, 100000),
    Spec("seed", _P.seed, "Seed of the random method.", 0, _MAX_INT),
    # Model
    Spec("checkpoint", "",
         f"Directory of the checkpoint, or the name of one that comes with the package "
         f"({', '.join(POLICIES)}); '{UNTRAINED}' makes small random weights; ws://host:port is a "
         "policy server.",
         when="configure"),
    Spec("remote_image_format", "raw",
         "Pictures to a policy server: raw, or jpeg to save bandwidth.", choices=IMAGE_FORMATS,
         when="configure"),
    Spec("remote_timeout", 1.0,
         "Longest wait for a policy server's answer (s); a later one is dropped.", 1e-2, 60.0,
         when="configure"),
    Spec("remote_api_key_file", "",
         "File with the policy server's API key; empty takes the variable VLA_PRUNER_API_KEY.",
         when="configure"),
    Spec("checkpoint_root", "",
         "Directory that every checkpoint must lie in, apart from those of the package; empty: "
         "any.", when="start"),
    Spec("model", "auto", "Model family; auto matches it from the checkpoint's files.",
         when="configure"),
    Spec("device", "auto", "Torch device; auto takes cuda where there is one.", when="configure"),
    Spec("dtype", "auto", "auto is bfloat16 on cuda and float32 on cpu.",
         choices=("auto", "float32", "bfloat16", "float16"), when="configure"),
    Spec("unnorm_key", "",
         "Data set in the checkpoint's statistics whose action range is used; may stay empty where "
         "there is only one.", when="configure"),
    Spec("graphs", _E.graphs,
         "Replay each inference as a CUDA graph; without CUDA it has no effect.",
         when="configure"),
    Spec("draft", _E.draft,
         "openvla: guess the action's tokens from earlier actions and verify them together; the "
         "actions stay the same.", choices=DRAFTS, when="configure"),
    Spec("quantization", _E.quantization,
         "Weights of the decoder's linear layers; int8 and int4 need torchao and dtype bfloat16 or "
         "float32, and change actions.", choices=QUANTIZATIONS, when="configure"),
    Spec("num_threads", 0, "CPU threads of torch; 0 leaves torch's own choice.", 0, 1024,
         when="configure"),
    # NodeInputs
    Spec("image_topics", ("image_raw",), "One image topic per camera, in the model's order.",
         when="configure"),
    Spec("image_transport", "raw",
         "raw: sensor_msgs/Image; compressed: CompressedImage on <topic>/compressed; mjpeg: "
         "CompressedImage on the topic itself, as MJPEG cameras publish it.",
         choices=TRANSPORTS, when="configure"),
    Spec("image_transports", (),
         "image_transport of each camera, where they differ; empty: image_transport for all.",
         when="configure"),
    Spec("max_image_age", 0.5,
         "A frame older than this (s) yields no action; when frames stop for this long, motion "
         "stops.", 1e-3, 60.0),
    Spec("max_camera_spread", 0.1,
         "Largest difference (s) between the stamps of frames used together.", 0.0, 60.0),
    Spec("on_camera_loss", "hold",
         "When one of several cameras is silent for max_image_age: hold stops motion; continue "
         "goes on without it, for models that can (pi0).",
         choices=("hold", "continue"), when="configure"),
    Spec("instruction", "", "The task in words, until one arrives on the instruction topic."),
    Spec("state_joints", (), "Joints in the order the model's state expects; empty takes all.",
         when="configure"),
    Spec("max_state_age", 0.5,
         "Joint states, and the pose a workspace needs, older than this (s) stop motion.",
         1e-3, 60.0),
    # Motion
    Spec("control_rate", 10.0, "Actions per second (Hz).", 0.1, 1000.0),
    Spec("command_rate", 50.0, "Twist commands per second (Hz).", 20.0, 1000.0),
    Spec("action_frame", "base_link", "Frame whose axes the actions use (header.frame_id)."),
    Spec("max_translation", 0.05, "Longest displacement of one action (m).", 0.0, 1.0),
    Spec("max_rotation", 0.25, "Largest rotation of one action (rad).", 0.0, math.pi),
    Spec("max_gripper_step", 1.0, "Largest change of the gripper in one action (1 = full stroke).",
         0.0, 1.0),
    Spec("workspace", (),
         "Box the end effector stays in, in action_frame: x_min y_min z_min x_max y_max z_max (m); "
         "empty: no box. Needs end_effector_pose."),
    Spec("arm_latency", 0.2,
         "Longest time (s) from a published action to the arm that starts it, and from a pose "
         "measured without a stamp to its arrival: a workspace counts on motions that the pose "
         "does not show yet.", 0.0, 5.0),
    Spec("latency_compensation", True,
         "Skip the actions of a chunk whose time passed while it was computed."),
    Spec("blend_steps", 0, "Actions over which a new chunk is blended into the old one.", 0, 100),
    # Care
    Spec("relevance_timeout", 2.0,
         "A longer gap (s) between inferences forgets the temporal relevance.", 1e-2, 3600.0),
    Spec("max_consecutive_failures", 5,
         "Failed inferences in a row after which motion is held until ~/reset or re-activation.",
         1, 1000),
    Spec("inference_timeout", 10.0,
         "An inference that takes longer than this (s) is reported, and motion stops until one "
         "succeeds.", 0.1, 3600.0),
    Spec("transition_timeout", 2.0,
         "Longest wait (s) for a running inference on deactivate, cleanup and shutdown.",
         0.0, 60.0),
)  # fmt: skip

SPEC_BY_NAME = {spec.name: spec for spec in SPECS}
_PRUNING_NAMES = tuple(field.name for field in fields(PruningConfig))

Values = make_dataclass(
    "Values",
    [(spec.name, type(spec.default)) for spec in SPECS if spec.name not in _PRUNING_NAMES],
    frozen=True,
)


@dataclass(frozen=True)
class NodeSettings:
    """All parameters at one instant; replaced as a whole, never changed."""

    pruning: PruningConfig
    values: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.values, name)


def make_settings(values: dict[str, Any]) -> NodeSettings:
    """Check a full set of parameter values.

    Raises:
        ValueError: one sentence naming the parameter, the value and what is allowed.
    """
    checked = {spec.name: check_value(spec, values[spec.name]) for spec in SPECS}
    _check_workspace(checked["workspace"])
    if not checked["image_topics"] or not all(checked["image_topics"]):
        raise ValueError("image_topics must name at least one topic, and none may be empty")
    _check_transports(checked["image_transports"], len(checked["image_topics"]))
    pruning = PruningConfig(**{name: checked.pop(name) for name in _PRUNING_NAMES})
    return NodeSettings(pruning, Values(**checked))


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


def _refuse_deletion(parameters: list[Any]) -> None:
    for parameter in parameters:
        if parameter.name in SPEC_BY_NAME and parameter.type_ == Parameter.Type.NOT_SET:
            raise ValueError(f"{parameter.name} cannot be deleted")


class LiveParameters:
    """Declares the parameters on a node and holds the NodeSettings in force.

    `settings` may be read from any thread: a refused change leaves it as it was, an accepted one
    replaces it before the service answers.
    """

    def __init__(self, node: Any, on_change: Callable[[dict[str, Any]], None]) -> None:
        """Declare everything and check what YAML and the command line gave.

        on_change: called with the new values after they took effect.

        Raises:
            ValueError: an initial value is not allowed.
        """
        self._node = node
        self._on_change = on_change
        self._lock = threading.Lock()
        self._frozen = False
        for spec in SPECS:
            default = list(spec.default) if spec.is_list else spec.default
            node.declare_parameter(spec.name, default, descriptor(spec))
        self.settings = make_settings(self._current())
        node.add_on_set_parameters_callback(self._on_set)

    def freeze(self) -> NodeSettings:
        """Refuse changes of what is read on configure from now on; return the settings in force."""
        with self._lock:
            self._frozen = True
            return self.settings

    def thaw(self) -> None:
        """Allow them again."""
        with self._lock:
            self._frozen = False

    def _current(self) -> dict[str, Any]:
        return {spec.name: self._node.get_parameter(spec.name).value for spec in SPECS}

    def _on_set(self, parameters: list[Any]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in SPEC_BY_NAME}
        try:
            _refuse_deletion(parameters)
            with self._lock:
                self._refuse_frozen(changes)
                self.settings = make_settings({**self._current(), **changes})
        except ValueError as error:
            self._node.log.warning(f"Parameter refused: {error}")
            return SetParametersResult(successful=False, reason=str(error))
        for name, value in changes.items():
            self._node.log.info(f"Parameter {name} is now {value!r}")
        self._on_change(changes)
        return SetParametersResult(successful=True)

    def _refuse_frozen(self, changes: dict[str, Any]) -> None:
        fixed = [name for name in changes if SPEC_BY_NAME[name].when == "configure"]
        if self._frozen and fixed:
            raise ValueError(
                f"{fixed[0]} is read on configure: deactivate and clean up the node, set it, then "
                "configure again"
            )


def markdown_table() -> str:
    """Return the table of docs/reference/parameters.md; run this module to print it."""
    lines = ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
    for spec in SPECS:
        default = list(spec.default) if spec.is_list else spec.default
        allowed = ", ".join(spec.choices)
        if spec.low is not None:
            allowed = f"{spec.low:g} to {spec.high:g}"
        mark = "" if spec.when == "live" else f" *({spec.when})*"
        lines.append(f"| `{spec.name}` | `{default!r}` | {allowed} | {spec.description}{mark} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("# Parameters of the vla_pruner node\n")
    print("Live ones change the very next inference. Those marked *(configure)* are read on")
    print(
        "configure and refused while the node is configured; *(start)* ones only the command line"
    )
    print("and a file can set.\n")
    print(markdown_table())
