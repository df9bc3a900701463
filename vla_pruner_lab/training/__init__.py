"""Trains small policies in the layout of the published checkpoints."""
