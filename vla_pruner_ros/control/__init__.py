"""What stands between a policy and an arm, without ROS: frames, worker, queue, limits, gate."""
