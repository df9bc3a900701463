"""Bytes of the two protocols <-> checked values: no pickle, no object dtypes, nothing unbounded."""

from vla_pruner_ros.serving.wire.structure import WireError

__all__ = ["WireError"]
