"""The local copy of one store's keys: what is read, polled and followed, and when. Pure."""
