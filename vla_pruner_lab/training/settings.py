"""Settings of a training run, and their command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch

from vla_pruner_lab.common.program import COUNT, task
from vla_pruner_lab.training import layout
from vla_pruner_lab.training.batches import CAMERAS
from vla_pruner_ros.models.images.preprocessing import PATCHES
from vla_pruner_ros.models.untrained import TinySize
from vla_pruner_ros.sim.tasks import task_name

FAMILIES = tuple(CAMERAS)
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": None}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that identify a run; a resumed run must have the same.

    steps: of batch_size frames. learning_rate: its peak, reached after warmup_steps.
    ema_decay: of the moving average that is exported. precision: of the matrix products
    (autocast; bfloat16 pays on GPUs and on CPUs with AMX); weights and optimiser are float32.
    """

    family: str
    steps: int
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 500
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "float32"
    augment: bool = True
    seed: int = 0
    visual_tokens: int = PATCHES
    """Patches of each image that are drawn and seen; the others are left out before the towers."""
    full_from: float = 0.8
    """Share of the steps after which all patches are seen."""
    tasks: tuple[str, ...] = ()
    """Tasks of the collection; empty: all."""
    task_weights: dict[str, float] = field(default_factory=dict)
    """Relative frequency of a task; 1 by default."""
    token_loss: float = 0.0
    """Weight of the cross entropy of OpenVLA-OFT's actions as tokens (network.loss)."""
    initial: str = ""
    """Checkpoint to start from: parameters with equal names and shapes are taken; empty: random."""
    size: TinySize = field(default_factory=lambda: layout.STANDARD_SIZE)


@dataclass(frozen=True)
class Limits:
    """Limits of a call: when to write, and when to stop early with everything saved.

    minutes: of this call (None: until the steps are done). workers: loading processes.
    """

    save_minutes: float = 10.0
    minutes: float | None = None
    log_every: int = 50
    workers: int = 0


def parse_arguments(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Add the flags of training and parse the command line."""
    add, defaults, limits = parser.add_argument, TrainingSettings("openvla", 1), Limits()
    add("--family", choices=FAMILIES, required=True)
    add(
        "--data",
        type=Path,
        default=Path("out/demonstrations"),
        help="folder of demonstrations.collect",
    )
    add("--out", type=Path, required=True, help="folder of the run; a run there needs --resume")
    add("--steps", type=COUNT, required=True, help="of the optimizer")
    add("--tasks", nargs="+", type=task, default=[], help="of the collection; all by default")
    add("--task-weights", nargs="+", type=_task_weight, default=[], metavar="TASK=WEIGHT",
        help="draw these tasks so often, relative to 1 of the others")  # fmt: skip
    add("--batch-size", type=COUNT, default=defaults.batch_size)
    add("--learning-rate", type=float, default=defaults.learning_rate)
    add("--warmup-steps", type=int, default=defaults.warmup_steps)
    add("--weight-decay", type=float, default=defaults.weight_decay)
    add("--ema-decay", type=float, default=defaults.ema_decay)
    fastest = "bfloat16" if torch.cuda.is_available() else defaults.precision
    add("--precision", choices=PRECISIONS, default=fastest, help="of the matrix products")
    add(
        "--no-augment", dest="augment", action="store_false", help="train on the images as they are"
    )
    add("--visual-tokens", type=int, default=defaults.visual_tokens, help="of each image's 256")
    add("--full-from", type=float, default=defaults.full_from, help="share of steps, then all")
    add("--token-loss", type=float, default=defaults.token_loss,
        help="of OpenVLA-OFT: weight of the cross entropy of its actions as tokens")  # fmt: skip
    add("--initial", default=defaults.initial, help="checkpoint to start from, of any family")
    add("--seed", type=int, default=defaults.seed)
    for name, value in asdict(layout.STANDARD_SIZE).items():
        add(f"--{name.replace('_', '-')}", type=int, default=value, help="of the network")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--resume", action="store_true", help="go on with the run in --out, if there is one")
    add("--minutes", type=float, default=limits.minutes, help="stop after these, saved")
    add("--save-minutes", type=float, default=limits.save_minutes)
    add("--log-every", type=int, default=limits.log_every, help="steps")
    add("--workers", type=int, default=limits.workers, help="processes that decode images")
    return parser.parse_args(argv)


def _task_weight(text: str) -> tuple[str, float]:
    """Parse 'door-close=2' into ('door-close', 2.0)."""
    name, _, weight = text.partition("=")
    try:
        return task_name(name), float(weight)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; give TASK=WEIGHT, such as reach=2") from None


def settings_of(given: argparse.Namespace) -> TrainingSettings:
    """Return the settings that the command line gives: its flags are named like the fields."""
    names = [one.name for one in fields(TrainingSettings) if hasattr(given, one.name)]
    values = {name: getattr(given, name) for name in names}
    size = TinySize(**{name: getattr(given, name) for name in asdict(layout.STANDARD_SIZE)})
    tasks, weights = tuple(given.tasks), dict(given.task_weights)
    return TrainingSettings(**{**values, "tasks": tasks, "task_weights": weights, "size": size})
