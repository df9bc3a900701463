"""From the node's settings to a policy that has proven to answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_pruner_ros.models.checkpoint_files import check_inside
from vla_pruner_ros.models.images.image_check import trial_actions
from vla_pruner_ros.models.loading import checkpoint_directory, load_policy
from vla_pruner_ros.models.policy import UNTRAINED, CheckpointError, VlaPolicy
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.models.sources.hub import SCHEME, Repository, cache_folder
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.resources import policy_directory
from vla_pruner_ros.robots import (
    CheckpointLayout,
    RobotProfile,
    bundled_profiles,
    load_profile,
    mismatches,
    with_cameras_of,
)
from vla_pruner_ros.serving.client.address import is_remote
from vla_pruner_ros.serving.client.opening import connect_policy

TRIAL_INSTRUCTION = "move to the target"


def load_from_settings(settings: NodeSettings) -> VlaPolicy:
    """Load the checkpoint, or connect to the server, that the parameters name.

    Raises:
        CheckpointError: no checkpoint named, or it cannot be used; the message names the file.
    """
    if settings.checkpoint_root:
        _check_root(settings)
    if is_remote(settings.checkpoint):
        _refuse_options(settings)
        return connect_policy(
            settings.checkpoint,
            settings.remote_image_format,
            settings.remote_timeout,
            settings.remote_api_key_file,
            settings.robot,
            pruning=settings.pruning,
        )
    return load_policy(
        settings.checkpoint,
        model=settings.model,
        num_cameras=len(settings.image_topics),
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.num_threads,
        unnorm_key=settings.unnorm_key,
        tokenizer=settings.tokenizer,
        base_checkpoint=settings.base_checkpoint,
        pruning=settings.pruning,
        execution=settings.execution,
        **settings.options,
    )


def _refuse_options(settings: NodeSettings) -> None:
    given = sorted(name for name, value in settings.options.items() if value is not None)
    if given:
        raise CheckpointError(
            f"{', '.join(given)} cannot be set for a policy server: set it where the server loads "
            "the policy, and leave it at auto here"
        )


def _check_root(settings: NodeSettings) -> None:
    root = settings.checkpoint_root
    for name in filter(None, (settings.checkpoint, settings.base_checkpoint)):
        if name == UNTRAINED or policy_directory(name) is not None:
            continue
        if name.startswith(SCHEME):  # before anything is fetched
            check_inside(cache_folder(Repository.parse(name)), root)
        check_inside(checkpoint_directory(name), root)
    if settings.tokenizer:
        check_inside(_tokenizer_folder(settings.tokenizer), root, "tokenizer")


def _tokenizer_folder(name: str) -> Path:
    if name.startswith(SCHEME):
        return cache_folder(Repository.parse(name))
    return Path(name).expanduser()


def check_policy(policy: VlaPolicy, settings: NodeSettings) -> None:
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
    if settings.on_camera_loss == "continue" and not policy.can_miss_cameras:
        raise CheckpointError(
            f"on_camera_loss is continue, but {policy.family} needs an image of every camera: set "
            "it to hold"
        )
    if joints and policy.state_dim != len(joints):
        raise CheckpointError(
            f"The model takes a state of {policy.state_dim} values but state_joints names "
            f"{len(joints)}"
        )


def load_robot(policy: VlaPolicy, settings: NodeSettings, width: int) -> RobotProfile | None:
    """Load the profile that explains the policy's numbers, and compare the two.

    Args:
        width: numbers of one action, as the policy gave them.

    Returns:
        The profile; None in a dry run of a policy whose numbers no profile explains.

    Raises:
        CheckpointError: there is no profile and this is no dry run, or the profile does not fit.
        ProfileError: the profile cannot be used.
    """
    robot = settings.robot or getattr(policy, "robot", "")
    if not robot:
        if settings.dry_run:
            return None
        raise CheckpointError(
            f"No robot profile explains the {width} numbers of this checkpoint's actions: set the "
            f"parameter robot to a bundled profile ({', '.join(bundled_profiles())}) or to a file, "
            "or dry_run to true to look at them without moving anything"
        )
    profile = load_profile(robot)
    layout = CheckpointLayout.of(policy, width)
    differences = mismatches(profile, layout)
    if differences:
        raise CheckpointError("; ".join(differences))
    return with_cameras_of(profile, layout)


def try_policy(policy: VlaPolicy, instruction: str) -> tuple[bool, int]:
    """Run the policy on a black and a white image.

    Returns:
        Whether the two actions differ, and how many numbers an action has.

    The first calls of a process are slow: they are made here. A model that ignores its image is
    found before an arm follows it. OpenVLA is known to do so under some transformers versions.
    """
    instruction = instruction or TRIAL_INSTRUCTION
    black, white = trial_actions(policy, instruction)
    if isinstance(policy, PrunedPolicy):
        policy.capture_graphs(instruction)
    return not np.array_equal(black, white), int(black.shape[-1])
