"""How inference is run: CUDA graphs, drafting, quantization, uploads and timing."""
