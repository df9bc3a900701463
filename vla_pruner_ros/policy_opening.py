"""From what a user names (directory, device, dtype) to a policy: one way for node and replay."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vla_pruner_ros.models.execution import ExecutionConfig
from vla_pruner_ros.models.policy import UNTRAINED, CheckpointError, VlaPolicy
from vla_pruner_ros.models.registry import family_options, load_policy
from vla_pruner_ros.models.tiny import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.shipped import policy_directory


def open_policy(
    checkpoint: str,
    *,
    num_cameras: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    unnorm_key: str = "",
    pruning: PruningConfig | None = None,
    execution: ExecutionConfig | None = None,
) -> VlaPolicy:
    """Load a checkpoint.

    Args:
        checkpoint: its directory, the name of one in the package's policies/, or UNTRAINED.
        num_cameras: told to families that take several; 0 leaves it to the checkpoint. Other
            families' number has to be compared afterwards.
        device: auto takes CUDA where there is one.
        dtype: auto takes float32 on a CPU and bfloat16 elsewhere.
        threads: CPU threads of torch, 0 leaves torch's own choice.
        unnorm_key: data set in the checkpoint's statistics, "" where there is only one.

    Raises:
        CheckpointError: no checkpoint named, or it cannot be used; the sentence says which file.
        ValueError: pruning settings that do not fit the model.
    """
    directory = checkpoint_directory(checkpoint)
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    takes_number = num_cameras and "num_cameras" in family_options(directory)
    return load_policy(
        directory,
        device=device,
        dtype=dtype,
        pruning=pruning,
        execution=execution,
        unnorm_key=unnorm_key or None,
        **({"num_cameras": num_cameras} if takes_number else {}),
    )


def checkpoint_directory(name: str) -> Path:
    """Return the checkpoint's directory: a path, or the name of one that the package brings.

    Small random weights are made on their first use.

    Raises:
        CheckpointError: no name.
    """
    if not name:
        raise CheckpointError(
            "checkpoint is empty: give the directory of a checkpoint, or "
            f"'{UNTRAINED}' to try the package with random weights"
        )
    if name != UNTRAINED:
        path = Path(name).expanduser()
        return path if path.exists() else policy_directory(name) or path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "vla_pruner_ros" / "untrained_openvla"
    if not (directory / "config.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        write_untrained_checkpoint(directory)
    return directory
