"""A recorded bag through a policy offline: inputs, session, results. No ROS."""
