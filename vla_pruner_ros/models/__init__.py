"""VLA families behind one interface: `load_policy(directory).act(observation)`. No ROS."""

from __future__ import annotations

from importlib import import_module

_HOME = {
    "ActionChunk": "policy",
    "CheckpointError": "policy",
    "Observation": "policy",
    "PolicyError": "policy",
    "PruningReport": "policy",
    "VlaPolicy": "policy",
    "load_policy": "loading",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    # On demand, so that the node can read an observation's type without torch's seconds.
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
