"""Simulated cameras and arms: MetaWorld on MuJoCo. No ROS."""
