"""Helpers of the training's tests."""

from __future__ import annotations

import torch

from vla_pruner_lab.training.settings import TrainingSettings
from vla_pruner_ros.models.untrained import TinySize

SMALL = TinySize(
    hidden=32, layers=4, heads=4, mlp=64, vision_width=32, vision_depth=3, vision_heads=4, state=9
)
CPU = torch.device("cpu")


def settings(family: str, **changes) -> TrainingSettings:
    defaults = {"steps": 4, "batch_size": 4, "warmup_steps": 2, "precision": "float32"}
    return TrainingSettings(family=family, size=SMALL, **{**defaults, **changes})
