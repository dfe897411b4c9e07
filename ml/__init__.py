"""Train, evaluate and score on the warehouse's panel, and write the results back to it."""
