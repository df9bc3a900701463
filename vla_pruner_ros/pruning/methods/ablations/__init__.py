"""The paper's own ablations of VLA-Pruner, one file each."""
