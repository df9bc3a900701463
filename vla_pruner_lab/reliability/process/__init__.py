"""The real process under test: its world, its faults, the page about it."""
