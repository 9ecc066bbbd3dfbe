"""The local copy of a store's keys: when to read, poll, watch and wait. Pure."""
