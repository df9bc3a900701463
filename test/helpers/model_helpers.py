"""Small checkpoints, images and reference computations that the model tests share."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig

SMALL = {"hidden": 32, "layers": 5, "heads": 4, "mlp": 64, "vision_width": 32, "vision_heads": 2}
"""The quickest model that still has layers below and above every pruning point of interest."""

INSTRUCTION = "push the button from above"


def golden(part: str) -> Path:
    """A folder of the reference data; skips the test where there is none."""
    source = os.environ.get("VLA_PRUNER_GOLDEN")
    root = Path(source) if source else Path(__file__).resolve().parents[3] / "shared" / "golden"
    if not (root / part).exists():
        pytest.skip(f"no reference data at {root / part}: set VLA_PRUNER_GOLDEN")
    return root / part


@cache
def _written(root: Path, family: str, seed: int) -> Path:
    return write_untrained_checkpoint(root / f"{family}-{seed}", family, seed, **SMALL)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """checkpoints(family, seed=0) -> directory of a small untrained checkpoint, not to change."""
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda family, seed=0: _written(root, family, seed)


@pytest.fixture
def small_policy(checkpoints):
    """small_policy(family, **pruning) -> a policy on a small checkpoint."""

    def load(family: str, **pruning) -> PrunedPolicy:
        config = PruningConfig(**{"preset": "paper", **pruning})
        return load_policy(checkpoints(family), pruning=config)

    return load


def observation(policy: PrunedPolicy, seed: int = 0, instruction: str = INSTRUCTION) -> Observation:
    """Random images with large-scale structure, and a state within the statistics."""
    random = np.random.default_rng(seed)
    images = [
        np.kron(random.integers(0, 256, (8, 8, 3)), np.ones((28, 28, 1))).astype(np.uint8)
        for _ in range(policy.num_cameras)
    ]
    state = random.uniform(-0.03, 0.03, policy.state_dim) if policy.state_dim else None
    return Observation(images, instruction, state)


def rewrite(directory: Path, change) -> None:
    """Apply change(dict of tensors) to a checkpoint's weights."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: t.contiguous() for name, t in tensors.items()}, path)


def same(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool(torch.allclose(one, other, atol=tolerance, rtol=tolerance))


def refused(directory, reason: str, **options) -> None:
    """Assert that a checkpoint is refused with a message that matches."""
    with pytest.raises(CheckpointError, match=reason):
        load_policy(directory, **options)
