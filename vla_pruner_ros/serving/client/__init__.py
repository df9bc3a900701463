"""A policy that runs on another machine, seen from here as a VlaPolicy."""
