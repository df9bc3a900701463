"""Checks of the policy: the checkpoint's files, family and memory, the robot profile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vla_pruner_ros.doctor.finding import Finding, examine, green, red, yellow
from vla_pruner_ros.doctor.machine import memory
from vla_pruner_ros.robots import bundled_profiles, load_profile

CHECKPOINT, ROBOT = "checkpoint", "robot"
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SPARE = 1.25
"""Memory of a running policy, relative to its weights: activations, cache and graphs."""


@dataclass(frozen=True)
class Weights:
    """Size of a checkpoint, from the headers of its files alone."""

    family: str
    parameters: int
    robot: str = ""
    files: tuple[str, ...] = field(default=())

    def bytes_in(self, dtype: str) -> int:
        """Return the size of the weights (bytes) in a dtype."""
        return self.parameters * BYTES[dtype]


def read_weights(checkpoint: str) -> Weights:
    """Read family and number of parameters of a checkpoint.

    Raises:
        CheckpointError: it cannot be used; the sentence gives the remedy.
    """
    from vla_pruner_ros.models.checkpoints import (
        WeightFiles,
        read_config,
        refuse_quantized,
        training_note,
    )
    from vla_pruner_ros.models.families import choose_family
    from vla_pruner_ros.models.loading import checkpoint_directory, opened

    with opened(checkpoint_directory(checkpoint)) as directory:
        config = read_config(directory)
        refuse_quantized(config, directory)
        name, _ = choose_family(directory, config)
        shapes = WeightFiles(directory).shapes
        robot = str(training_note(config).get("robot", ""))
    return Weights(name, sum(math.prod(shape) for shape in shapes.values()), robot)


def checkpoint_findings(checkpoint: str, device: str, dtype: str) -> Iterator[Finding]:
    """Yield whether a checkpoint can be read and fits into memory."""
    if not checkpoint:
        yield yellow(CHECKPOINT, "no checkpoint was named", "give --checkpoint, or --params FILE")
    elif checkpoint.startswith(("ws://", "wss://")):
        yield green(CHECKPOINT, f"{checkpoint} is a policy server: it is not asked here")
    else:
        yield from examine(CHECKPOINT, [partial(_weights, checkpoint, device, dtype)])


def _weights(checkpoint: str, device: str, dtype: str) -> Iterator[Finding]:
    from vla_pruner_ros.models.policy import PolicyError

    try:
        weights = read_weights(checkpoint)
    except (PolicyError, OSError) as error:
        yield red(CHECKPOINT, str(error), "docs/how-to/checkpoints.md lists what can be loaded")
        return
    device = _device(device)
    dtype = dtype if dtype in BYTES else ("bfloat16" if device == "cuda" else "float32")
    size = weights.bytes_in(dtype)
    text = (
        f"{Path(checkpoint).name}: {weights.family}, {weights.parameters / 1e6:.3g} million "
        f"parameters, {size / 1e9:.3g} GB in {dtype} on {device}"
    )
    available = _available(device)
    if size > available:
        yield red(
            CHECKPOINT,
            f"{text}; only {available / 1e9:.1f} GB are free",
            "dtype bfloat16, quantization int8 or int4, another device, or a policy server",
        )
    elif size * SPARE > available:
        yield yellow(
            CHECKPOINT,
            f"{text}; {available / 1e9:.1f} GB are free",
            "little is left for activations and graphs: end other programs, or quantize",
        )
    else:
        yield green(CHECKPOINT, text)


def _device(device: str) -> str:
    import torch

    if device in ("", "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device.partition(":")[0]


def _available(device: str) -> float:
    import torch

    if device == "cuda":
        return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0.0
    return memory()[0]


def robot_findings(robot: str, checkpoint: str, dry_run: bool) -> Iterator[Finding]:
    """Yield whether a robot profile explains the policy's numbers."""
    yield from examine(ROBOT, [partial(_robot, robot, checkpoint, dry_run)])


def _robot(robot: str, checkpoint: str, dry_run: bool) -> Iterator[Finding]:
    named = robot or _named_by(checkpoint)
    if not named:
        remedy = f"set robot to a file or one of {', '.join(bundled_profiles())}"
        if not checkpoint:
            yield yellow(
                ROBOT,
                "neither checkpoint nor robot profile is named",
                "give --params, --checkpoint or --robot",
            )
        elif dry_run:
            yield yellow(ROBOT, "no robot profile; dry_run publishes a preview only", remedy)
        else:
            yield red(ROBOT, "no robot profile: the node will not configure", remedy)
        return
    try:
        profile = load_profile(named)
    except ValueError as error:
        yield red(ROBOT, str(error), "docs/how-to/robot_profile.md shows how to write one")
        return
    cameras = ", ".join(camera.name for camera in profile.cameras)
    source = "" if robot else " (named by the checkpoint)"
    yield green(ROBOT, f"{profile.name}{source}: state of {profile.state_dim}, cameras {cameras}")


def _named_by(checkpoint: str) -> str:
    if not checkpoint or checkpoint.startswith(("ws://", "wss://")):
        return ""
    try:
        return read_weights(checkpoint).robot
    except Exception:
        return ""  # the checkpoint's own check reports it
