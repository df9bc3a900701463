"""The policy server measured and attacked: bad input, load, scaling; LIBERO's table."""
