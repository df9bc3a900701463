"""Which random seeds belong to training and which are held out."""

from __future__ import annotations

TRAINING_SEEDS = 1_000_000
"""Training episodes start from seeds at and above this one, so that those below are held out."""
