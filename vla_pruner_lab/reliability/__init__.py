"""Soak runs with injected faults, and malformed inputs with their outcomes."""
