"""Recorded bags through the same policy again, without ROS: message -> Observation -> policy."""
