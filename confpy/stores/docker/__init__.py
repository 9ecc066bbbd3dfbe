"""The containers of a Docker or Podman engine as keys."""
