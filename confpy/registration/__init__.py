"""Keeping one key registered: what is wanted of it, and what is done about it. Pure."""
