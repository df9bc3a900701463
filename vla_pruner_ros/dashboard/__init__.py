"""vla_pruner_dashboard: a live page of a running node, on loopback by default."""
