"""Inputs of the policy, made of the messages of a bag."""
