"""Execution of inference: CUDA graphs, drafting, quantization, uploads and timing."""
