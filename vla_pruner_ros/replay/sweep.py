"""Settings of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.replayer import FULL, ReplaySetting


def sweep_settings(
    base: PruningConfig, methods: Sequence[str], keep_ratios: Sequence[float]
) -> list[ReplaySetting]:
    """Return the unpruned setting and one per method and ratio below 1.

    Args:
        base: layer, window and the like, for all of them.

    Raises:
        ValueError: an unknown method or a ratio outside (0, 1].
    """
    fixed = replace(base, budget_mode="fixed", token_budget=0)
    settings = {FULL: ReplaySetting(FULL, replace(fixed, method="full", keep_ratio=1.0))}
    for method in methods:
        for ratio in sorted(keep_ratios, reverse=True):
            pruning = replace(fixed, method=method, keep_ratio=float(ratio))
            if ratio < 1.0 and method != "full":
                name = f"{method} {100 * ratio:g} %"
                settings[name] = ReplaySetting(name, pruning)
    return list(settings.values())
