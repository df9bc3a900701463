"""Layout of a client's messages: keys of images, state and prompt, and the form of actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_ros.conversions.instruction_and_state import clean_instruction
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.robots.profile import ActionField, RobotProfile
from vla_pruner_ros.serving.wire.limits import WireLimits
from vla_pruner_ros.serving.wire.structure import WireError

MIN_SIDE = 8
"""Pixels; a smaller image is a mistake, not a camera's."""


@dataclass(frozen=True)
class GripperNumbers:
    """A checkpoint's numbers for the gripper, for clients where -1 is open and +1 closed.

    closed, open: the numbers. threshold: a number beyond it, towards open, is open.
    """

    closed: float
    open: float
    threshold: float

    def close_positive(self, numbers: np.ndarray) -> np.ndarray:
        """Return -1 for open and +1 for closed, as robosuite has it: float [n] -> [n]."""
        is_open = (numbers - self.threshold) * (self.open - self.closed) > 0
        return np.where(is_open, -1.0, 1.0)


@dataclass(frozen=True)
class ObservationLayout:
    """Keys of an observation. A key with slashes is looked up as it stands, then level by level.

    cameras: in the order of the policy's training. state: their numbers are concatenated; the
    last key may be given how many of them are its own (last_state_size), 0 for all that are left.
    gripper: how to turn the last number of an action to -1 open, +1 closed; None leaves it.
    """

    name: str
    cameras: tuple[str, ...]
    state: tuple[str, ...]
    prompt: str
    gripper: GripperNumbers | None = None
    last_state_size: int = 0

    def sizes(self, state_dim: int) -> tuple[int, ...]:
        """Return how many of the state's numbers each state key carries."""
        if len(self.state) == 2:
            return (state_dim - self.last_state_size, self.last_state_size)
        return (state_dim,) * len(self.state)

    def read(
        self, fields: Mapping[str, Any], num_cameras: int, state_dim: int, limits: WireLimits
    ) -> Observation:
        """Turn a decoded message into an Observation.

        Args:
            fields: of the message. num_cameras, state_dim: what the policy takes.

        Raises:
            WireError: something is missing or of the wrong type, shape or range.
        """
        images = [
            as_image(_find(fields, key, "image"), key, limits) for key in self.cameras[:num_cameras]
        ]
        state = self._read_state(fields, state_dim) if state_dim else None
        return Observation(images, self._read_prompt(fields, limits), state)

    def actions(self, actions: np.ndarray) -> np.ndarray:
        """Return the policy's actions as the client expects them: float32 [steps, n]."""
        actions = np.array(actions, dtype=np.float32)
        if self.gripper is not None:
            actions[:, -1] = self.gripper.close_positive(actions[:, -1])
        return actions

    def _read_prompt(self, fields: Mapping[str, Any], limits: WireLimits) -> str:
        text = _find(fields, self.prompt, "instruction")
        if not isinstance(text, str):
            raise WireError(f"{self.prompt} must be a string, got {_kind(text)}")
        if len(text) > limits.text:
            raise WireError(
                f"{self.prompt} has {len(text)} characters, at most {limits.text} are taken"
            )
        cleaned = clean_instruction(text)
        if not cleaned:
            raise WireError(f"{self.prompt} is empty: the policy needs an instruction")
        return cleaned

    def _read_state(self, fields: Mapping[str, Any], state_dim: int) -> np.ndarray:
        parts = [_as_numbers(_find(fields, key, "state"), key) for key in self.state]
        state = np.concatenate(parts) if parts else np.zeros(0)
        if len(state) != state_dim:
            names = " and ".join(self.state)
            raise WireError(f"{names} hold {len(state)} numbers, the policy takes {state_dim}")
        return state


def as_image(value: Any, key: str, limits: WireLimits) -> np.ndarray:
    """Check an image and return it as uint8 [H, W, 3].

    Taken: uint8, or float in 0..1; [H, W, 3] or [3, H, W].

    Raises:
        WireError: anything else.
    """
    if not isinstance(value, np.ndarray):
        raise WireError(f"{key} must be an image array, got {_kind(value)}")
    if value.ndim != 3 or 3 not in (value.shape[0], value.shape[2]):
        raise WireError(
            f"{key} has shape {list(value.shape)}: an image is [height, width, 3] or "
            "[3, height, width]"
        )
    if value.shape[2] != 3:
        value = value.transpose(1, 2, 0)
    _check_sides(value, key, limits)
    return np.ascontiguousarray(_as_bytes(value, key))


def _check_sides(image: np.ndarray, key: str, limits: WireLimits) -> None:
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE or max(height, width) > limits.image_side:
        raise WireError(
            f"{key} has {height} x {width} pixels: each side must have {MIN_SIDE} to "
            f"{limits.image_side}"
        )


def _as_bytes(image: np.ndarray, key: str) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise WireError(f"{key} is of type {image.dtype}: an image is uint8, or float in 0..1")
    low, high = image.min(), image.max()
    if not (low >= 0.0 and high <= 1.0):  # also where one is NaN
        raise WireError(f"{key} has values in {low:.3g} .. {high:.3g}: float images are in 0..1")
    return (255.0 * image).astype(np.uint8)


def _as_numbers(value: Any, key: str) -> np.ndarray:
    if isinstance(value, list) and not all(type(item) in (int, float) for item in value):
        raise WireError(f"{key} must hold numbers")
    if not isinstance(value, (list, int, float, np.ndarray, np.generic)):
        raise WireError(f"{key} must be an array of numbers, got {_kind(value)}")
    numbers = np.atleast_1d(np.asarray(value))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise WireError(f"{key} must be one row of numbers, got shape {list(numbers.shape)}")
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise WireError(f"{key} holds numbers that are not finite")
    return numbers


def _find(fields: Mapping[str, Any], key: str, what: str) -> Any:
    if key in fields:
        return fields[key]
    value: Any = fields
    for part in key.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            present = ", ".join(sorted(str(name)[:40] for name in fields)[:12]) or "nothing"
            raise WireError(f"the {what} {key} is missing; the message holds {present}")
        value = value[part]
    return value


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return {dict: "a map", list: "a list", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )


@dataclass(frozen=True)
class _Keys:
    """Names that a published client uses on one robot, in the order of the profile's cameras."""

    cameras: str
    state: str
    robosuite_gripper: bool = False
    last_state_size: int = 0


_LIBERO = _Keys("observation/image observation/wrist_image", "observation/state", True)
_OPENPI = {
    "franka_libero": _LIBERO,
    "franka_libero_pi0": _LIBERO,
    "franka_droid": _Keys(
        "observation/exterior_image_1_left observation/wrist_image_left",
        "observation/joint_position observation/gripper_position",
        last_state_size=1,
    ),
    "aloha": _Keys(
        "images/cam_high images/cam_low images/cam_left_wrist images/cam_right_wrist", "state"
    ),
}
_LIBERO_OF_VLA_EVAL = _Keys("images/agentview images/wrist", "states", True)
_VLA_EVAL = {"franka_libero": _LIBERO_OF_VLA_EVAL, "franka_libero_pi0": _LIBERO_OF_VLA_EVAL}


def openpi_layout(profile: RobotProfile) -> ObservationLayout:
    """Return the keys that openpi's clients send for a robot.

    A robot that openpi has no client for gets observation/CAMERA and observation/state.
    """
    cameras = " ".join(f"observation/{camera.name}" for camera in profile.cameras)
    keys = _OPENPI.get(profile.name, _Keys(cameras, "observation/state"))
    return _layout(profile, keys, "prompt")


def vla_eval_layout(profile: RobotProfile) -> ObservationLayout:
    """Return the keys that vla-eval's benchmarks send for a robot: images/CAMERA and states."""
    cameras = " ".join(f"images/{camera.name}" for camera in profile.cameras)
    keys = _VLA_EVAL.get(profile.name, _Keys(cameras, "states"))
    return _layout(profile, keys, "task_description")


def _layout(profile: RobotProfile, keys: _Keys, prompt: str) -> ObservationLayout:
    gripper = _robosuite_gripper(profile.action[-1]) if keys.robosuite_gripper else None
    return ObservationLayout(
        profile.name,
        tuple(keys.cameras.split()),
        tuple(keys.state.split()),
        prompt,
        gripper,
        keys.last_state_size,
    )


def _robosuite_gripper(field: ActionField) -> GripperNumbers | None:
    if (field.closed, field.open) == (1.0, -1.0):
        return None  # trained with robosuite's own numbers
    middle = (field.closed + field.open) / 2
    return GripperNumbers(
        field.closed, field.open, middle if field.threshold is None else field.threshold
    )
