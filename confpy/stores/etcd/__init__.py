"""etcd: API v2, API v3, and the name that finds out which."""
