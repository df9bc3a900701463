"""Latency of whole steps against the least time that the hardware allows."""
