"""Read vendors' files, check them against the raw contract and load them into the warehouse."""
