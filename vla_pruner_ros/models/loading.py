"""The one way to load a policy, of whatever family."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vla_pruner_ros.models.checkpoints import read_config, refuse_quantized, training_note
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
from vla_pruner_ros.models.sources.adapters import base_of, laid_over, needs_base
from vla_pruner_ros.models.sources.folders import adapter_folder, resolve
from vla_pruner_ros.models.sources.hub import (
    SCHEME,
    Repository,
    checkpoint_folder,
    looks_like_name,
)
from vla_pruner_ros.models.tokenizer import Tokenizer
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import policy_directory
from vla_pruner_ros.settings import AUTO

logger = logging.getLogger(__name__)
GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")
"""Device files that an NVIDIA driver makes, on a computer and on Jetsons."""
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
    base_checkpoint: str | Path = "",
    num_cameras: int = 0,
    default_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> PrunedPolicy:
    """Load a policy.

    Args:
        checkpoint: directory, name of a policy in policies/, hf:owner/name for a repository of
            the Hugging Face hub, or UNTRAINED for random weights. A LoRA adapter is merged into
            its base.
        model: name of the family; auto recognises it from the checkpoint's files.
        device: auto takes CUDA if there is one.
        dtype: auto takes float32 on a CPU and bfloat16 elsewhere.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        pruning: pruning settings; the defaults if left out.
        execution: graphs, drafting and quantization; the defaults if left out.
        unnorm_key: data set whose statistics turn actions into units; may be left out if the
            checkpoint holds one.
        tokenizer: prompt -> ids, or a folder or hf:owner/name that holds a tokenizer, instead
            of the checkpoint's own.
        base_checkpoint: base model of an adapter, named as checkpoint is; empty: the one that
            adapter_config.json names.
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
    folder = checkpoint_directory(checkpoint)
    with _odd_values_named(folder), opened(folder, base_checkpoint) as directory:
        config = read_config(directory)
        refuse_quantized(config, directory)
        name, family = choose_family(directory, config, model)
        cameras = {"num_cameras": num_cameras} if num_cameras else {}
        defaults = known_options(family, {**(default_options or {}), **cameras})
        made = make_options(name, family, {**defaults, **options})
        device, dtype = _placement(device, dtype, threads)
        request = Checkpoint(
            directory,
            config,
            device,
            dtype,
            unnorm_key or None,
            tokenizer or None,
            pruning or PruningConfig(),
        )
        with _chosen_by_name(name, family, request, model):
            policy = family.load(request, made)
            policy.robot = str(training_note(config).get("robot", ""))
            policy.dtype = str(dtype).removeprefix("torch.")
    policy.set_execution(execution or ExecutionConfig())
    logger.info("%s: %s on %s in %s", checkpoint, name, device, dtype)
    return policy


def _placement(
    device: str | torch.device, dtype: str | torch.dtype, threads: int
) -> tuple[torch.device, torch.dtype]:
    if threads:
        torch.set_num_threads(threads)
    device = _checked_device(device)
    return device, _checked_dtype(dtype, device)


@contextmanager
def opened(directory: Path, base_checkpoint: str | Path = "") -> Iterator[Path]:
    """Yield a folder to read: the checkpoint's own, or that of an adapter laid over its base.

    Raises:
        CheckpointError: the base model of an adapter cannot be read.
    """
    if not needs_base(directory):
        yield directory
        return
    named = str(base_checkpoint) or base_of(adapter_folder(directory))
    if not named:
        raise CheckpointError(
            f"{directory} is a LoRA adapter that names no base model: set base_checkpoint"
        )
    with laid_over(directory, _base_directory(directory, named)) as merged:
        yield merged


def _base_directory(adapter: Path, named: str) -> Path:
    """Return the folder of a base model: as checkpoint is named, or a hub's owner/name."""
    neighbour = adapter / named
    try:
        if neighbour.is_dir():
            return resolve(neighbour)
        is_hub_name = looks_like_name(named) and not Path(named).expanduser().exists()
        return checkpoint_directory(f"hf:{named}" if is_hub_name else named)
    except CheckpointError as error:
        raise CheckpointError(
            f"{adapter} is a LoRA adapter of {named}, which cannot be read: {error}. "
            "Set base_checkpoint to its folder"
        ) from None


@contextmanager
def _odd_values_named(folder: Path) -> Iterator[None]:
    """Name the checkpoint if a value in its files is of another kind than the code takes."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{folder} cannot be loaded ({type(error).__name__}: {error}): an entry of its "
            "config.json or another file is not what the model takes; compare them with the "
            "original"
        ) from error


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
        _warn_of_unused_gpu(device)
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"device {device!r} is not known to torch: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("device cuda is not available here; use cpu or install CUDA torch")
    return device


def _warn_of_unused_gpu(device: str) -> None:
    found = [path for path in GPU_FILES if Path(path).exists()]
    if device == "cpu" and found:
        logger.warning(
            "device auto took the CPU, although %s shows a GPU: this torch has no CUDA, or the "
            "driver does not run. Install torch for CUDA (on a Jetson NVIDIA's own wheel)",
            found[0],
        )


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
        CheckpointError: no name, nothing of that name, or a folder that is no checkpoint.
    """
    if not str(name):
        raise CheckpointError(
            "checkpoint is empty: give the directory of a checkpoint, or "
            f"'{UNTRAINED}' to try the package with random weights"
        )
    if name != UNTRAINED:
        if str(name).startswith(SCHEME):
            return checkpoint_folder(Repository.parse(str(name)))
        path = Path(name).expanduser()
        bundled = None if path.exists() else policy_directory(name)
        return bundled or resolve(path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "vla_pruner_ros" / "untrained_openvla_with_robot"
    if not (directory / "config.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        write_untrained_checkpoint(directory)
    return directory
