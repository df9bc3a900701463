"""`make demo`: the simulated robot under the pruned policy, and a report."""
