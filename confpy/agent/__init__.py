"""What to do next: all decisions about resources, deliveries and reloads. Pure."""
