"""Settings of pruning; the one place of their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vla_pruner_ros.pruning.methods import method_names
from vla_pruner_ros.settings import check_fields, setting

METHOD_NAMES = method_names()
BUDGET_MODES = ("fixed", "deadline", "motion", "motion_gate")
PRESETS = ("default", "paper", "released")
HISTORY_FILLS = ("full", "semantic")
SEMANTIC_QUERIES = ("all", "text", "last", "length_normalised")
CAMERA_BUDGETS = ("shared", "even")
ACTION_SOURCES = ("history", "current")
TOKEN_RECOVERIES = ("none", "early_layers", "last_full_layer", "refresh")
TOKEN_REUSES = ("off", "static", "gated")
DECAY_ORDERS = ("newest_first", "oldest_first")
RENAMED_FIELDS = {
    "pruner": "method",
    "warm_up": "history_fill",
    "semantic_rows": "semantic_queries",
    "lock_in_remedy": "token_recovery",
}
"""Names up to 0.1.0 -> names since. Recorded bags may hold the former."""


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by name, with names of 0.1.0 replaced by today's.

    What 0.1.0 did without presets is today's preset `paper`.
    """
    before = {"preset": "paper"} if RENAMED_FIELDS.keys() & values.keys() else {}
    return before | {RENAMED_FIELDS.get(name, name): value for name, value in values.items()}


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
        "fixed, deadline (follow target_latency), motion (more tokens for fine motion) or "
        "motion_gate (ADP's: all tokens after a chunk that moved less than the two before).",
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
    preset: str = setting(
        "default",
        "Values of the settings that are auto: default measures best on the bundled policies, "
        "paper is arXiv 2511.16449, released is the authors' code.",
        choices=PRESETS,
    )
    prune_layer: int | None = setting(
        None,
        "K: 0-based index of the first decoder layer that runs on the kept tokens; 0 drops tokens "
        "before the first layer, by its attention on the embeddings. auto: the preset's value.",
        low=0,
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
    history_fill: str | None = setting(
        None,
        "Until temporal_window inferences are remembered: full runs unpruned (the paper), semantic "
        "prunes by the prompt's attention alone. auto: the preset's value.",
        choices=HISTORY_FILLS,
    )
    semantic_queries: str | None = setting(
        None,
        "Queries behind the semantic score: all of the prompt (the paper), its text, its last "
        "token, or length_normalised: each token's mean over the queries that can see it. auto: "
        "the preset's value.",
        choices=SEMANTIC_QUERIES,
    )
    coverage: float | None = setting(
        None,
        "Share of the budget for tokens unlike those chosen so far, of any relevance; the paper "
        "has 0. auto: the preset's value.",
        low=0.0,
        high=1.0,
    )
    camera_budget: str | None = setting(
        None,
        "shared: all cameras compete for the tokens (the paper); even: each camera keeps the same "
        "number. auto: the preset's value.",
        choices=CAMERA_BUDGETS,
    )
    action_source: str | None = setting(
        None,
        "history: action attention of past inferences (the paper); current: of this one at layer "
        "K-1, for models that decode in parallel. auto: the preset's value.",
        choices=ACTION_SOURCES,
    )
    action_layer: int | None = setting(
        None,
        "Decoder layer whose action attention is remembered; -1: mean of the second half (the "
        "paper). auto: the preset's value.",
        low=-1,
        high=1000,
    )
    decay_order: str | None = setting(
        None,
        "newest_first (the paper) weighs the newest inference most; oldest_first is the released "
        "research code's order. auto: the preset's value.",
        choices=DECAY_ORDERS,
    )
    token_recovery: str = setting(
        "none",
        "How tokens that were pruned for long return: none (the paper), early_layers (attention "
        "below layer K), last_full_layer (attention at layer K-1) or refresh (now and then an "
        "unpruned inference).",
        choices=TOKEN_RECOVERIES,
    )
    refresh_period: int = setting(
        10,
        "Every n-th inference runs unpruned when token_recovery is refresh.",
        low=2,
        high=100000,
    )
    token_reuse: str = setting(
        "off",
        "For openvla without draft: unpruned inferences keep keys and values of patches that look "
        "as before (VLA-Cache), always (static) or after a clear action alone (gated). Runs "
        "without CUDA graphs.",
        choices=TOKEN_REUSES,
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
