"""Settings of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.presets import with_preset
from vla_pruner_ros.replay.replayer import FULL, ReplaySetting
from vla_pruner_ros.settings.assignments import with_changes


def sweep_bases(
    recorded: PruningConfig, assignments: Sequence[str], presets: Sequence[str]
) -> dict[str, PruningConfig]:
    """Return the settings that methods and budgets are tried with: one for each preset, by name.

    Args:
        recorded: those that hold where nothing else is given.
        assignments: NAME=VALUE, which a preset does not overrule.
        presets: to compare; none: `recorded` is the only base, and its name is empty.
    """
    if not presets:
        return {"": with_changes(recorded, assignments)}
    return {name: with_changes(with_preset(recorded, name), assignments) for name in presets}


def sweep_settings(
    bases: Mapping[str, PruningConfig],
    methods: Sequence[str],
    keep_ratios: Sequence[float],
    token_reuse: Sequence[str] = (),
) -> list[ReplaySetting]:
    """Return the unpruned setting, one per token_reuse, and one per method, base and ratio below 1.

    Args:
        bases: layer, window and the like, by name; the name becomes part of a setting's.

    Raises:
        ValueError: an unknown method or a ratio outside (0, 1].
    """
    fixed = {
        name: replace(base, budget_mode="fixed", token_budget=0, token_reuse="off")
        for name, base in bases.items()
    }
    unpruned = replace(next(iter(fixed.values())), method="full", keep_ratio=1.0)
    settings = {FULL: ReplaySetting(FULL, unpruned, FULL)}
    for kind in token_reuse:
        name = f"{FULL} reuse {kind}"
        settings[name] = ReplaySetting(name, replace(unpruned, token_reuse=kind), name)
    for method, (name, base) in product(methods, fixed.items()):
        series = f"{method} {name}".rstrip()
        for ratio in sorted(keep_ratios, reverse=True):
            pruning = replace(base, method=method, keep_ratio=float(ratio))
            if ratio < 1.0 and method != "full":
                one = ReplaySetting(f"{series} {100 * ratio:g} %", pruning, series)
                settings[one.name] = one
    return list(settings.values())
