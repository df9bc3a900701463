"""vla_pruner_export: a bag as a Rerun recording, a film or a LeRobot data set."""
