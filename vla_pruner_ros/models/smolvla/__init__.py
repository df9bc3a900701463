"""SmolVLA (arXiv 2506.01844): SmolVLM2 with an action expert that attends to it layer by layer."""
