"""Fixtures of this folder's tests."""

import shutil

import pytest
from model_helpers import checkpoints, small_policy

__all__ = ["checkpoints", "small_policy"]


@pytest.fixture
def copied(checkpoints, tmp_path):
    """copied(family, name) -> a checkpoint to change, at tmp_path / name."""

    def copy(family: str, name: str = "checkpoint"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copytree(checkpoints(family), target)

    return copy
