"""The demonstration: a simulated robot under a pruned policy, live budgets, a bag and a report."""
