"""Cameras, state and action of a LeRobot policy, from its config.json."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_ros.models.policy import CheckpointError

EMPTY_CAMERA = "empty_camera"
"""In the name of a camera that training filled with a blank, masked image."""


@dataclass(frozen=True)
class Features:
    """Inputs and outputs of the policy; names and sizes are empty and 0 if the file lacks them.

    Attributes:
        cameras: features of the images in the order of training, without the empty ones.
        state_dim, action_dim: numbers of the robot's state and of one action.
        action_names: one name a number of the action.
    """

    cameras: tuple[str, ...] = ()
    state_dim: int = 0
    action_dim: int = 0
    action_names: tuple[str, ...] = ()

    @classmethod
    def read(cls, config: dict) -> Features:
        """Read input_features and output_features.

        Raises:
            CheckpointError: features that are no objects with type and shape.
        """
        inputs = _checked(config, "input_features")
        outputs = _checked(config, "output_features")
        visual = [name for name, feature in inputs.items() if feature.get("type") == "VISUAL"]
        return cls(
            cameras=tuple(name for name in visual if EMPTY_CAMERA not in name),
            state_dim=_size(inputs.get("observation.state")),
            action_dim=_size(outputs.get("action")),
            action_names=tuple(map(str, config.get("action_feature_names") or ())),
        )


def _checked(config: dict, key: str) -> dict:
    features = config.get(key) or {}
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise CheckpointError(f"{key} in config.json must map names to their type and shape")
    return features


def _size(feature: dict | None) -> int:
    shape = (feature or {}).get("shape") or [0]
    if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
        raise CheckpointError(f"config.json: shape {shape} is not that of a list of numbers")
    return shape[0]
