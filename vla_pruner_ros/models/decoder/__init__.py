"""The pruned forward pass of a decoder: attention, key-value cache, score inputs."""
