"""LIBERO driven through a robot profile, to prove the profile's numbers."""
