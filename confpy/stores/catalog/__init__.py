"""Consul's catalogue and health."""
