"""Rendering: a resource, its view of the store and what is known of the world become bytes."""
