"""Measures, trains and demonstrates vla_pruner_ros, from a clone; a robot does not install it."""
