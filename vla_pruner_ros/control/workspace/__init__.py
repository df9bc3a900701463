"""What holds the arm in its workspace though poses show motion late."""
