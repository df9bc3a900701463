"""The known families, and the one way to load any of them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import torch

from vla_pruner_ros.models.base import PrunedPolicy
from vla_pruner_ros.models.checkpoints import read_config
from vla_pruner_ros.models.execution import ExecutionConfig
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.prompt import Tokenizer
from vla_pruner_ros.pruning.config import PruningConfig

FAMILIES: dict[str, str] = {
    "openvla_oft": "vla_pruner_ros.models.openvla_oft",
    "openvla": "vla_pruner_ros.models.openvla",
    "pi0": "vla_pruner_ros.models.pi0",
}
"""Family -> module with recognises(directory, config) and load(...), asked in this order.

To add a family, write such a module and add its line here (see test/test_models_registry.py).
"""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_policy(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    pruning: PruningConfig | None = None,
    execution: ExecutionConfig | None = None,
    unnorm_key: str | None = None,
    tokenizer: Tokenizer | None = None,
    **options: object,
) -> PrunedPolicy:
    """A policy from a checkpoint directory; the family is recognised from its files.

    execution: how it is run (graphs, drafting, quantisation); the defaults if left out.
    unnorm_key: whose statistics turn actions into units; may be left out if there is one data set.
    tokenizer: prompt -> ids, in place of the checkpoint's own.
    options: further arguments of the family's load(), for example num_cameras.

    Raises:
        CheckpointError: what is wrong with the checkpoint, and the remedy; also an execution that
            the family cannot follow or a library that it lacks.
        ValueError: pruning settings that do not fit the model.
    """
    directory = Path(path).expanduser()
    config = read_config(directory)
    family = find_family(directory, config)
    policy = family.load(
        directory,
        config,
        device=_checked_device(device),
        dtype=_checked_dtype(dtype),
        pruning=pruning or PruningConfig(),
        unnorm_key=unnorm_key,
        tokenizer=tokenizer,
        **_checked_options(family, options),
    )
    policy.adopt(execution or ExecutionConfig())
    return policy


def find_family(directory: Path, config: dict) -> ModuleType:
    """The module of the first family that knows this checkpoint."""
    for module_name in FAMILIES.values():
        module = importlib.import_module(module_name)
        if module.recognises(directory, config):
            return module
    raise CheckpointError(
        f"{directory} is of no known family ({', '.join(FAMILIES)}); "
        f"its config.json says model_type {config.get('model_type')!r}"
    )


def family_options(path: str | Path) -> frozenset[str]:
    """Names of the arguments that the load() of a checkpoint's family takes.

    Raises:
        CheckpointError: no checkpoint, or of no known family.
    """
    directory = Path(path).expanduser()
    family = find_family(directory, read_config(directory))
    return frozenset(inspect.signature(family.load).parameters)


def _checked_options(family: ModuleType, options: dict[str, object]) -> dict[str, object]:
    allowed = set(inspect.signature(family.load).parameters)
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise CheckpointError(f"{family.FAMILY} takes no option {', '.join(unknown)}")
    return options


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"device {device!r} is not known to torch: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("device cuda is not available here; use cpu or install CUDA torch")
    return device


def _checked_dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise CheckpointError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        return DTYPES[dtype]
    return dtype
