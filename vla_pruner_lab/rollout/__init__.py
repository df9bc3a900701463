"""One episode of a policy or an expert in the simulator."""
