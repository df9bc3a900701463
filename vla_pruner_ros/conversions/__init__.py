"""Conversions of ROS messages to arrays and back, without rclpy: nodes and replay share them."""
