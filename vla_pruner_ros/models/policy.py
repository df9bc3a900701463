"""The seam between a VLA and whatever drives it (node, replay, benchmark)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vla_pruner_ros.pruning.config import PruningConfig

UNTRAINED = "untrained"
"""Instead of a checkpoint's directory: small random weights, to try things out."""


class PolicyError(RuntimeError):
    """The policy cannot answer this observation; the message names what to change."""


class InputError(PolicyError):
    """The policy cannot answer this observation, but may answer another; the message says why."""


class CheckpointError(PolicyError):
    """The checkpoint cannot be used; the message names the file or key and the remedy."""


@dataclass(frozen=True)
class Observation:
    """Input of a policy: what the robot perceives at one instant.

    images: one uint8 [H, W, 3] RGB array per camera, in the order the policy was trained with; None
        for a camera that has no image, where the policy can do without.
    instruction: the task, a sentence.
    state: float [state_dim] in the order and units of the checkpoint's statistics, or None.
    """

    images: list[np.ndarray | None]
    instruction: str
    state: np.ndarray | None = None


@dataclass(frozen=True)
class PruningReport:
    """Report of one inference: kept tokens and their reasons.

    kept_indices: per camera, sorted int32 indices into that camera's row-major patch grid.
    grid: patch rows and columns of one camera, for example (16, 16).
    tokens_total: visual tokens before pruning, all cameras.
    tokens_requested: the budget asked for, all cameras; tokens_kept: what ran from layer K on.
    preset: the preset that the settings in force equal, or "custom". prune_layer: K.
    history_incomplete: True while the temporal relevance is not yet complete.
    history_length: steps of action relevance held when this step pruned.
    semantic_action_overlap: |C_vl and C_act| / k, NaN where one of the sets does not exist.
    action_overlap: overlap of C_act with the previous step's, NaN on the first.
    semantic_share, action_share: share of the kept set that lies in C_vl, in C_act (both may).
    timings: seconds per stage, in order (preprocess, vision, prefill, decode, total, ...).
    reused_tokens: for each decoder layer, the visual tokens that it did not compute (token_reuse);
        empty where it is off.
    drafted_tokens, accepted_tokens: of lossless drafting, 0 where it is off.
    """

    kept_indices: list[np.ndarray]
    grid: tuple[int, int]
    tokens_total: int
    tokens_requested: int
    tokens_kept: int
    method: str
    preset: str = "custom"
    prune_layer: int = 0
    history_incomplete: bool = False
    refresh: bool = False
    history_length: int = 0
    semantic_action_overlap: float = float("nan")
    action_overlap: float = float("nan")
    semantic_share: float = float("nan")
    action_share: float = float("nan")
    timings: dict[str, float] = field(default_factory=dict)
    reused_tokens: tuple[int, ...] = ()
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class ActionChunk:
    """Actions of one inference.

    actions: float32 [steps, 7]: dx dy dz (m), droll dpitch dyaw (rad), gripper (0 closed, 1 open).
    pruning: what was kept and why, with stage timings.
    """

    actions: np.ndarray
    pruning: PruningReport


class VlaPolicy(Protocol):
    """A vision-language-action model with pruned visual tokens.

    Not thread safe: one thread owns a policy. `pruning` may be replaced between calls and takes
    effect on the next act(); it never touches the temporal relevance unless its window changes.
    """

    family: str
    """openvla, openvla_oft, pi0, ..."""
    trained: bool
    """False for randomly initialised weights; every output must state it."""
    num_cameras: int
    can_miss_cameras: bool
    """True if an Observation may lack some of its images."""
    state_dim: int
    """0 where the model takes no state."""
    chunk_size: int
    robot: str
    """Robot profile that the checkpoint names, empty if it names none."""
    pruning: PruningConfig

    def act(self, observation: Observation) -> ActionChunk:
        """Predict the next actions. Raises PolicyError with a remedy; the state is unharmed."""
        ...

    def reset(self) -> None:
        """Clear the temporal relevance (new episode, new instruction)."""
        ...
