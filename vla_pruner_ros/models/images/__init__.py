"""Camera images to model inputs: resizing and normalisation on host and device."""
