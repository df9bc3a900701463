"""Fixtures of this folder's tests."""

from model_helpers import checkpoints, small_policy

__all__ = ["checkpoints", "small_policy"]
