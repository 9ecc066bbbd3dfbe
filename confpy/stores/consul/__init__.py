"""Consul's KV."""
