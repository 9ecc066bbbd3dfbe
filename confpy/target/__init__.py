"""A target: what it is now, how it is staged and replaced, and whether it drifted."""
