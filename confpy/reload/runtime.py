"""The running HAProxy follows its files: a plan is made, applied over the admin socket, and verified.

Whatever is in doubt is a ``ReloadNeeded``: the ordinary reload, which reads the files, is always right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from confpy.frozen import replace
from confpy.haproxy.compare import compare, whole
from confpy.haproxy.steps import left_over, steps
from confpy.haproxy.values import Avoided, Difference, Files, Left, ReloadNeeded
from confpy.reload.running import GRAIN, Answering
from confpy.reload.runtime_ports import Doubt, RuntimePorts
from confpy.reload.taken import Taken, Worker, digest

if TYPE_CHECKING:
    import os

    from confpy.reload.spec import ReloadResult, ReloadSpec

USER = re.compile(rb"^[ \t]*(?:user|uid)[ \t]+([A-Za-z0-9_.-]+)[ \t\r]*$", re.MULTILINE)
"""The lines of HAProxy's `global` that name its user; those of a list of users have a password behind the name."""
LONGEST = 10.0
"""Seconds for all that is done at one socket, waits for connections that end included: a reload takes less."""
SETTLED = 1.0
"""Seconds that a file has to be older than a worker for that to have read it: clocks are coarse."""
QUIET = 2.0
"""Seconds after a successful reload in which the new worker has to answer on its socket."""
FINE = 0.005
"""Seconds by which a worker may seem to be older than the reload that has started it, besides what its answer took."""
PAUSE = 0.02
"""Seconds between two looks for it."""
UNKNOWN = "what this HAProxy has read is not known: it is, after this reload"


def follow(spec: ReloadSpec, dests: Sequence[str], ports: RuntimePorts) -> Avoided | ReloadNeeded:
    """Make the running HAProxys do what their files say, and verify it. Raises nothing for what fails.

    ``dests``: the targets of all resources that share the sockets of ``spec``.
    """
    return _each(spec, dests, ports, _follow)


def look(spec: ReloadSpec, dests: Sequence[str], ports: RuntimePorts) -> Avoided | ReloadNeeded:
    """Compare the running HAProxys with files of which no reload is owed, and repair what differs.

    One that cannot be asked, or of which it is not known what it has read, is left as it is.
    """
    return _each(spec, dests, ports, _look)


def reload(
    spec: ReloadSpec, act: Callable[[], ReloadResult], dests: Sequence[str], ports: RuntimePorts
) -> tuple[ReloadResult, Avoided | ReloadNeeded | None]:
    """Reload by ``act``; note what the new workers have read, and repair what they do not have of it.

    Returns how the reload ended, and what was repaired, or that it could not be: then a reload is needed again. None:
    no worker can be asked.
    """
    assert spec.runtime is not None
    before = _read(dests, ports)
    serving = {socket: _serving(socket, ports) for socket in spec.runtime.sockets}
    began = ports.seconds()
    for socket in spec.runtime.sockets:
        ports.taken.forget(socket)  # a worker may take over, whether this succeeds, fails, or is cut off
    result = act()
    if result.error is not None:
        return result, None  # what the worker has read is not known if it is another than the one that is recorded
    files, statuses = before
    read = files if _stamps(_read(dests, ports)[1]) == _stamps(statuses) else None
    with ports.locked(spec.runtime.sockets, LONGEST):
        found = [_reloaded(socket, read, ports, began, serving[socket]) for socket in spec.runtime.sockets]
    needed = next((one for one in found if isinstance(one, ReloadNeeded)), None)
    return result, needed or _together([one for one in found if isinstance(one, Avoided)])


def _each(
    spec: ReloadSpec,
    dests: Sequence[str],
    ports: RuntimePorts,
    do: Callable[[str, Files, Mapping[str, os.stat_result], RuntimePorts, float], Avoided | ReloadNeeded],
) -> Avoided | ReloadNeeded:
    assert spec.runtime is not None
    sockets = spec.runtime.sockets
    seconds = min(spec.timeout, LONGEST)
    done: list[Avoided] = []
    with ports.locked(sockets, seconds) as free:
        for socket in sockets:
            if socket not in free:
                return ReloadNeeded(f"another confpy uses the admin socket {socket}")
            try:
                files, statuses = _read(dests, ports)
                one = do(socket, files, statuses, ports, seconds)
            except Doubt as doubt:
                return doubt.needed()
            except OSError as error:
                return _unreachable(socket, error)
            if isinstance(one, ReloadNeeded):
                return one
            done.append(one)
    return _together(done) or Avoided("")


def _together(done: Sequence[Avoided]) -> Avoided | None:
    """Return what was done to several processes of one configuration as one."""
    if not done:
        return None
    plan = next((one.plan for one in done if one.plan), "")
    left = tuple(dict.fromkeys(it for one in done for it in one.left))
    return Avoided(plan, left, tuple(dict.fromkeys(it for one in done for it in one.by_hand)))


def _unreachable(socket: str, error: OSError) -> ReloadNeeded:
    if isinstance(error, TimeoutError):
        return ReloadNeeded(f"the admin socket {socket} gave no answer in time")
    reason = error.strerror or str(error) or type(error).__name__
    hints = {
        FileNotFoundError: "is there a `stats socket` of this name in global?",
        PermissionError: "let confpy's user write to it: `stats socket … user confpy mode 600 level admin`",
        ConnectionRefusedError: "is HAProxy running?",
    }
    hint = next((hint for kind, hint in hints.items() if isinstance(error, kind)), "")
    return ReloadNeeded(f"the admin socket {socket} cannot be used: {reason}" + (f" ({hint})" if hint else ""))


def _read(dests: Sequence[str], ports: RuntimePorts) -> tuple[Files, Mapping[str, os.stat_result]]:
    """Return the contents of those targets that are there, and what they were before they were read."""
    files: dict[str, bytes] = {}
    statuses: dict[str, os.stat_result] = {}
    for dest in dests:
        try:
            files[dest], statuses[dest] = ports.disk.read_version(ports.disk.resolve(dest))
        except FileNotFoundError:
            continue
    return files, statuses


def _stamps(statuses: Mapping[str, os.stat_result]) -> dict[str, tuple[int, ...]]:
    """Return what another version of a file does not share."""
    return {
        path: (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in statuses.items()
    }


# --- one socket ------------------------------------------------------------------------------------------------------


def _follow(
    socket: str, files: Files, statuses: Mapping[str, os.stat_result], ports: RuntimePorts, seconds: float
) -> Avoided | ReloadNeeded:
    answering = Answering(socket, ports, seconds)
    taken = ports.taken.get(socket)
    if taken is None or not answering.is_same(taken.worker):
        # Without an earlier record, the clock may have been set since the files were written.
        taken = _adopted(answering.worker, files, statuses, ports, taken) if taken is not None else None
        if taken is None:
            return ReloadNeeded(UNKNOWN)
        ports.taken.put(socket, taken)
    old = _contents(taken.digests, taken.files, files)
    difference = compare(old, files, *([{**old, **taken.begun}] if taken.begun else ()))
    return difference if isinstance(difference, ReloadNeeded) else _change(answering, taken, files, difference, ports)


def _look(
    socket: str, files: Files, statuses: Mapping[str, os.stat_result], ports: RuntimePorts, seconds: float
) -> Avoided | ReloadNeeded:
    try:
        answering = Answering(socket, ports, seconds)
    except (OSError, Doubt):
        return Avoided("")
    before = ports.taken.get(socket)
    taken = before if before is not None and answering.is_same(before.worker) else None
    if taken is None:
        taken = _adopted(answering.worker, files, statuses, ports, before)
        if taken is None:
            # A change may have gone to the worker before it, while this one had read the files already.
            return Avoided("") if before is None else ReloadNeeded("HAProxy was reloaded while its files changed")
        ports.taken.put(socket, taken)
    elif taken.digests != {path: digest(content) for path, content in files.items()}:
        return Avoided("")  # one has been committed meanwhile: it is compared with what the worker has, and then told
    elif socket in ports.taken.compared:
        return _try_again(answering, taken, files, ports)
    ports.taken.compared.add(socket)
    difference = whole(files)
    return Avoided("") if isinstance(difference, ReloadNeeded) else _change(answering, taken, files, difference, ports)


def _try_again(answering: Answering, taken: Taken, files: Files, ports: RuntimePorts) -> Avoided | ReloadNeeded:
    """Remove what stays in maintenance, where its connections have ended."""
    if not taken.left or taken.begun or not answering.process.has_dynamic_servers:
        return Avoided("")
    difference = left_over(taken.left)
    return _change(answering, taken, files, difference, ports)


def _change(
    answering: Answering, taken: Taken, files: Files, difference: Difference, ports: RuntimePorts
) -> Avoided | ReloadNeeded:
    """Change a worker as a difference asks, verify that, and note that it has these files now."""
    socket = answering.socket
    plan = steps(difference, answering.running(difference), answering.process, taken.left)
    if isinstance(plan, ReloadNeeded):
        return plan
    left = {one.path: one for one in taken.left if not _is_touched(one, difference)}
    if plan.commands:
        # Whatever of it is done when confpy is killed: the next plan is made against this one, too.
        differs = {path: content for path, content in files.items() if taken.digests.get(path) != digest(content)}
        begun = replace(taken, worker=answering.worker, begun={**taken.begun, **differs})
        ports.taken.put(socket, begun)
        left |= {one.path: one for one in answering.apply(plan, users_of(files))}
    answering.verify(difference)
    ports.taken.put(socket, _taken(answering.worker, files, ports, tuple(left.values())))
    return Avoided(plan.summary, tuple(left), plan.by_hand)


def _is_touched(left: Left, difference: Difference) -> bool:
    """Return whether what remains of a removed server is decided anew."""
    backend = next((one for one in difference.backends if one.name == left.backend), None)
    if backend is None or backend.is_complete:
        return backend is not None
    return any(left.name == one.name for change in backend.changes for one in (change.server, *change.previous) if one)


def _serving(socket: str, ports: RuntimePorts) -> Worker | None:
    """Return the worker that answers now, before a reload; None: none does soon."""
    try:
        return Answering(socket, ports, QUIET).worker
    except (Doubt, OSError):
        return None


def _reloaded(
    socket: str, files: Files | None, ports: RuntimePorts, began: float, serving: Worker | None
) -> Avoided | ReloadNeeded | None:
    """Note what the new worker of a socket has read, and repair what it lacks; None if it cannot be asked.

    ``files``: None if they have changed while it read them. ``serving``: the worker before it.
    """
    answering = _await_worker(socket, ports, began, serving)
    if answering is None or files is None:
        ports.taken.forget(socket)
        return None
    taken = _taken(answering.worker, files, ports)
    ports.taken.put(socket, taken)
    ports.taken.compared.add(socket)
    difference = whole(files)
    if isinstance(difference, ReloadNeeded):
        return None
    try:
        plan = steps(difference, answering.running(difference), answering.process)
    except (Doubt, OSError):
        return None
    if isinstance(plan, ReloadNeeded):
        return None  # another reload would end the same
    try:
        return _change(answering, taken, files, difference, ports)
    except Doubt as doubt:
        return doubt.needed()
    except OSError as error:
        return _unreachable(socket, error)


def _await_worker(socket: str, ports: RuntimePorts, began: float, serving: Worker | None) -> Answering | None:
    """Return the worker that was started by a reload that began at this time; None if none answers soon.

    That is another than the one that was serving, and none that an earlier reload has started and that is slow to take
    over.
    """
    until = ports.seconds() + QUIET
    while True:
        try:
            answering = Answering(socket, ports, LONGEST)
        except TimeoutError:
            return None  # it hangs
        except (Doubt, OSError):
            pass
        else:
            is_old = serving is not None and answering.is_same(serving)
            # One that a reload has started which was killed just before this one is older by little.
            if not is_old and answering.worker.start >= began - (answering.worker.slack - GRAIN + FINE):
                return answering
        if ports.seconds() >= until:
            return None
        ports.sleep(PAUSE)


# --- what is known ---------------------------------------------------------------------------------------------------


def _taken(worker: Worker, files: Files, ports: RuntimePorts, left: tuple[Left, ...] = ()) -> Taken:
    digests = {path: digest(content) for path, content in files.items()}
    return Taken(worker, digests, files, offset=ports.wall() - ports.seconds(), left=left)


def _adopted(
    worker: Worker, files: Files, statuses: Mapping[str, os.stat_result], ports: RuntimePorts, before: Taken | None
) -> Taken | None:
    """Return what a worker of unknown origin has read: the files, if none of them has changed since it was started."""
    offset = ports.wall() - ports.seconds()
    started = worker.start + offset
    if before is not None and abs(before.offset - offset) > SETTLED:
        return None  # somebody has set the clock: the times of files cannot be compared with it
    if any(status.st_ctime > started - SETTLED - worker.slack for status in statuses.values()):
        return None
    return _taken(worker, files, ports)


def _contents(digests: Mapping[str, str], kept: Mapping[str, bytes], files: Files) -> dict[str, bytes]:
    """Return the contents of these digests; of one that is not kept, the present content if it is the same, or none."""
    found = {}
    for path, of in digests.items():
        now = files.get(path)
        found[path] = now if now is not None and digest(now) == of else kept.get(path, b"")
    return found


def users_of(files: Files) -> frozenset[int]:
    """Return the users as which HAProxy may run: that of its configuration, and that of its packages."""
    from pwd import getpwnam

    names = {b"haproxy", *(match[1] for content in files.values() for match in USER.finditer(content))}
    found = set()
    for name in names:
        if name.isdigit():
            found.add(int(name))
            continue
        with suppress(KeyError):
            found.add(getpwnam(name.decode("ascii")).pw_uid)
    return frozenset(found)
