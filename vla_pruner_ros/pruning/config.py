"""What may be set about pruning; the one place where its defaults stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

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

    keep_ratio: float = 0.25
    """Share of visual tokens kept, 0 < r <= 1; 1.0 is the unpruned model."""
    token_budget: int = 0
    """Visual tokens kept per camera; 0 means: use keep_ratio."""
    budget_mode: str = "fixed"
    """fixed | deadline (follow target_latency) | motion (more tokens for fine motion)."""
    target_latency: float = 0.2
    """Seconds one inference may take, for budget_mode deadline."""
    fine_keep_ratio: float = 0.5
    """Share kept during fine motion, for budget_mode motion; coarse motion: keep_ratio."""
    fine_motion: float = 0.005
    """Motion (m per action) below which it counts as fine, see budget.MotionBudget."""
    coarse_motion: float = 0.015
    """Motion (m per action) above which it counts as coarse; in between the last verdict stands."""
    method: str = "vla_pruner"
    """Name of the pruning method, one of METHOD_NAMES; see methods.METHODS."""
    prune_layer: int = 3
    """K: 0-based index of the first decoder layer that runs on the pruned sequence."""
    temporal_window: int = 3
    """w: steps of action attention that are remembered."""
    temporal_decay: float = 0.8
    """gamma, 0 < gamma <= 1: weight of each older step relative to the next newer one."""
    history_fill: str = "full"
    """Until the history is full: run unpruned (full, the paper) or prune by the semantic set."""
    semantic_queries: str = "all"
    """Prefill queries behind the semantic score: all (the paper), last, or all with each visual
    token's mean taken over the queries that can see it (length_normalised)."""
    action_layer: int = -1
    """Decoder layer whose action attention is remembered; -1: mean of the second half (paper)."""
    decay_order: str = "newest_first"
    """newest_first (paper); oldest_first reproduces the released research code."""
    token_recovery: str = "none"
    """Way back for a pruned token: none (paper) | early_layers | refresh."""
    refresh_period: int = 10
    """Every n-th step runs unpruned when token_recovery is refresh."""
    seed: int = 0
    """Seed of the random method."""

    def __post_init__(self) -> None:
        self._check_share("keep_ratio")
        self._check_share("fine_keep_ratio")
        self._check_share("temporal_decay")
        self._check_above_zero("target_latency", "s")
        self._check_above_zero("fine_motion", "m")
        self._check_above_zero("coarse_motion", "m")
        if self.coarse_motion < self.fine_motion:
            raise ValueError(
                f"coarse_motion must be at least fine_motion ({self.fine_motion} m), "
                f"got {self.coarse_motion!r}"
            )
        self._check_integer("token_budget", 0)
        self._check_integer("prune_layer", 1)
        self._check_integer("temporal_window", 1)
        self._check_integer("action_layer", -1)
        self._check_integer("refresh_period", 2)
        self._check_integer("seed", 0)
        self._check_choice("method", METHOD_NAMES)
        self._check_choice("budget_mode", BUDGET_MODES)
        self._check_choice("history_fill", HISTORY_FILLS)
        self._check_choice("semantic_queries", SEMANTIC_QUERIES)
        self._check_choice("token_recovery", TOKEN_RECOVERIES)
        self._check_choice("decay_order", DECAY_ORDERS)

    def _check_share(self, name: str) -> None:
        value = getattr(self, name)
        if not (_is_number(value) and 0.0 < value <= 1.0):
            raise ValueError(f"{name} must be in (0, 1], got {value!r}")

    def _check_above_zero(self, name: str, unit: str) -> None:
        value = getattr(self, name)
        if not (_is_number(value) and value > 0.0):
            raise ValueError(f"{name} must be above 0 {unit}, got {value!r}")

    def _check_integer(self, name: str, lowest: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ValueError(f"{name} must be an integer of at least {lowest}, got {value!r}")

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _is_number(value: object) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


FIELD_NAMES = tuple(field.name for field in fields(PruningConfig))
