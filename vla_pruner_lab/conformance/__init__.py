"""Compares this implementation with recorded runs of the official ones, array by array."""
