"""What HAProxy reads, as data: what changed, and whether the running HAProxy can be changed in the same way. Pure."""
