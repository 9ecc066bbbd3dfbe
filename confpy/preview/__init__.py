"""Renders without a run: what people look at, and tests of templates. Nothing is delivered."""
