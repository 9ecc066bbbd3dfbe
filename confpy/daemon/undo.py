"""Undo where no confpy runs: by this process, alone with the state folder, with the jobs of the daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from confpy.agent.history import entry_of
from confpy.agent.undone import reason_of, undo_candidate
from confpy.candidates import Group, Report
from confpy.config.for_each import items_called
from confpy.config.load import load_resources
from confpy.config.resource import Resource
from confpy.config.settings import SECRET_VARIABLES, Settings
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.errors import ConfpyError, ReloadError, UsageError
from confpy.events import LogEvent
from confpy.history.records import ReloadEnd
from confpy.ledger.expiry import InUse
from confpy.ledger.folder import StateFolder
from confpy.ledger.history import History
from confpy.ledger.holds import Holds
from confpy.ledger.ledger import Ledger
from confpy.ledger.undo import find
from confpy.messages import Recovered
from confpy.reload.run import reload
from confpy.reload.spec import ReloadSpec
from confpy.stores.tree import open_stores
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell

Log = Callable[[LogEvent], None]


def undo(settings: Settings, target: str, log: Log) -> tuple[str, ...]:
    """Put back the file before the last delivery of a target, and hold its resource; returns what has changed.

    Raises ``ConfpyError``: what could not be put back is as it was; a reload that failed is owed.
    """
    disk, folder = Disk(), StateFolder.of(settings, log)
    group, resource = _find_group(settings, target)
    with _alone(folder, settings, disk):
        ledger = Ledger.open(
            folder.path,
            disk,
            nullcontext(),
            backend=settings.backend,
            root=os.path.abspath(settings.root) if settings.root else "",
        )
        if ledger.warning is not None:
            raise UsageError(ledger.warning.message, hint="run it as the user that confpy runs as", folder=folder.path)
        ledger.history = History(ledger.folder, disk, most=settings.history, guard=nullcontext(), log=log)
        try:
            return _Undo(settings, ledger, folder, disk, log).run(resource, group)
        finally:
            ledger.close()


class _Undo:
    """One undo."""

    def __init__(self, settings: Settings, ledger: Ledger, folder: StateFolder, disk: Disk, log: Log) -> None:
        self._rules = Rules.of(settings)
        self._backend = settings.backend
        self._ledger = ledger
        self._holds = Holds(folder, nullcontext())
        self._disk = disk
        self._shell = Shell(hidden=SECRET_VARIABLES)
        self._log = log

    def run(self, resource: Resource, group: Sequence[Resource]) -> tuple[str, ...]:
        history = self._ledger.history
        assert history is not None
        recovered = self._ledger.recover()
        for note in recovered.notes:
            self._log(note)
        held = self._holds.undone()
        try:
            previous, undoes = find(history, resource, group, self._disk, self._rules.root)
        except OSError as error:
            raise UsageError(f"the history cannot be read: {error.strerror}", target=resource.dest) from error
        if not self._holds.hold_undone([one.name for one in group], reason_of(resource)):
            raise UsageError("that it is held cannot be saved in the state folder", target=resource.dest)
        owned = {one.dest: one for one in recovered.owned}
        candidates = [
            undo_candidate(one, previous[one.name], self._keys(recovered, one), b"", owned.get(one.dest))
            for one in group
        ]
        name, is_lone = resource.group or resource.dest, not resource.group
        one = Group(name, tuple(candidates), is_lone)
        reports = deliver((one,), self._rules, self._disk, self._shell, self._ledger)
        if (refused := next((report.error for report in reports if report.error is not None), None)) is not None:
            for other in group:
                if other.name not in held:
                    self._holds.release(other.name)
            raise refused
        wall = time.time()
        changed = [(report, it) for report, it in zip(reports, candidates, strict=True) if report.outcome == "changed"]
        reloads = not (self._rules.sync_only or self._rules.no_reload)
        delivery = f"{int(wall * 1000):x}-undo"
        checks = not self._rules.sync_only
        place = wall, delivery, one.id
        history.write(
            entry_of(place, it, report, (), checks=checks, reloads=reloads, undoes=undoes) for report, it in changed
        )
        if reloads:
            self._reload([(it.resource, report) for report, it in changed], delivery, history)
        return tuple(it.resource.name for _, it in changed)

    def _keys(self, recovered: Recovered, resource: Resource) -> int:
        """Return how many keys a resource had: what is vanished is measured by that, and an undo changes nothing."""
        counts = [one for one in recovered.counts.get(resource.name, ()) if one.backend in {"", self._backend}]
        return counts[-1].keys if counts else 0

    def _reload(self, changed: Sequence[tuple[Resource, Report]], delivery: str, history: History) -> None:
        """Reload what has changed; raises ``ReloadError`` for the first that fails, after all were run."""
        specs: dict[str, ReloadSpec] = {}
        owing: dict[str, list[tuple[Resource, Report]]] = {}
        for resource, report in changed:
            if (spec := resource.reload_spec) is not None:
                specs[spec.key] = spec
                owing.setdefault(spec.key, []).append((resource, report))
        errors: list[ConfpyError] = []
        for key, spec in specs.items():
            dests = "\n".join(resource.dest for resource, _ in owing[key])
            names = "\n".join(resource.name for resource, _ in owing[key])
            began = time.monotonic()
            error: ConfpyError | None
            try:
                environment = {"CONFPY_RESOURCE": names, "CONFPY_DEST": dests, "CONFPY_SRC": dests}
                error = reload(spec, environment, self._shell).error
            except ConfpyError as failed:
                error = failed
            if error is None:
                self._ledger.clear(key, [report.record for _, report in owing[key]])
            else:
                if any(resource.sensitive for resource, _ in owing[key]):
                    error.hide_output()
                errors.append(error)
            of = tuple((delivery, resource.name) for resource, _ in owing[key])
            took = round(time.monotonic() - began, 4)
            history.write((), [ReloadEnd(of, "" if error is None else error.message, took)])
        if errors:
            failed_first = errors[0].copy(ReloadError)
            failed_first.hint = failed_first.hint or "the file is back; the reload stays owed, for the next start"
            raise failed_first


def _find_group(settings: Settings, target: str) -> tuple[tuple[Resource, ...], Resource]:
    """Return the group of a target, and its resource; raises ``UsageError``."""
    stores = open_stores(settings)
    try:
        loaded = load_resources(settings.confdir, settings, stores.prefixes, undoes=True, opens=stores.own)
    finally:
        stores.close()
    found = [one for one in loaded.resources if target in (one.name, one.dest) and one.each is None]
    found = found or [*items_called(loaded.resources, target)]
    if len(found) != 1:
        if error := loaded.errors.get(target):
            raise error
        which = "several resources have" if found else "no resource has"
        hint = "name one of them" if found else "confpy history lists all of them; is it the right -confdir?"
        raise UsageError(f"{which} the target {target}", hint=hint)
    (resource,) = found
    if not resource.group:
        return (resource,), resource
    return tuple(one for one in loaded.resources if one.group == resource.group), resource


@contextmanager
def _alone(folder: StateFolder, settings: Settings, disk: Disk) -> Iterator[None]:
    """Keep others away from the state folder; raises ``UsageError`` if one is there."""
    if disk.stat(folder.path) is None:
        raise UsageError("the history has no delivery of it", hint="is it the right -confdir?", folder=folder.path)
    in_use = InUse.enter(folder.path, os.path.realpath(settings.confdir), disk)
    if in_use is None:
        raise UsageError("the state folder cannot be used", hint="run it as the user that confpy runs as")
    try:
        if not in_use.is_alone():
            hint = "a one-shot ends soon: try again; a daemon has to be asked as its user or root"
            raise UsageError("another confpy uses the state folder, and does not answer", hint=hint)
        yield
    finally:
        with suppress(OSError):
            in_use.leave()
