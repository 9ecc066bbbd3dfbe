"""Keep configuration files in step with a key store."""

__version__ = "1.0.0"
