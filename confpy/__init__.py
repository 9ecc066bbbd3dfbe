"""Keep configuration files in step with a key store."""

__version__ = "0.1.0"
