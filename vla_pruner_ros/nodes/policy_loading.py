"""From the node's settings to a policy that has proven to answer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vla_pruner_ros.models.execution import ExecutionConfig
from vla_pruner_ros.models.policy import CheckpointError, Observation, VlaPolicy
from vla_pruner_ros.models.registry import family_options, load_policy
from vla_pruner_ros.models.tiny import write_untrained_checkpoint
from vla_pruner_ros.nodes.parameters import UNTRAINED, Settings

WARM_UP_SIZE = (480, 640)


def load_from_settings(settings: Settings) -> VlaPolicy:
    """Load the checkpoint the parameters name.

    Raises:
        CheckpointError: no checkpoint named, or it cannot be used; the sentence says which file.
    """
    import torch

    if not settings.checkpoint:
        raise CheckpointError(
            "The parameter checkpoint is empty: set it to the directory of a checkpoint, or to "
            f"'{UNTRAINED}' to try the package with random weights"
        )
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    directory = checkpoint_directory(settings.checkpoint)
    # Families that take several cameras are told how many; the others are checked afterwards.
    cameras = {"num_cameras": len(settings.image_topics)}
    options = cameras if "num_cameras" in family_options(directory) else {}
    policy = load_policy(
        directory,
        device=device,
        dtype=getattr(torch, dtype),
        pruning=settings.pruning,
        execution=ExecutionConfig(
            graphs=settings.graphs, draft=settings.draft, quantization=settings.quantization
        ),
        unnorm_key=settings.unnorm_key or None,
        **options,
    )
    if settings.model not in ("auto", policy.family):
        raise CheckpointError(
            f"The checkpoint is of family {policy.family}, but the parameter model asks for "
            f"{settings.model}: set model to auto or to {policy.family}"
        )
    return policy


def checkpoint_directory(name: str) -> Path:
    """Return the checkpoint's directory; small random weights are made on their first use."""
    if name != UNTRAINED:
        return Path(name).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "vla_pruner_ros" / "untrained_openvla"
    if not (directory / "config.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        write_untrained_checkpoint(directory)
    return directory


def check_policy(policy: VlaPolicy, settings: Settings) -> None:
    """Compare the policy's inputs with the parameters.

    Raises:
        CheckpointError: another number of cameras or joints than the model was trained with.
    """
    topics, joints = settings.image_topics, settings.state_joints
    if len(topics) != policy.num_cameras:
        raise CheckpointError(
            f"The model sees {policy.num_cameras} camera(s) but image_topics names {len(topics)}: "
            "give one topic per camera, in the order of training"
        )
    if joints and policy.state_dim != len(joints):
        raise CheckpointError(
            f"The model takes a state of {policy.state_dim} values but state_joints names "
            f"{len(joints)}"
        )


def warm_up(policy: VlaPolicy, instruction: str) -> bool:
    """Run the policy on a black and a white picture; return whether their actions differ.

    The first calls of a process are slow, and a model that ignores its image (a known silent
    failure of OpenVLA under some transformers versions) shows here, before an arm follows it.
    """
    actions = [
        _act_on(policy, np.full((*WARM_UP_SIZE, 3), value, dtype=np.uint8), instruction)
        for value in (0, 255)
    ]
    policy.reset()
    return not np.array_equal(*actions)


def _act_on(policy: VlaPolicy, image: np.ndarray, instruction: str) -> np.ndarray:
    policy.reset()
    state = np.zeros(policy.state_dim) if policy.state_dim else None
    observation = Observation(
        [image] * policy.num_cameras, instruction or "move to the target", state
    )
    return policy.act(observation).actions
