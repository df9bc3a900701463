"""The node against a policy server that is lost, slow or lies."""
