"""Simulated robots that speak joints, on the topics of real ones."""
