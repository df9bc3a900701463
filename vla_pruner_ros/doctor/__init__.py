"""vla_pruner_doctor: what keeps this machine, its ROS 2 and its settings from driving an arm."""
