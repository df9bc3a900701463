"""From the messages of a bag to the inputs of the policy."""
