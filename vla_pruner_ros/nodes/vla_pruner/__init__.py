"""The policy node: camera images and an instruction in, actions out."""
