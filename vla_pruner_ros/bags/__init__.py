"""Rosbag2 files: reading, writing and repairing them. No ROS."""
