"""Keys as data: prefixes, trees, views, globs, snapshots. Pure."""
