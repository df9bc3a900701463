"""The settings of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.replayer import FULL, Setting


def sweep_settings(
    base: PruningConfig, pruners: Sequence[str], keep_ratios: Sequence[float]
) -> list[Setting]:
    """Return the unpruned setting and one per pruner and ratio below 1.

    Args:
        base: layer, window and the like, for all of them.

    Raises:
        ValueError: an unknown pruner or a ratio outside (0, 1].
    """
    fixed = replace(base, budget_mode="fixed", token_budget=0)
    settings = {FULL: Setting(FULL, replace(fixed, pruner="full", keep_ratio=1.0))}
    for pruner in pruners:
        for ratio in sorted(keep_ratios, reverse=True):
            pruning = replace(fixed, pruner=pruner, keep_ratio=float(ratio))
            if ratio < 1.0 and pruner != "full":
                name = f"{pruner} {100 * ratio:g} %"
                settings[name] = Setting(name, pruning)
    return list(settings.values())


def with_changes(base: PruningConfig, assignments: Sequence[str]) -> PruningConfig:
    """Apply `name=value` assignments, each value read in the type of the field.

    Raises:
        ValueError: an unknown name or a value that does not fit, by name.
    """
    changes = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not hasattr(base, name):
            known = ", ".join(vars(base))
            raise ValueError(f"{assignment!r} is not NAME=VALUE with a NAME of: {known}")
        kind = type(getattr(base, name))
        try:
            changes[name] = kind(text)
        except ValueError:
            raise ValueError(f"{name} takes a {kind.__name__}, got {text!r}") from None
    return replace(base, **changes)
