"""What stands in the state folder beside the ledger: delivered keys, digests of watched files, who is held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from confpy.clock import Clock
from confpy.errors import UsageError
from confpy.keys.prefixes import ancestors, covers, minimal
from confpy.ledger.folder import StateFolder, folder_name
from confpy.messages import Recalled

KEYS = "keys"
HELD = "held-"
FILES = "files"


class Kept:
    """The records of one confdir, for the threads of one confpy. What cannot be kept is told of by the folder."""

    def __init__(
        self, folder: StateFolder, clock: Clock, alone: AbstractContextManager[object], backend: str = ""
    ) -> None:
        """``alone`` keeps the threads apart; ``backend``: the kind of store that the keys come from."""
        self._folder = folder
        self._clock = clock
        self._backend = backend
        self._alone = alone
        self._unnoted: dict[str, str] = {}
        """Who is held back and could not be noted, with the reason: noted once that can be done."""

    def save(self, keys: Mapping[str, str], prefixes: Sequence[str], carried: Sequence[str] = ()) -> None:
        """Keep the keys at or below the prefixes, for a start without the store.

        What was kept at or below those that are ``carried`` stays.
        """
        with self._alone:
            before = self._recall() if carried else Recalled({})
            stays = frozenset(one for one in carried if any(covers(prefix, one) for prefix in before.prefixes))
            if stays:
                new = {key: value for key, value in keys.items() if stays.isdisjoint(ancestors(key))}
                old = {key: value for key, value in before.keys.items() if not stays.isdisjoint(ancestors(key))}
                keys, prefixes = {**new, **old}, minimal((*prefixes, *stays))
            record = {"at": self._clock.time(), "prefixes": list(prefixes), "keys": dict(keys)}
            self._folder.write(KEYS, {**record, "backend": self._backend})

    def recall(self) -> Recalled:
        """Return the keys that were kept last; none where there are none that can be used."""
        with self._alone:
            return self._recall()

    def _recall(self) -> Recalled:
        record = self._folder.read(KEYS) or {}
        match record:
            case {"keys": dict(keys), "prefixes": list(prefixes), "at": int(at) | float(at)}:
                # Another kind of store has other keys.
                if record.get("backend", self._backend) == self._backend:
                    return Recalled(keys, tuple(prefixes), max(0.0, self._clock.time() - at))
        return Recalled({})

    def save_files(self, files: Mapping[str, str]) -> None:
        """Keep what the watched files of targets held: target → digest."""
        with self._alone:
            self._folder.write(FILES, {"files": dict(files)})

    def files(self) -> Mapping[str, str]:
        """Return what was kept of them last; nothing where that is not known."""
        with self._alone:
            record = self._folder.read(FILES)
        match record:
            case {"files": dict(files)}:
                return {target: digest for target, digest in files.items() if isinstance(digest, str)}
        return {}

    def hold(self, resource: str, reason: str) -> bool:
        """Note that a resource's keys are not believed, and say whether a person accepted it since it was noted.

        Without a reason nothing is noted: it would outlive a ``release`` that was faster.
        """
        name = HELD + folder_name(resource)
        with self._alone:
            record = self._folder.read(name)
            reason = reason or self._unnoted.get(name, "")
            if reason and (record is None or record.get("reason") != reason):
                self._unnoted[name] = reason
                if self._folder.write(name, {"resource": resource, "reason": reason, "accepted": False}):
                    del self._unnoted[name]
                return False
        return record is not None and bool(record.get("accepted"))

    def release(self, resource: str) -> None:
        """Note that its keys are believed again."""
        name = HELD + folder_name(resource)
        with self._alone:
            self._unnoted.pop(name, None)
            self._folder.remove(name)


def accept(folder: StateFolder, resource: str) -> str:
    """Note that a resource's keys may be gone; returns why they were not believed. Raises ``UsageError``."""
    name = HELD + folder_name(resource)
    record = folder.read(name)
    if folder.unusable:
        raise UsageError("the state folder cannot be read", hint="run it as the user that confpy runs as")
    if record is None:
        held = ", ".join(sorted(found["resource"] for one in folder.names(HELD) if (found := folder.read(one))))
        hint = f"held back are: {held}" if held else "nothing is held back; is it the right -confdir?"
        raise UsageError(f"the resource {resource} is not held back", hint=hint)
    if not folder.write(name, {**record, "accepted": True}):
        raise UsageError("that cannot be noted in the state folder", hint="run it as the user that confpy runs as")
    return str(record["reason"])
