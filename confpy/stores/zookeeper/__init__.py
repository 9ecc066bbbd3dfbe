"""ZooKeeper as a store."""
