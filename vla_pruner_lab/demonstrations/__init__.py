"""Demonstrations of scripted experts: collecting and storing them."""
