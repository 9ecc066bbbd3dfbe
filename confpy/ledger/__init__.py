"""What survives a restart: deliveries begun, reloads owed, cached keys, holds."""
