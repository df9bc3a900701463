"""Start of the nodes without ros2 launch: the same nodes, parameters and topics."""
