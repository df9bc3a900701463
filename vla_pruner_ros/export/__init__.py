"""vla_pruner_export: a bag as a Rerun recording, a video or a LeRobot data set."""
