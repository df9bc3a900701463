"""Normalisation of a policy's state and actions, from the three places that may define it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_pruner_ros.models.checkpoints import WeightFiles
from vla_pruner_ros.models.lerobot.features import Features
from vla_pruner_ros.models.lerobot.normalization import EPSILON, Normalizer, by_mode
from vla_pruner_ros.models.lerobot.processors import (
    BASE_CHECKPOINT,
    POSTPROCESSOR,
    PREPROCESSOR,
    Processor,
)
from vla_pruner_ros.models.policy import CheckpointError

BUFFERS = {
    "observation.state": "normalize_inputs.buffer_observation_state",
    "action": "unnormalize_outputs.buffer_action",
}
"""Names of statistics that releases before 0.4 keep among the weights."""
STATE, ACTION = "observation.state", "action"


@dataclass(frozen=True)
class Statistics:
    """Normalisation of a policy.

    Attributes:
        state, action: the maps of state and action.
        relative: bool [action size], True where an action counts from the present state; None:
            nowhere.
    """

    state: Normalizer
    action: Normalizer
    relative: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.relative is None:
            return
        needed = 1 + int(np.flatnonzero(self.relative).max(initial=-1))
        if len(self.relative) != self.action.size or needed > self.state.size:
            raise CheckpointError(
                f"actions relative to the state need {needed} state numbers and "
                f"{len(self.relative)} action numbers; the statistics have {self.state.size} "
                f"and {self.action.size}"
            )

    @property
    def relative_numbers(self) -> tuple[bool, ...]:
        """One a number of the action: whether it counts from the present state; empty: none."""
        return () if self.relative is None else tuple(map(bool, self.relative))

    def actions(self, normalized: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Turn the network's actions into robot units.

        Args:
            normalized: [steps, at least the action's size].
            state: the robot's own state, as observed, [state size].

        Returns:
            float32 [steps, action size].
        """
        actions = self.action.to_units(normalized)
        if self.relative is None:
            return actions
        start = np.zeros(self.action.size, np.float32)
        shared = min(len(start), len(state))
        start[:shared] = np.asarray(state, np.float32)[:shared]
        return actions + np.where(self.relative, start, np.float32(0.0))

    def check_widths(self, max_state_dim: int, max_action_dim: int) -> None:
        """Raises CheckpointError for more numbers than the network takes."""
        for name, part, limit in (
            ("state", self.state, max_state_dim),
            ("action", self.action, max_action_dim),
        ):
            if part.size > limit:
                raise CheckpointError(
                    f"statistics of the {name} have {part.size} numbers, the model takes {limit}"
                )


def read_statistics(
    directory: Path, config: dict, weights: WeightFiles, modes: Mapping[str, str]
) -> Statistics:
    """Read a LeRobot policy's normalisation.

    Args:
        directory: of the policy; config: its config.json.
        weights: its tensors, for releases that keep statistics there.
        modes: STATE and ACTION -> normalisation mode where no file names one.

    Raises:
        CheckpointError: statistics that are missing or do not fit the features.
    """
    features = Features.read(config)
    before, after = (Processor.read(directory / name) for name in (PREPROCESSOR, POSTPROCESSOR))
    modes = {**modes, **(config.get("normalization_mapping") or {})}
    if before.exists or after.exists:
        parts = _of_processors(before, after, modes, features)
    else:
        parts = _of_buffers(weights, modes, features)
    statistics = Statistics(*parts, _relative(before, after, config, parts[1].size, features))
    _check_sizes(statistics, features)
    return statistics


def _of_processors(
    before: Processor, after: Processor, modes: Mapping[str, str], features: Features
) -> tuple[Normalizer, Normalizer]:
    state = _by_step(before, "normalizer_processor", STATE, modes, features.state_dim)
    if after.step("unnormalizer_processor") is None:
        after, step = before, "normalizer_processor"
    else:
        step = "unnormalizer_processor"
    return state, _by_step(after, step, ACTION, modes, features.action_dim)


def _by_step(
    processor: Processor, step: str, feature: str, modes: Mapping[str, str], size: int
) -> Normalizer:
    settings = processor.settings(step)
    kind = "STATE" if feature == STATE else "ACTION"
    mode = (settings.get("norm_map") or {}).get(kind) or modes.get(kind, "MEAN_STD")
    own = {} if mode == "IDENTITY" else _of_feature(processor.state(step), feature)
    name = "state" if feature == STATE else "action"
    return by_mode(name, mode, own, size, settings.get("eps", EPSILON))


def _of_feature(tensors: Mapping[str, np.ndarray], feature: str) -> dict[str, np.ndarray]:
    start = feature + "."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def _of_buffers(
    weights: WeightFiles, modes: Mapping[str, str], features: Features
) -> tuple[Normalizer, Normalizer]:
    if not any(name.startswith(tuple(BUFFERS.values())) for name in weights.shapes):
        raise CheckpointError(f"{weights.directory} has no {PREPROCESSOR}: {BASE_CHECKPOINT}")
    return tuple(
        by_mode(name, modes.get(kind, "MEAN_STD"), _buffers(weights, BUFFERS[feature]), size)
        for name, kind, feature, size in (
            ("state", "STATE", STATE, features.state_dim),
            ("action", "ACTION", ACTION, features.action_dim),
        )
    )


def _buffers(weights: WeightFiles, prefix: str) -> dict[str, np.ndarray]:
    start = prefix + "."
    names = (name for name in weights.shapes if name.startswith(start))
    return {name[len(start) :]: weights.read(name).float().numpy() for name in names}


def _relative(
    before: Processor, after: Processor, config: dict, size: int, features: Features
) -> np.ndarray | None:
    """Return which actions count from the present state; the processors' setting comes first."""
    step = before.step("relative_actions_processor")
    if step is None:
        enabled = bool(config.get("use_relative_actions"))
        excluded, names = config.get("relative_exclude_joints"), features.action_names
    else:
        settings = step.get("config") or {}
        enabled = bool(settings.get("enabled"))
        excluded = settings.get("exclude_joints")
        names = settings.get("action_names") or features.action_names
    if after.step("absolute_actions_processor") is not None:
        enabled = bool(after.settings("absolute_actions_processor").get("enabled", enabled))
    if not enabled:
        return None
    markers = [str(marker).lower() for marker in (["gripper"] if excluded is None else excluded)]
    mask = np.ones(size, bool)
    for number, name in enumerate(list(names or ())[:size]):
        mask[number] = not any(marker and marker in str(name).lower() for marker in markers)
    return mask


def _check_sizes(statistics: Statistics, features: Features) -> None:
    for name, part, size in (
        ("state", statistics.state, features.state_dim),
        ("action", statistics.action, features.action_dim),
    ):
        if size and part.size != size:
            raise CheckpointError(
                f"config.json has {size} numbers of the {name}, its statistics have {part.size}"
            )
