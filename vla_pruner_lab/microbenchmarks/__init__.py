"""Benchmarks of single parts: selection, drafting, quantization, replay, node overhead."""
