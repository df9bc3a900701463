"""Studies of a served policy: success on a live clock, and what a batch would save."""
