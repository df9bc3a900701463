"""The three kinds of directory that hold a pi0 or pi0.5: LeRobot's, openpi's and transformers'.

LeRobot: config.json with type, statistics in the processors' state files. openpi (PyTorch): weights
and assets/<name>/norm_stats.json, without a type. transformers: model_type pi0, statistics in
processor_config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vla_pruner_ros.models.checkpoints import WeightFiles, read_json, read_optional_json
from vla_pruner_ros.models.decoder.flow_matching import PERIODS
from vla_pruner_ros.models.flow_policy import PixelRange
from vla_pruner_ros.models.lerobot.features import Features
from vla_pruner_ros.models.lerobot.normalization import interval, mean_std
from vla_pruner_ros.models.lerobot.processors import PREPROCESSOR, Processor
from vla_pruner_ros.models.lerobot.settings import count, periods
from vla_pruner_ros.models.lerobot.statistics import Statistics, read_statistics
from vla_pruner_ros.models.paligemma.matching import openpi_statistics
from vla_pruner_ros.models.paligemma.network import HeadCounts
from vla_pruner_ros.models.policy import CheckpointError

TOKENIZER = "google/paligemma-3b-pt-224"
BOS = 2
OPENPI_EPSILON = 1e-6
OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
NOT_SUPPORTED = ("adapt_to_pi_aloha", "use_delta_joint_actions_aloha")
"""LeRobot's switches that transform states and actions in ways of their own."""


@dataclass(frozen=True)
class FamilyDefaults:
    """Differences between pi0 and pi0.5 that no file holds.

    Attributes:
        max_prompt: tokens of a prompt at most. modes: normalisation of STATE and ACTION.
    """

    name: str
    max_prompt: int
    modes: Mapping[str, str]


PI0 = FamilyDefaults("pi0", 48, {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"})
PI05 = FamilyDefaults("pi05", 200, {"STATE": "QUANTILES", "ACTION": "QUANTILES"})


@dataclass(frozen=True)
class Layout:
    """Content of the small files of a directory.

    Attributes:
        image_padding: one of options.PADDINGS.
        tokenizer: hub name of the tokenizer that the directory lacks.
        bos: first id of a prompt; None: the tokenizer's choice.
        cut: side of long prompts that is cut off; empty: they are refused.
    """

    statistics: Statistics
    features: Features
    image_padding: str
    chunk: int = 50
    flow_steps: int = 10
    max_prompt: int = 48
    periods: tuple[float, float] = PERIODS
    heads: HeadCounts = field(default_factory=HeadCounts)
    pixel_range: PixelRange = field(default_factory=PixelRange)
    tokenizer: str = TOKENIZER
    bos: int | None = None
    cut: str = "right"


def read_layout(
    directory: Path,
    config: dict,
    weights: WeightFiles,
    family: FamilyDefaults,
    unnorm_key: str | None,
) -> Layout:
    """Read a directory of any of the three kinds.

    Raises:
        CheckpointError: what is missing or not supported, and the remedy.
    """
    if config.get("type") == family.name:
        _refuse_key(unnorm_key)
        return _lerobot(directory, config, weights, family)
    if config.get("model_type") == family.name:
        _refuse_key(unnorm_key)
        return _transformers(directory, config)
    return _openpi(directory, config, family, unnorm_key)


def _refuse_key(unnorm_key: str | None) -> None:
    if unnorm_key is not None:
        raise CheckpointError("this checkpoint has one set of statistics; leave unnorm_key out")


def _lerobot(directory: Path, config: dict, weights: WeightFiles, family: FamilyDefaults) -> Layout:
    switched_on = [name for name in NOT_SUPPORTED if config.get(name)]
    if switched_on:
        raise CheckpointError(
            f"checkpoints trained with {', '.join(switched_on)} are not supported"
        )
    processor = Processor.read(directory / PREPROCESSOR).settings("tokenizer_processor")
    return Layout(
        statistics=read_statistics(directory, config, weights, family.modes),
        features=Features.read(config),
        image_padding="center",
        chunk=count(config, "chunk_size", 50),
        flow_steps=count(config, "num_inference_steps", count(config, "num_steps", 10)),
        max_prompt=count(
            processor, "max_length", count(config, "tokenizer_max_length", family.max_prompt)
        ),
        periods=periods(config),
        heads=_heads(config),
        tokenizer=str(processor.get("tokenizer_name") or TOKENIZER),
    )


def _transformers(directory: Path, config: dict) -> Layout:
    given = read_json(directory / "processor_config.json")
    statistics = Statistics(
        mean_std("state", given.get("state_mean"), given.get("state_std")),
        mean_std("action", given.get("actions_mean"), given.get("actions_std")),
    )
    return Layout(
        statistics=statistics,
        features=Features(),
        image_padding="bottom_right",
        chunk=count(config, "chunk_size", 50),
        flow_steps=count(config, "num_inference_steps", 10),
        periods=periods(config),
        heads=_heads(config),
        pixel_range=_pixel_range(directory, given),
        bos=count(_part(config, "text_config"), "bos_token_id", BOS),
        cut="",
    )


def _part(config: dict, name: str) -> dict:
    return (config.get("vlm_config") or {}).get(name) or {}


def _heads(config: dict) -> HeadCounts:
    """Read the numbers of heads; LeRobot's files leave them out, those of the one size stand."""
    text, vision = (_part(config, name) for name in ("text_config", "vision_config"))
    usual = HeadCounts()
    return HeadCounts(
        count(text, "num_key_value_heads", usual.key_value),
        count(vision, "num_attention_heads", usual.vision),
    )


def _openpi(directory: Path, config: dict, family: FamilyDefaults, unnorm_key: str | None):
    path = _chosen_statistics(directory, unnorm_key)
    content = read_json(path)
    content = content.get("norm_stats", content)
    state, actions = content.get("state") or {}, content.get("actions") or {}
    if family is PI05:
        names = ("q01", "q99")
        parts = (
            interval(name, names, of.get("q01"), of.get("q99"), OPENPI_EPSILON)
            for name, of in (("state", state), ("action", actions))
        )
    else:
        epsilons = OPENPI_EPSILON, OPENPI_EPSILON
        parts = (
            mean_std(name, of.get("mean"), of.get("std"), *epsilons)
            for name, of in (("state", state), ("action", actions))
        )
    return Layout(
        statistics=Statistics(*parts),
        features=Features(cameras=OPENPI_CAMERAS),
        image_padding="center_antialias",
        chunk=count(config, "action_horizon", 50),
        max_prompt=count(config, "max_token_len", family.max_prompt),
    )


def _chosen_statistics(directory: Path, unnorm_key: str | None) -> Path:
    found = {
        str(path.parent.relative_to(directory / "assets")): path
        for path in openpi_statistics(directory)
    }
    if unnorm_key is not None and unnorm_key not in found:
        raise CheckpointError(
            f"unnorm_key {unnorm_key!r} is not in {directory / 'assets'}; valid keys: "
            f"{', '.join(found)}"
        )
    if unnorm_key is None and len(found) != 1:
        raise CheckpointError(
            f"set unnorm_key, {directory / 'assets'} has several statistics: {', '.join(found)}"
        )
    return found[unnorm_key] if unnorm_key is not None else next(iter(found.values()))


def _pixel_range(directory: Path, given: dict) -> PixelRange:
    """Read mean and std of pixel values; to -1..1 if the checkpoint has none."""
    processor = given.get("image_processor") or read_optional_json(
        directory / "preprocessor_config.json"
    )
    values = [tuple(processor.get(name) or [0.5] * 3) for name in ("image_mean", "image_std")]
    if any(len(v) != 3 or not all(isinstance(n, (int, float)) for n in v) for v in values):
        raise CheckpointError(f"image_mean or image_std of {directory} cannot be used: {values}")
    return PixelRange(*values)
