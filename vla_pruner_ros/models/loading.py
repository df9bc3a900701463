"""The known families, and the one way to load any of them."""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path
from types import ModuleType

import torch

from vla_pruner_ros.models.checkpoints import read_config
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.policy import UNTRAINED, CheckpointError
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.models.tokenizer import Tokenizer
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import policy_directory

FAMILIES: dict[str, str] = {
    "openvla_oft": "vla_pruner_ros.models.openvla.openvla_oft",
    "openvla": "vla_pruner_ros.models.openvla.openvla",
    "pi0": "vla_pruner_ros.models.pi0.policy",
}
"""Family -> module with matches(directory, config) and load(...), asked in this order.

To add a family, write such a module and add its line here (see test/models/test_families.py).
"""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_policy(
    checkpoint: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    threads: int = 0,
    pruning: PruningConfig | None = None,
    execution: ExecutionConfig | None = None,
    unnorm_key: str | None = None,
    tokenizer: Tokenizer | None = None,
    num_cameras: int = 0,
    **options: object,
) -> PrunedPolicy:
    """Load a policy; its family is recognised from the checkpoint's files.

    Args:
        checkpoint: directory, name of a policy in policies/, or UNTRAINED for random weights.
        device: auto takes CUDA if there is one.
        dtype: auto takes float32 on a CPU and bfloat16 elsewhere.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        pruning: pruning settings; the defaults if left out.
        execution: graphs, drafting and quantization; the defaults if left out.
        unnorm_key: data set whose statistics turn actions into units; may be left out if the
            checkpoint holds one.
        tokenizer: prompt -> ids, instead of the checkpoint's own.
        num_cameras: images per step, for families that take several; 0 leaves it to the
            checkpoint. A family with a fixed number ignores it: compare policy.num_cameras.
        options: further arguments of the family's load().

    Raises:
        CheckpointError: what is wrong with the checkpoint, and the remedy; also an execution that
            the family does not support or a library that is missing.
        ValueError: pruning settings that do not fit the model.
    """
    directory = checkpoint_directory(checkpoint)
    config = read_config(directory)
    family = find_family(directory, config)
    if threads:
        torch.set_num_threads(threads)
    device = _checked_device(device)
    if num_cameras and "num_cameras" in _option_names(family):
        options["num_cameras"] = num_cameras
    policy = family.load(
        directory,
        config,
        device=device,
        dtype=_checked_dtype(dtype, device),
        pruning=pruning or PruningConfig(),
        unnorm_key=unnorm_key or None,
        tokenizer=tokenizer,
        **_checked_options(family, options),
    )
    policy.set_execution(execution or ExecutionConfig())
    return policy


def find_family(directory: Path, config: dict) -> ModuleType:
    """The module of the first family that knows this checkpoint."""
    for module_name in FAMILIES.values():
        module = importlib.import_module(module_name)
        if module.matches(directory, config):
            return module
    raise CheckpointError(
        f"{directory} is of no known family ({', '.join(FAMILIES)}); "
        f"its config.json says model_type {config.get('model_type')!r}"
    )


def _option_names(family: ModuleType) -> frozenset[str]:
    return frozenset(inspect.signature(family.load).parameters)


def _checked_options(family: ModuleType, options: dict[str, object]) -> dict[str, object]:
    unknown = sorted(set(options) - _option_names(family))
    if unknown:
        raise CheckpointError(f"{family.FAMILY} takes no option {', '.join(unknown)}")
    return options


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
