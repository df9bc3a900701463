"""A model family outside vla_pruner_ros, found by its entry point."""
