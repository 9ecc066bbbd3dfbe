"""What the settings and the store's kind say to the agent."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any, Literal

from confpy.clock import NEVER
from confpy.config.settings import Settings
from confpy.config.stores import STORES
from confpy.frozen import NOTHING, frozen
from confpy.keys.capabilities import Capabilities


@frozen
class AgentConfig:
    """How the agent is configured."""

    onetime: bool = False
    watch: bool = False
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
    saves_keys: bool = False
    """Save the delivered keys, for a start without the store."""
    may_lose_keys: bool = True
    """The store may answer with less than there is."""
    backend: str = ""
    """The kind of store, as the setting names it."""
    nodes: tuple[str, ...] = ()
    """The addresses of its store, without passwords."""
    mounted: Mapping[str, tuple[str, tuple[str, ...]]] = NOTHING
    """Where further stores are mounted → the kind of each, and its addresses."""
    prefix: str = ""
    """The setting that replaces the resources' own ``prefix``."""
    allow_stale: bool = False
    """One-shot may make targets from cached keys."""
    retry_for: float = 0.0
    """Seconds for which one-shot waits for a store that is not up."""
    tells_steps: bool = False
    """Log each step on the way of a change."""
    ready_timeout: float = 30.0
    """Seconds that a store which does not answer has before it is started without it."""
    history: bool = False
    """Deliveries are recorded in the history."""
    timeout: float = NEVER
    """Seconds that one-shot has for its try, from when the store answered or was given up."""
    supervises: bool = False
    """A program is run, and supervised."""
    child_stop_signal: int = 0
    """What stops it; 0: the signal that confpy got."""
    child_stop_timeout: float = 8.0
    """Seconds from that to its end."""
    forwarded: frozenset[int] = frozenset()
    """Signals that are meant for it."""

    @classmethod
    def of(cls, settings: Settings, capabilities: Capabilities) -> AgentConfig:
        """Return what the settings say, for a kind of store."""
        return cls(
            onetime=settings.onetime,
            watch=settings.watch,
            period=settings.resync if settings.watch else settings.interval,
            noop=settings.noop,
            sync_only=settings.sync_only,
            no_reload=settings.no_reload,
            max_wait=settings.max_wait,
            stop_timeout=settings.stop_timeout,
            allow_empty=settings.allow_empty,
            on_missing=capabilities.missing,
            confdir=settings.confdir,
            saves_keys=capabilities.remote and not settings.noop,
            may_lose_keys=capabilities.can_change,
            backend=settings.backend,
            nodes=nodes_of(settings),
            mounted={mount: (one.backend, nodes_of(one)) for mount, one in settings.mounts.items()},
            prefix=settings.prefix or "",
            allow_stale=settings.allow_stale,
            retry_for=settings.retry_for,
            history=keeps_history(settings, capabilities),
            timeout=settings.timeout,
            tells_steps=settings.log_level == "debug",
            ready_timeout=settings.ready_timeout,
            **_supervision(settings),
        )

    @property
    def mode(self) -> str:
        """As ``Status.mode``."""
        mode = "onetime" if self.onetime else "watch" if self.watch else "poll"
        return f"{mode} noop" if self.noop else mode

    @property
    def reloads(self) -> bool:
        """Whether reloads are run, and owed."""
        return not (self.sync_only or self.no_reload)


def nodes_of(settings: Settings) -> tuple[str, ...]:
    """Return where the store is looked for: never with a password, which a URL may hold before an ``@``."""
    if settings.srv_domain or settings.srv_record:
        return (f"SRV {settings.srv_record or settings.srv_domain}",)
    options = STORES.get(settings.backend)
    nodes = settings.nodes or (options.nodes if options is not None else ())
    return tuple(re.sub(r"^([^/]*//)?[^/]*@", r"\1", node) for node in nodes)


def keeps_history(settings: Settings, capabilities: Capabilities) -> bool:
    """Say whether deliveries are recorded: a one-shot over keys that cannot change leaves nothing behind."""
    return settings.history > 0 and not settings.noop and (capabilities.can_change or not settings.onetime)


def _supervision(settings: Settings) -> dict[str, Any]:
    """Return what the settings say of the program to supervise."""
    if not settings.exec or settings.onetime:
        return {}
    stop_signal = settings.exec_stop_signal
    return {
        "supervises": True,
        "child_stop_signal": int(signal.Signals[f"SIG{stop_signal}"]) if stop_signal else 0,
        "child_stop_timeout": settings.exec_stop_timeout,
        "forwarded": forwarded_signals(settings),
    }


def forwarded_signals(settings: Settings) -> frozenset[int]:
    """Return the signals that are meant for the supervised program: none that stops confpy, or makes it look again."""
    meant = {signal.SIGUSR2, signal.SIGWINCH, signal.SIGPWR, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}
    return frozenset(map(int, meant)) - {int(signal.Signals[f"SIG{name}"]) for name in settings.stop_signals}
