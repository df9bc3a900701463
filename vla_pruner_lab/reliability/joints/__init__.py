"""The soak test of a robot that is moved by joints: two arms with a gripper each."""
