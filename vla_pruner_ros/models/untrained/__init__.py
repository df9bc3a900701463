"""Small checkpoints with random weights in the official layouts, for tests, demos and timing.

They behave like a model and know nothing: `trained` is False, and everything that shows their
output states it.
"""

from __future__ import annotations

from pathlib import Path

from vla_pruner_ros.models.untrained.flow import FLOW_WRITERS, pi0_statistics, random_flow_tensor
from vla_pruner_ros.models.untrained.prismatic import (
    ACTION_LIMITS,
    INSTRUCTIONS,
    UNNORM_KEY,
    VOCABULARY,
    VOCABULARY_PADDED,
    WRITERS,
    TinySize,
    action_statistics,
    random_tensor,
    random_weights,
    state_statistics,
    write_tokenizer,
)

__all__ = [
    "ACTION_LIMITS",
    "INSTRUCTIONS",
    "UNNORM_KEY",
    "VOCABULARY",
    "VOCABULARY_PADDED",
    "TinySize",
    "action_statistics",
    "pi0_statistics",
    "random_flow_tensor",
    "random_tensor",
    "random_weights",
    "state_statistics",
    "write_tokenizer",
    "write_untrained_checkpoint",
]


def write_untrained_checkpoint(
    directory: str | Path,
    family: str = "openvla",
    seed: int = 0,
    size: TinySize | None = None,
    **shape: int,
) -> Path:
    """Write a checkpoint with seeded random weights that load_policy reads.

    Args:
        directory: folder to write to, made if it is not there.
        family: openvla, openvla_oft, pi0, pi05 or smolvla.
        seed: of the weights.
        size: shape of the model.
        shape: fields of TinySize, instead of size.

    Returns:
        The directory.

    Raises:
        ValueError: an unknown family.
    """
    writers = {**WRITERS, **FLOW_WRITERS}
    if family not in writers:
        raise ValueError(f"family must be one of {', '.join(writers)}, got {family!r}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    writers[family](directory, seed, size or TinySize(**shape))
    return directory
