"""Flags, keys and variables of confd and of its living fork that confpy calls differently, or does not have.

Names that confpy shares with them (``-watch``, ``prefix``) are in the table of settings alone. All others are here, so
that an installation of either runs unchanged: a word that means a setting sets it, one without a meaning is a warning.
confd's words are those of release 0.16 and earlier, the fork's those of abtreece/confd 0.41. Only data; ``settings``
and the command line look things up here.
"""

from __future__ import annotations

from confpy.config.options import Word
from confpy.config.stores import STORES as OUR_STORES

_VAULT = "for Vault, which confpy does not support"
_DYNAMODB = "for DynamoDB, which confpy does not support"
_AWS = "for an AWS store, which confpy does not support"
_BACKOFF = "confpy retries after 1 s, later every 60 s at most, as long as it runs"
_LOOK = "treated as -onetime -noop, which runs the checks and changes nothing"
_MOCK = "read test keys from a file instead: -backend file -file keys.json"
_COMPILED = "templates are compiled once, and again after an edit"
_DIFF = "confpy diff shows what would change"

WORDS = (
    # confd 0.16
    Word("auth_type", hint=_VAULT),
    Word("app_id", hint=_VAULT),
    Word("user_id", hint=_VAULT),
    Word("role_id", hint=_VAULT),
    Word("secret_id", hint=_VAULT),
    Word("path", hint=_VAULT),
    Word("table", hint=_DYNAMODB),
    Word("secret_keyring", hint="confpy does not decrypt values: templates cannot use cget, cgets, cgetv and cgetvs"),
    # confd before 0.10, and still half of all confd.toml
    Word("verbose", hint="retired: use log-level", truth=True),
    Word("debug", hint="retired: use log-level debug", truth=True),
    Word("quiet", hint="retired: use log-level error", truth=True),
    # the fork
    Word("check_config", ("onetime", "noop"), _LOOK, truth=True),
    Word("preflight", ("onetime", "noop"), _LOOK, truth=True),
    Word("validate", ("onetime", "noop"), _LOOK, truth=True),
    Word("mock_data", hint=_MOCK),
    Word("resource", hint="all resources of the confdir are processed"),
    Word("diff", hint=_DIFF, truth=True),
    Word("diff_context", hint=_DIFF),
    Word("color", hint="log lines are coloured on a terminal", truth=True),
    Word("failure_mode", hint="a failed resource never stops the others (best-effort)"),
    # Its pause begins with the first change, and is not extended by others.
    Word("debounce", ("settle", "max_wait")),
    Word("batch_interval", ("settle", "max_wait")),
    Word("template_cache", hint=_COMPILED, truth=True),
    Word("no_template_cache", hint=_COMPILED, truth=True),
    Word("stat_cache_ttl", hint=_COMPILED),
    Word("backend_timeout", ("read_timeout",)),
    Word("dial_timeout", ("connect_timeout",)),
    Word("write_timeout", hint="read_timeout limits a request and its answer"),
    Word("retry_max_attempts", hint=_BACKOFF),
    Word("retry_base_delay", hint=_BACKOFF),
    Word("retry_max_delay", hint=_BACKOFF),
    Word("watch_error_backoff", hint=_BACKOFF),
    Word("preflight_timeout", hint="timeout limits a run with -onetime"),
    Word("shutdown_timeout", ("stop_timeout",)),
    Word("systemd_notify", hint="confpy notifies systemd where its unit has Type=notify", truth=True),
    Word("watchdog_interval", hint="confpy takes the interval from WatchdogSec in its unit"),
    Word("metrics_addr", ("status_addr",)),
    Word("secretsmanager_version_stage", hint=_AWS),
    Word("secretsmanager_no_flatten", hint=_AWS, truth=True),
    Word("acm_export_private_key", hint=_AWS, truth=True),
    Word("imds_cache_ttl", hint=_AWS),
)

VARIABLES = frozenset({
    "confdir", "config_file", "interval", "log_level", "log_format", "noop", "onetime", "prefix", "sync_only", "watch",
    "failure_mode", "keep_stage_file", "srv_domain", "srv_record", "debounce", "batch_interval", "template_cache",
    "stat_cache_ttl", "backend_timeout", "check_cmd_timeout", "reload_cmd_timeout", "dial_timeout", "read_timeout",
    "write_timeout", "retry_max_attempts", "retry_base_delay", "retry_max_delay", "watch_error_backoff",
    "preflight_timeout", "shutdown_timeout", "systemd_notify", "watchdog_interval", "metrics_addr",
    "client_cert", "client_key", "client_cakeys",
})  # fmt: skip
"""The settings and words that the fork reads as ``CONFD_…``; confd itself knows only the last three."""
ALWAYS = frozenset({"CONFD_CLIENT_CERT", "CONFD_CLIENT_KEY", "CONFD_CLIENT_CAKEYS"})
"""Those that confd reads, too. The others are settings only for who calls confpy as the fork: confd never read them,
and images have variables of such names for their own templates."""
OTHERWISE = {"client_ca_keys": "client_cakeys"}
"""Settings whose variable in ``VARIABLES`` is called otherwise."""

SHORT = {"n": "node"}
"""Flags of one letter."""

STORES = {
    **{name: name for name in OUR_STORES},
    **{name: store.name for store in OUR_STORES.values() for name in store.in_fork},
    **{name: name for name in ("acm", "dynamodb", "imds", "secretsmanager", "ssm", "vault")},
}
"""What may stand where the fork has its backend, as in ``confpy etcd -watch`` → the store that it means.

The last ones are the fork's alone: to ask for one is an error that says which there are.
"""
IN_THE_FORK = {"join_prefixes": True, "allow_empty": True}
"""Defaults of settings for who calls confpy that way."""


def variable(name: str) -> str:
    """Return what the fork calls the variable of a setting or of a word; empty where it has none."""
    name = OTHERWISE.get(name, name)
    return f"CONFD_{name.upper()}" if name in VARIABLES else ""
