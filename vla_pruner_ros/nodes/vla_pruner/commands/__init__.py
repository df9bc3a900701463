"""Commands to controllers: end effector, joints and grippers, live or as a preview."""
