"""Fixtures of this folder's tests."""

from replay_kit import run

__all__ = ["run"]
