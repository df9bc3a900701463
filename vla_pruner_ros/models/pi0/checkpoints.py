"""What pi0 checkpoints look like on disk: configuration, tensor names, statistics.

Two layouts are read. transformers' PI0 directory: config.json with model_type pi0, statistics in
processor_config.json. LeRobot's: config.json with type pi0, statistics in the state files of
policy_preprocessor.json, or as buffers among the weights of older releases. The tensors go by the
same names in both (transformers writes LeRobot's), but for prefixes that differ by release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.checkpoints import WeightFiles, read_json, read_optional_json
from vla_pruner_ros.models.policy import CheckpointError

EPSILON = 1e-8
"""Added to the state's standard deviation, as in training."""

VARIANTS = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
"""LeRobot's names of the one size that exists; transformers' defaults are that size."""
NOT_SUPPORTED = ("adapt_to_pi_aloha", "use_delta_joint_actions_aloha", "use_relative_actions")
"""LeRobot's switches that transform states and actions beyond mean and standard deviation."""
CONFIG_FIELDS = (
    "vlm_config",
    "dit_config",
    "chunk_size",
    "max_state_dim",
    "max_action_dim",
    "num_inference_steps",
    "min_period",
    "max_period",
)

PREFIXES = (
    (r"^model\.(?!vlm\.|dit\.)", ""),
    (r"^(?:embed_action_time\.)(?=state_proj|action_)", ""),
    (r"^paligemma_with_expert\.gemma_expert\.lm_head\.", "expert.embed_tokens."),
    (r"^(?:paligemma_with_expert\.gemma_expert\.model|model\.dit)\.", "expert."),
    (r"^(?:paligemma_with_expert\.paligemma(?:\.model)?|model\.vlm)\.", ""),
    (r"^(?:language_model\.)?lm_head\.", "language_model.embed_tokens."),
    (r"^language_model\.model\.", "language_model."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
)
"""Applied in this order. The output layer is tied to the embedding, and some files hold only it."""


def is_lerobot(config: dict) -> bool:
    return config.get("type") == "pi0"


def module_name(stored: str) -> str:
    """A tensor's name in the file -> its name in pi0_model.Pi0Network."""
    for pattern, replacement in PREFIXES:
        stored = re.sub(pattern, replacement, stored)
    return stored


def stored_name(name: str) -> str:
    """The name under which transformers saves a tensor of Pi0Network."""
    if name.startswith("expert.embed_tokens."):
        return "paligemma_with_expert.gemma_expert.lm_head." + name.rpartition(".")[2]
    if name.startswith("expert."):
        return "paligemma_with_expert.gemma_expert.model." + name.removeprefix("expert.")
    if name.startswith("language_model."):
        inner = name.removeprefix("language_model.")
        return "paligemma_with_expert.paligemma.model.language_model.model." + inner
    if name.startswith(("vision_tower.", "multi_modal_projector.")):
        return "paligemma_with_expert.paligemma.model." + name
    return name


def network_config(config: dict):
    """transformers' PI0Config from either layout's config.json.

    Raises:
        CheckpointError: another size than pi0's in LeRobot's terms, or values that do not fit.
    """
    from transformers import PI0Config

    _check_lerobot(config)
    given = {name: config[name] for name in CONFIG_FIELDS if name in config}
    if "num_steps" in config:  # the older LeRobot name
        given.setdefault("num_inference_steps", config["num_steps"])
    try:
        built = PI0Config(**given)
    except Exception as error:  # strict dataclasses raise types of their own
        raise CheckpointError(f"config.json does not describe a pi0 model: {error}") from None
    _check_halves(built)
    _check_pictures(built.vlm_config.vision_config, config.get("image_resolution"))
    return built


def _check_lerobot(config: dict) -> None:
    for field, known in VARIANTS.items():
        if config.get(field, known) != known:
            raise CheckpointError(f"{field} {config[field]!r} is not supported; only {known} is")
    switched_on = [name for name in NOT_SUPPORTED if config.get(name)]
    if switched_on:
        raise CheckpointError(
            f"checkpoints trained with {', '.join(switched_on)} are not supported"
        )
    _check_modes(config.get("normalization_mapping") or {})


def _check_modes(modes: dict) -> None:
    for kind in ("STATE", "ACTION"):
        if modes.get(kind, "MEAN_STD") != "MEAN_STD":
            raise CheckpointError(
                f"normalisation {modes[kind]} of {kind} is not supported; only MEAN_STD is"
            )


def _check_pictures(vision, resolution: list[int] | None) -> None:
    side = vision.image_size
    if side % vision.patch_size:
        raise CheckpointError(f"image_size {side} is no multiple of patch_size {vision.patch_size}")
    if resolution is not None and list(resolution) != [side, side]:
        raise CheckpointError(
            f"image_resolution {list(resolution)} is not supported; only {[side, side]} is"
        )


def _check_halves(config) -> None:
    """The expert reads the language model's keys and values, layer by layer."""
    text, expert = config.vlm_config.text_config, config.dit_config
    for name in ("num_hidden_layers", "num_key_value_heads", "head_dim"):
        if getattr(text, name) != getattr(expert, name):
            raise CheckpointError(
                f"config.json: {name} is {getattr(text, name)} in the language model and "
                f"{getattr(expert, name)} in the action expert; they must be equal"
            )


def cameras_of(config: dict) -> int:
    """Cameras that LeRobot's config.json names, without its empty ones; 0 where it names none."""
    features = config.get("input_features") or {}
    visual = [key for key, feature in features.items() if feature.get("type") == "VISUAL"]
    return sum("empty_camera" not in key for key in visual)


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation of a state or an action, float64 [size]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def checked(cls, name: str, mean, std) -> MeanStd:
        """Raises CheckpointError where the numbers are missing, uneven or not finite."""
        if mean is None or std is None:
            raise CheckpointError(
                f"the checkpoint has no mean and std of the {name}; save the statistics of the "
                "training data with it (processor_config.json, or LeRobot's policy_preprocessor)"
            )
        mean, std = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (mean, std))
        if mean.shape != std.shape or not np.isfinite([mean, std]).all() or (std < 0).any():
            raise CheckpointError(f"the mean and std of the {name} are not usable numbers")
        return cls(mean, std)

    @property
    def size(self) -> int:
        return len(self.mean)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / (self.std + EPSILON)

    def to_units(self, normalized: np.ndarray) -> np.ndarray:
        """[..., at least size] -> [..., size]; the padding behind is dropped."""
        return normalized[..., : self.size] * self.std + self.mean


@dataclass(frozen=True)
class Statistics:
    state: MeanStd
    action: MeanStd

    @classmethod
    def read(cls, directory: Path, config: dict, weights: WeightFiles) -> Statistics:
        """Raises CheckpointError where they are missing or do not fit the model."""
        read = _lerobot_statistics if is_lerobot(config) else _transformers_statistics
        statistics = read(directory, weights)
        if statistics.action.size < ACTION_DIM:
            raise CheckpointError(
                f"the checkpoint's actions have {statistics.action.size} numbers; "
                f"at least {ACTION_DIM} are needed (translation, rotation, gripper)"
            )
        return statistics

    def check_widths(self, max_state_dim: int, max_action_dim: int) -> None:
        for name, part, limit in (
            ("state", self.state, max_state_dim),
            ("action", self.action, max_action_dim),
        ):
            if part.size > limit:
                raise CheckpointError(
                    f"statistics of the {name} have {part.size} numbers, the model takes {limit}"
                )


def _transformers_statistics(directory: Path, weights: WeightFiles) -> Statistics:
    given = read_json(directory / "processor_config.json")
    state = MeanStd.checked("state", given.get("state_mean"), given.get("state_std"))
    action = MeanStd.checked("action", given.get("actions_mean"), given.get("actions_std"))
    return Statistics(state, action)


def _lerobot_statistics(directory: Path, weights: WeightFiles) -> Statistics:
    pipeline = read_optional_json(directory / "policy_preprocessor.json")
    values = _normalizer_state(directory, pipeline) if pipeline else _buffers(weights)
    state, action = (
        MeanStd.checked(name, values.get(f"{key}.mean"), values.get(f"{key}.std"))
        for name, key in (("state", "observation.state"), ("action", "action"))
    )
    return Statistics(state, action)


def _normalizer_state(directory: Path, pipeline: dict) -> dict:
    """The tensors of the pipeline's normalizer step, keyed feature.statistic."""
    steps = [
        s for s in pipeline.get("steps", []) if s.get("registry_name") == "normalizer_processor"
    ]
    if len(steps) != 1 or "state_file" not in steps[0]:
        raise CheckpointError(
            "policy_preprocessor.json has no normalizer_processor with a state_file: "
            "the checkpoint was saved without the statistics of its training data"
        )
    _check_modes(steps[0].get("config", {}).get("norm_map", {}))
    path = directory / Path(steps[0]["state_file"]).name
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _buffers(weights: WeightFiles) -> dict:
    """Statistics that older LeRobot releases keep among the weights."""
    names = {
        "observation.state": "normalize_inputs.buffer_observation_state",
        "action": "unnormalize_outputs.buffer_action",
    }
    return {
        f"{key}.{kind}": weights.read(f"{name}.{kind}")
        for key, name in names.items()
        for kind in ("mean", "std")
        if f"{name}.{kind}" in weights.shapes
    }
