"""Parts that hold the arm in its workspace although poses show motion late."""
