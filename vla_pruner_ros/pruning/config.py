"""Settings of pruning; the one place of their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vla_pruner_ros.settings import check_fields, setting

METHOD_NAMES = (
    "full",
    "vla_pruner",
    "semantic_only",
    "action_only",
    "score_fusion",
    "fastv",
    "sparsevlm",
    "divprune",
    "random",
    "uniform",
)
BUDGET_MODES = ("fixed", "deadline", "motion")
HISTORY_FILLS = ("full", "semantic")
SEMANTIC_QUERIES = ("all", "length_normalised", "last")
TOKEN_RECOVERIES = ("none", "early_layers", "refresh")
DECAY_ORDERS = ("newest_first", "oldest_first")
RENAMED_FIELDS = {
    "pruner": "method",
    "warm_up": "history_fill",
    "semantic_rows": "semantic_queries",
    "lock_in_remedy": "token_recovery",
}
"""Names up to 0.1.0 -> names since. Recorded bags may hold the former."""


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by name, with names of 0.1.0 replaced by today's."""
    return {RENAMED_FIELDS.get(name, name): value for name, value in values.items()}


@dataclass(frozen=True)
class PruningConfig:
    """Settings of one pruned policy, checked on construction.

    Field names are the node's parameter names. Sources: arXiv 2511.16449 (method, K, w, gamma).

    Raises:
        ValueError: a value out of range, naming the field, the value and what is allowed.
    """

    keep_ratio: float = setting(
        0.25, "Share of visual tokens kept; 1.0 is the unpruned model.", low=1e-4, high=1.0
    )
    token_budget: int = setting(
        0, "Visual tokens kept per camera; 0 means: use keep_ratio.", low=0, high=65536
    )
    budget_mode: str = setting(
        "fixed",
        "fixed, deadline (follow target_latency) or motion (more tokens for fine motion).",
        choices=BUDGET_MODES,
    )
    target_latency: float = setting(
        0.2,
        "Time one inference may take (s): the deadline of budget_mode deadline, and the limit "
        "above which diagnostics count a miss.",
        low=1e-3,
        high=60.0,
    )
    fine_keep_ratio: float = setting(
        0.5,
        "budget_mode motion: share kept while the end effector moves finely.",
        low=1e-4,
        high=1.0,
    )
    fine_motion: float = setting(
        0.005, "budget_mode motion: below this (m per action) motion is fine.", low=1e-6, high=1.0
    )
    coarse_motion: float = setting(
        0.015,
        "budget_mode motion: above this (m per action) motion is coarse; in between, the last "
        "verdict stands.",
        low=1e-6,
        high=1.0,
    )
    method: str = setting("vla_pruner", "Method that chooses the tokens.", choices=METHOD_NAMES)
    prune_layer: int = setting(
        3,
        "K: 0-based index of the first decoder layer that runs on the kept tokens.",
        low=1,
        high=1000,
    )
    temporal_window: int = setting(
        3, "w: inferences whose action attention is remembered.", low=1, high=64
    )
    temporal_decay: float = setting(
        0.8,
        "gamma: weight of each older inference relative to the next newer one.",
        low=1e-3,
        high=1.0,
    )
    history_fill: str = setting(
        "full",
        "Until temporal_window inferences are remembered: full runs unpruned (the paper), semantic "
        "prunes by the prompt's attention alone.",
        choices=HISTORY_FILLS,
    )
    semantic_queries: str = setting(
        "all",
        "Prefill queries behind the semantic score: all (the paper), last, or length_normalised: "
        "each token's mean over the queries that can see it.",
        choices=SEMANTIC_QUERIES,
    )
    action_layer: int = setting(
        -1,
        "Decoder layer whose action attention is remembered; -1: mean of the second half (the "
        "paper).",
        low=-1,
        high=1000,
    )
    decay_order: str = setting(
        "newest_first",
        "newest_first (the paper) weighs the newest inference most; oldest_first is the released "
        "research code's order.",
        choices=DECAY_ORDERS,
    )
    token_recovery: str = setting(
        "none",
        "Way back for tokens pruned for long: none (the paper), early_layers or refresh.",
        choices=TOKEN_RECOVERIES,
    )
    refresh_period: int = setting(
        10,
        "Every n-th inference runs unpruned when token_recovery is refresh.",
        low=2,
        high=100000,
    )
    seed: int = setting(0, "Seed of the random method.", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.coarse_motion < self.fine_motion:
            raise ValueError(
                f"coarse_motion must be at least fine_motion ({self.fine_motion} m), "
                f"got {self.coarse_motion!r}"
            )


FIELD_NAMES = tuple(field.name for field in fields(PruningConfig))
