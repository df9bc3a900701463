"""From what a user names to the folder that is read, or a sentence on what it is instead."""

from __future__ import annotations

import logging
from pathlib import Path

from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.sources import hub

logger = logging.getLogger(__name__)
CONFIG, ADAPTER = "config.json", "adapter_config.json"
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
PRETRAINED = "pretrained_model"
SHOWN = 8


def resolve(path: Path) -> Path:
    """Return the folder to read for a folder that a user names.

    A snapshot inside a cached repository and the last checkpoint of a LeRobot training output are
    found by themselves.

    Raises:
        CheckpointError: what the folder is, and the remedy.
    """
    if path.is_file():
        raise CheckpointError(f"checkpoint {path} is a file; give the folder that holds it")
    if not path.is_dir():
        raise CheckpointError(_not_there(path))
    if is_checkpoint(path):
        return path
    below = _cached_snapshot(path) or _training_checkpoint(path)
    if below is None:
        raise CheckpointError(explain(path))
    logger.info("%s: reading %s", path, below)
    return below


def is_checkpoint(path: Path) -> bool:
    """Return whether a folder itself can be read: a checkpoint, an adapter, openpi's folder."""
    if (path / CONFIG).exists() or adapter_folder(path) is not None:
        return True
    has_weights = any((path / name).exists() for name in WEIGHT_FILES)
    return has_weights and any(path.glob("assets/**/norm_stats.json"))


def adapter_folder(path: Path) -> Path | None:
    """Return where a folder's PEFT adapter lies that is not merged yet, or None.

    OpenVLA-OFT leaves its adapter in lora_adapter/ after merging: it counts only where the folder
    has no weights of its own.
    """
    if (path / ADAPTER).exists():
        return path
    below = path / "lora_adapter"
    has_weights = any((path / name).exists() for name in WEIGHT_FILES)
    return below if (below / ADAPTER).exists() and not has_weights else None


def explain(path: Path) -> str:
    """Say what a folder without config.json is, and what to do."""
    names = sorted(child.name for child in path.iterdir())
    repositories = [name for name in names if name.startswith("models--")]
    for child in (path, path / "hub"):
        if child.is_dir() and not repositories:
            repositories = sorted(p.name for p in child.iterdir() if p.name.startswith("models--"))
    if repositories:
        found = [name.removeprefix("models--").replace("--", "/") for name in repositories]
        listing = ", ".join(f"hf:{name}" for name in found[:SHOWN])
        return f"{path} is a Hugging Face cache; set checkpoint to one of {listing}"
    if "snapshots" in names or "blobs" in names:
        return (
            f"{path} is a cached repository without a complete snapshot; fetch it again with "
            f"`{_repository_of(path).command}`"
        )
    if children := _checkpoints_below(path):
        listing = ", ".join(str(child.relative_to(path)) for child in children[:SHOWN])
        return f"{path} holds several checkpoints; set checkpoint to one of them: {listing}"
    if "params" in names and (path / "params").is_dir():
        return (
            f"{path} is a JAX checkpoint of openpi; convert it with openpi's "
            "examples/convert_jax_model_to_pytorch.py and set checkpoint to the result"
        )
    if _is_prismatic_run(path, names):
        return (
            f"{path} is a run of prismatic's training; convert it with OpenVLA's "
            "vla-scripts/extern/convert_openvla_weights_to_hf.py and set checkpoint to the result"
        )
    if pickles := [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        return (
            f"{path} holds {', '.join(pickles[:SHOWN])} and no {CONFIG}; copy the checkpoint's "
            f"{CONFIG} and its weights as safetensors into it"
        )
    if {"meta", "data"} <= set(names) and (path / "meta" / "info.json").exists():
        return f"{path} is a LeRobot data set, not a checkpoint; set checkpoint to a policy folder"
    return f"{CONFIG} is missing in {path}; give the folder that holds it"


def explain_weights(path: Path) -> str:
    """Say why a folder with config.json has no weights that are read, and what to do."""
    names = sorted(child.name for child in path.iterdir())
    pickles = [n for n in names if n.endswith((".bin", ".bin.index.json", ".pth", ".ckpt"))]
    if pickles:
        return (
            f"{path} has {', '.join(pickles[:SHOWN])} and no safetensors; pickled weights are "
            "never loaded. Load the model once in its own software and save it with "
            "safe_serialization=True"
        )
    others = [n for n in names if n.endswith(".safetensors")]
    if others:
        return (
            f"{path} has {', '.join(others[:SHOWN])}, but neither model.safetensors nor "
            "model.safetensors.index.json; copy the missing file or rename the weights"
        )
    if any(n.endswith((".gguf", ".onnx", ".msgpack", ".h5")) for n in names):
        return f"{path} has weights of another format; give the original safetensors"
    return f"{path} has neither model.safetensors nor model.safetensors.index.json"


def _not_there(path: Path) -> str:
    text = str(path)
    if hub.looks_like_name(text):
        return (
            f"checkpoint {text} is not a directory here; to fetch it from the Hugging Face hub "
            f"write {hub.SCHEME}{text}"
        )
    return f"checkpoint {text} is not a directory; give the folder that holds {CONFIG}"


def _cached_snapshot(path: Path) -> Path | None:
    """The main snapshot of a cached repository (models--owner--name), or its only one."""
    folder = path / "snapshots"
    if not folder.is_dir():
        return None
    reference = path / "refs" / "main"
    chosen = [folder / reference.read_text().strip()] if reference.is_file() else []
    chosen += sorted(folder.iterdir())
    found = [one for one in chosen if one.is_dir() and is_checkpoint(one)]
    return found[0] if found else None


def _repository_of(path: Path) -> hub.Repository:
    return hub.Repository(path.name.removeprefix("models--").replace("--", "/"))


def _training_checkpoint(path: Path) -> Path | None:
    """The only checkpoint below, or LeRobot's checkpoints/last/pretrained_model."""
    for last in (path / PRETRAINED, path / "last" / PRETRAINED, path / "checkpoints" / "last"):
        last = last if last.name == PRETRAINED else last / PRETRAINED
        if is_checkpoint(last):
            return last
    below = _checkpoints_below(path)
    return below[0] if len(below) == 1 else None


def _checkpoints_below(path: Path) -> list[Path]:
    patterns = ("*", "*/*", "*/*/*")
    found = {
        child.parent
        for pattern in patterns
        for child in path.glob(f"{pattern}/{CONFIG}")
        if "snapshots" not in child.relative_to(path).parts and child.parent.name != "lora_adapter"
    }
    return sorted(found)


def _is_prismatic_run(path: Path, names: list[str]) -> bool:
    has_run = "config.yaml" in names or "run-metrics.jsonl" in names
    return has_run and any(path.glob("checkpoints/*.pt"))
