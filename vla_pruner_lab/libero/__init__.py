"""LIBERO driven through a robot profile, to prove what the profile says of its numbers."""
