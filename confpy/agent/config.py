"""What the settings and the store's kind say to the agent."""

from __future__ import annotations

from typing import Literal

from confpy.clock import NEVER
from confpy.frozen import frozen


@frozen
class AgentConfig:
    """How the agent is configured."""

    onetime: bool = False
    period: float = 600.0
    """Seconds from one look at the targets and the world to the next."""
    noop: bool = False
    sync_only: bool = False
    no_reload: bool = False
    """Run no reload, and owe none."""
    max_wait: float = 2.0
    """Seconds for which deliveries may hold up a reload."""
    stop_timeout: float = 8.0
    """Seconds from the first signal to the end."""
    allow_empty: bool = False
    on_missing: Literal["error", "empty"] = "empty"
    """For resources that do not set it, unless a read determined it."""
    confdir: str = ""
    """For messages."""
    names_deletions: bool = True
    """The store's streams name what was deleted; otherwise it is missing from an answer."""
    saves_keys: bool = False
    """Save the delivered keys, for a start without the store."""
    may_lose_keys: bool = True
    """The store may answer with less than there is."""
    backend: str = ""
    """The kind of store, as the setting names it."""
    prefix: str = ""
    """The setting that replaces the resources' own ``prefix``."""
    allow_stale: bool = False
    """One-shot may make targets from cached keys."""
    retry_for: float = 0.0
    """Seconds for which one-shot waits for a store that is not up."""
    timeout: float = NEVER
    """Seconds that one-shot has for its try, from when the store answered or was given up."""

    @property
    def reloads(self) -> bool:
        """Whether reloads are run, and owed."""
        return not (self.sync_only or self.no_reload)
