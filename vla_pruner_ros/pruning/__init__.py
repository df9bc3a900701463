"""Token pruning for vision-language-action models: scores in, kept indices out.

Needs torch alone; knows no model and no ROS. `PruningState` is what a policy of your own holds.
"""

from __future__ import annotations

from importlib import import_module

_HOME = {
    "PruningConfig": "config",
    "PruningState": "state",
    "PruningStep": "step",
    "Signals": "method",
    "PruningMethod": "method",
    "find_method": "method",
    "make_method": "method",
    "method_names": "methods",
    "Selection": "token_selection",
    "combine_then_filter": "token_selection",
    "max_min_diversity": "diversity",
    "TemporalRelevance": "relevance",
    "PruningStatistics": "overlap",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    # On demand, so that reading the settings alone does not take the seconds torch needs to load.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
