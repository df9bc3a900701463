"""Frames, worker, action queue, limits and the gate that stops motion. No ROS."""
