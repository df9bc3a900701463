"""Random seeds of training, and those that are held out."""

from __future__ import annotations

TRAINING_SEEDS = 1_000_000
"""First seed of training episodes; seeds below are held out."""
