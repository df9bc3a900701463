"""LoRA adapters of PEFT: read with or without their base, and merged while weights are loaded."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vla_pruner_ros.models.checkpoint_files import check_weights, read_json
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.sources.folders import ADAPTER, WEIGHT_FILES, adapter_folder

logger = logging.getLogger(__name__)
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
WRAPPED_BACKBONE = "vision_backbone.vision_backbone."
"""Place of additions inside OpenVLA-OFT's FiLM: vision_backbone--*.pt holds them, too."""
NOT_SUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "biases in LoRA",
    "fan_in_fan_out": "transposed weights",
}


@dataclass(frozen=True)
class LowRank:
    """An addition to one weight: scale * up @ down."""

    down: Tensor
    up: Tensor
    scale: float

    def add_to(self, weight: Tensor) -> Tensor:
        """Return the merged weight, float32 [rows, columns].

        A convolution's is seen as a matrix.
        """
        delta = self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))
        return weight.float() + delta.view(weight.shape)


@dataclass(frozen=True)
class Adapter:
    """Changes that an adapter makes, by the names that a family gives its tensors.

    Attributes:
        directory: of the adapter. low_rank: additions. replaced: tensors saved whole.
    """

    directory: Path
    low_rank: dict[str, LowRank] = field(default_factory=dict)
    replaced: dict[str, Tensor] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """Names of the tensors that the adapter changes."""
        return {*self.low_rank, *self.replaced}

    def apply(self, name: str, weight: Tensor) -> Tensor:
        """Return the tensor of this name, of any shape, as the adapter changes it.

        Raises:
            CheckpointError: the adapter does not fit its shape.
        """
        if name in self.replaced:
            return self.replaced[name].to(weight.dtype)
        if name not in self.low_rank:
            return weight
        try:
            return self.low_rank[name].add_to(weight)
        except RuntimeError:
            part = self.low_rank[name]
            raise CheckpointError(
                f"the adapter in {self.directory} does not fit {name} of shape "
                f"{list(weight.shape)} (its halves: {list(part.up.shape)}, "
                f"{list(part.down.shape)}): it belongs to another base model"
            ) from None


def read_adapter(directory: Path, rename: Callable[[str], str]) -> Adapter | None:
    """Read the adapter that lies in a folder, or None.

    Args:
        rename: a tensor's name in the base model's file -> the family's name.

    Raises:
        CheckpointError: damaged files, or a kind of adapter that is not merged here.
    """
    if not (directory / ADAPTER).exists():
        return None
    settings = _settings(directory)
    path = directory / WEIGHTS
    try:
        if path.exists():
            check_weights(path)
        tensors = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{directory} has {ADAPTER} and no {WEIGHTS}") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    adapter = Adapter(directory)
    halves: dict[str, dict[str, Tensor]] = {}
    for stored, tensor in tensors.items():
        name = stored.removeprefix(PREFIX)
        if name.startswith(WRAPPED_BACKBONE):
            continue
        match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if match:
            halves.setdefault(match[1], {})[match[2]] = tensor
        elif "lora_" in name:
            raise CheckpointError(f"{path} holds {stored}; only lora_A and lora_B are merged")
        else:
            name = name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
            adapter.replaced[rename(name)] = tensor
    for module, pair in halves.items():
        if set(pair) != {"A", "B"}:
            raise CheckpointError(f"{path} holds one half of the addition to {module}")
        scale = _scale(settings, module, pair["A"].shape[0])
        adapter.low_rank[rename(f"{module}.weight")] = LowRank(pair["A"], pair["B"], scale)
    logger.info("Merging %d weights of the adapter in %s", len(adapter.names), directory)
    return adapter


def _settings(directory: Path) -> dict[str, Any]:
    settings = read_json(directory / ADAPTER)
    kind = str(settings.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise CheckpointError(f"{directory / ADAPTER}: adapters of type {kind} are not merged here")
    for name, meaning in NOT_SUPPORTED.items():
        if settings.get(name):
            raise CheckpointError(
                f"{directory / ADAPTER}: {meaning} ({name}) cannot be merged here; merge the "
                "adapter in PEFT with merge_and_unload() and save the result"
            )
    if settings.get("bias", "none") != "none":
        logger.info("%s trained biases; they are taken from the adapter", directory)
    return settings


def _scale(settings: dict[str, Any], module: str, rank: int) -> float:
    alpha = _by_pattern(settings.get("alpha_pattern"), module, settings.get("lora_alpha", rank))
    root = math.sqrt(rank) if settings.get("use_rslora") else rank
    return float(alpha) / root


def _by_pattern(patterns: dict | None, module: str, usual):
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(?:.*\.)?{pattern}", module):
            return value
    return usual


def base_of(directory: Path) -> str:
    """Return the base model that an adapter's configuration names, or an empty string."""
    return str(read_json(directory / ADAPTER).get("base_model_name_or_path") or "")


@contextmanager
def laid_over(directory: Path, base: Path) -> Iterator[Path]:
    """Make one folder of an adapter and its base: links to files, the adapter's first.

    Args:
        directory: the folder that the user named. base: that of the weights.
    """
    adapter = adapter_folder(directory)
    with TemporaryDirectory(prefix=f"{directory.name}_on_{base.name}_") as name:
        merged = Path(name)
        for source in (base, directory, adapter):
            for path in sorted(source.iterdir()):
                if path.is_file():
                    target = merged / path.name
                    target.unlink(missing_ok=True)
                    target.symlink_to(path.resolve())
        yield merged


def needs_base(directory: Path) -> bool:
    """Return whether a folder holds an adapter and no weights of its own."""
    if adapter_folder(directory) is None:
        return False
    return not any((directory / name).exists() for name in WEIGHT_FILES)


def merge_check(adapter: Adapter, known: set[str]) -> None:
    """Raises CheckpointError unless every tensor of the adapter is one of the base's."""
    strangers = sorted(adapter.names - known)
    if strangers:
        listing = ", ".join(strangers[:4])
        raise CheckpointError(
            f"the adapter in {adapter.directory} changes {listing}, which its base does not have: "
            "it belongs to another base model"
        )
