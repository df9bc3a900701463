"""ROS 2 nodes, one a file, and the parts they share."""
