"""Values of a status, for the tests of its views."""

from __future__ import annotations

from confpy.status.model import ReloadStatus, ResourceStatus, Status, StoreStatus, Totals

NOW = 1_795_926_275.0
SECRET = "s3cr3t-t0k3n"
"""Stands where a value, a token or what a command prints may stand."""


def resource(name="haproxy", **more):
    given = {
        "since": NOW - 3000,
        "changed_at": NOW - 3000,
        "loaded_at": NOW - 3000,
        "revision": 400,
        "digest": "cd" * 32,
        "is_public": True,
    }
    return ResourceStatus(name, f"/etc/{name}.cfg", **{**given, **more})


def owed(name="haproxy", command=f"curl -H {SECRET} http://lb/reload", **more):
    error = {"error": "the command failed with 7", "command": command, "output": SECRET, "resource": name}
    given = {
        "state": "owed", "cause": "reload retry", "why": "its reload failed: the command failed with 7",
        "reload": command, "since": NOW - 75, "error": error, "next_at": NOW + 12,
    }  # fmt: skip
    return resource(name, **{**given, **more})


def failed(name="nginx", **more):
    error = {"error": "no such key", "template": "nginx.j2", "line": 12, "key": "/web/port", "resource": name}
    return resource(name, **{"state": "failed", "cause": "backoff", "why": "no such key", "error": error, **more})


def store(**more):
    given = {
        "nodes": ("http://10.0.0.1:2379",), "is_up": True, "revision": 418, "answered_at": NOW - 2, "stream": "open",
        "period": 60.0,
    }  # fmt: skip
    return StoreStatus("etcdv3", **{**given, **more})


def reload_of(one, **more):
    given = {
        "since": one.since,
        "attempts": 2,
        "waits_for": "it has failed 2 times",
        "cause": one.cause,
        "error": one.error,
    }
    return ReloadStatus(one.reload, (one.name,), **{**given, "next_at": NOW + 12, **more})


def status(*resources, stores=None, reloads=None, **more):
    found = tuple(map(reload_of, (one for one in resources if one.reload))) if reloads is None else reloads
    given = {
        "version": "1.2.3", "pid": 4711, "confdir": "/etc/confpy", "backend": "etcdv3", "mode": "watch",
        "since": NOW - 90_000, "now": NOW, "is_started": True, "totals": Totals(5, 3, 2, 9),
    }  # fmt: skip
    stores = (store(),) if stores is None else stores
    return Status(resources=resources, stores=stores, reloads=found, **{**given, **more})
