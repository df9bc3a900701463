"""Fixtures of this folder's tests."""

from replay_helpers import run

__all__ = ["run"]
