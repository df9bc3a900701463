"""The one way to load a policy, of whatever family."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vla_pruner_ros.models.checkpoints import read_config
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.families import (
    Checkpoint,
    Family,
    choose_family,
    known_options,
    make_options,
)
from vla_pruner_ros.models.policy import UNTRAINED, CheckpointError
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.models.tokenizer import Tokenizer
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import policy_directory
from vla_pruner_ros.settings import AUTO

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_policy(
    checkpoint: str | Path,
    *,
    model: str = AUTO,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    threads: int = 0,
    pruning: PruningConfig | None = None,
    execution: ExecutionConfig | None = None,
    unnorm_key: str | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
    num_cameras: int = 0,
    default_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> PrunedPolicy:
    """Load a policy.

    Args:
        checkpoint: directory, name of a policy in policies/, or UNTRAINED for random weights.
        model: name of the family; auto recognises it from the checkpoint's files.
        device: auto takes CUDA if there is one.
        dtype: auto takes float32 on a CPU and bfloat16 elsewhere.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        pruning: pruning settings; the defaults if left out.
        execution: graphs, drafting and quantization; the defaults if left out.
        unnorm_key: data set whose statistics turn actions into units; may be left out if the
            checkpoint holds one.
        tokenizer: prompt -> ids, or a folder that holds a tokenizer, instead of the
            checkpoint's own.
        num_cameras: images per step, for families that take several; 0 leaves it to the
            checkpoint. A family with a fixed number ignores it: compare policy.num_cameras.
        default_options: values of options that are not given; those that the family does not have
            are ignored.
        options: the family's own, by the names of its Options; None and "auto" leave one to the
            checkpoint.

    Returns:
        The policy, ready to act.

    Raises:
        CheckpointError: what is wrong with the checkpoint or an option, and the remedy; also an
            execution that the family does not support or a library that is missing.
        ValueError: pruning settings that do not fit the model.
    """
    directory = checkpoint_directory(checkpoint)
    config = read_config(directory)
    name, family = choose_family(directory, config, model)
    defaults = {**(default_options or {}), **({"num_cameras": num_cameras} if num_cameras else {})}
    made = make_options(name, family, {**known_options(family, defaults), **options})
    if threads:
        torch.set_num_threads(threads)
    device = _checked_device(device)
    request = Checkpoint(
        directory,
        config,
        device,
        _checked_dtype(dtype, device),
        unnorm_key or None,
        tokenizer or None,
        pruning or PruningConfig(),
    )
    with _chosen_by_name(name, family, request, model):
        policy = family.load(request, made)
    policy.set_execution(execution or ExecutionConfig())
    return policy


@contextmanager
def _chosen_by_name(name: str, family: Family, request: Checkpoint, model: str) -> Iterator[None]:
    """Add to an error that the user chose a family which does not match the checkpoint."""
    try:
        yield
    except CheckpointError as error:
        if name != model or family.matches(request.directory, request.config):
            raise
        raise CheckpointError(
            f"model asks for {name}, but {request.directory} does not look like one: {error}. "
            f"Set model to {AUTO} or to the checkpoint's family"
        ) from None


def _checked_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"device {device!r} is not known to torch: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("device cuda is not available here; use cpu or install CUDA torch")
    return device


def _checked_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise CheckpointError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        return DTYPES[dtype]
    return dtype


def checkpoint_directory(name: str | Path) -> Path:
    """Return the checkpoint's directory: a path, or the name of one that the package brings.

    Small random weights are made on their first use.

    Raises:
        CheckpointError: no name.
    """
    if not str(name):
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
