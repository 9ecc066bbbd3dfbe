"""Redis as a store."""
