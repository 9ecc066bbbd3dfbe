"""A mounted store keeps every promise of a store, below its mount; and what lies at a deeper mount is not its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import pytest

from confpy.errors import AccessDenied, StoreError
from confpy.frozen import replace
from confpy.keys.capabilities import Capabilities
from confpy.keys.snapshot import Changes, Invalidated, Listing, PrefixStatus, Snapshot
from confpy.stores.etcd.v2_wire import lists
from confpy.stores.memory import MemoryStore
from confpy.stores.mounted import MountedStore
from tests.stores.contract import WatchContract
from tests.stores.test_file import TestFileStore as _OfFiles

MOUNT = "/deep/mount"


def _cut(path: str) -> str:
    assert path == MOUNT or path.startswith(f"{MOUNT}/"), f"{path} is not below the mount"
    return path[len(MOUNT) :] or "/"


def _put(path: str) -> str:
    return MOUNT if path == "/" else MOUNT + path


class Seen:
    """What is below the mount, as if it were all: the contract is about that."""

    def __init__(self, store: MountedStore) -> None:
        self._store = store
        self.capabilities = store.capabilities
        self.close = store.close

    def prefixes(self, path: str) -> tuple[str, ...]:
        return tuple(map(_cut, self._store.prefixes(_put(path))))

    def read(self, prefixes, counted=()):
        found = self._store.read(list(map(_put, prefixes)), list(map(_put, counted)))
        listings = {_cut(prefix): self._listing(one) for prefix, one in found.listings.items()}
        return replace(found, listings=listings, counts={_cut(one): count for one, count in found.counts.items()})

    @staticmethod
    def _listing(one: Listing) -> Listing:
        return replace(one, keys={_cut(key): value for key, value in one.keys.items()})

    def poll(self, prefixes):
        found = self._store.poll(list(map(_put, prefixes)))
        if found is None:
            return None
        newest = {_cut(prefix): revision for prefix, revision in found.newest.items()}
        return replace(found, newest=newest, counts={_cut(prefix): count for prefix, count in found.counts.items()})

    def watch(self, cursors: Mapping[str, int], identity: str = ""):
        return SeenWatch(self._store.watch({_put(prefix): cursor for prefix, cursor in cursors.items()}, identity))


class SeenWatch:
    def __init__(self, stream) -> None:
        self._stream = stream
        self.close = stream.close

    def __iter__(self):
        for one in self._stream:
            if isinstance(one, Invalidated):
                yield one
            else:
                keys = {_cut(key): value for key, value in one.keys.items()}
                yield Changes(_cut(one.prefix), one.revision, keys, {_cut(key): at for key, at in one.deleted.items()})


class TestMountedMemory(WatchContract):
    @pytest.fixture(autouse=True)
    def _fresh(self):
        self.store = MemoryStore()

    def open(self):
        return Seen(MountedStore(self.store, MOUNT))

    def write(self, keys):
        self.store.update(keys)


class TestMountedFile(_OfFiles):
    def open(self):
        return Seen(MountedStore(super().open(), MOUNT))


def read(store: MountedStore, *prefixes: str) -> list[dict[str, str]]:
    listings = store.read(prefixes).listings
    return [dict(listings[prefix].keys) for prefix in prefixes]


def test_keys_below_a_deeper_mount_are_hidden_and_that_is_said_once():
    store = MountedStore(MemoryStore({"/a/x": "1", "/a/m/y": "2", "/a//m/z": "3", "/a/mm": "4"}), "", ["/a/m"])
    snapshot = store.read(["/a"])
    assert snapshot.listings["/a"].keys == {"/a/x": "1", "/a/mm": "4"}
    (note,) = snapshot.notes
    assert (note.level, note.event, note.fields["mount"]) == ("warning", "keys.hidden", "/a/m")
    assert store.read(["/a"]).notes == ()


def test_where_keys_are_hidden_only_a_read_can_tell_what_there_is():
    """The store counts them; so that a poll would always find more keys than there seem to be."""
    memory = MemoryStore({"/a/x": "1"})
    store = MountedStore(memory, "", ["/a/m"])
    store.read(["/a"])
    assert isinstance(store.poll(["/a"]), PrefixStatus)
    with closing(store.watch({"/a": memory.read(["/a"]).listings["/a"].revision})) as stream:
        revision = memory.set("/a/m/y", "2")
        assert next(iter(stream)) == Changes("/a", revision, {})
    assert store.poll(["/a"]) is None


def test_a_key_without_a_leading_slash_is_told_from_one_with_it():
    memory = MemoryStore({"a": "1", "/a": "2"})
    store = MountedStore(memory, "/m")
    assert read(store, "/m") == [{"/m/./a": "1", "/m/a": "2"}]
    assert read(store, "/m/./a", "/m/a") == [{"/m/./a": "1"}, {"/m/a": "2"}]


class Denying(MemoryStore):
    """A store that denies everything, with one error for all."""

    def read(self, prefixes, counted=()):  # noqa: ARG002
        error = AccessDenied("no", prefix="/x", key="/x/k")
        return Snapshot({prefix: Listing(0, error=error) for prefix in prefixes})

    def poll(self, prefixes):  # noqa: ARG002
        raise AccessDenied("no", prefix="/x")

    def watch(self, cursors, identity=""):  # noqa: ARG002
        raise StoreError("no", prefix="/x")


def test_errors_name_keys_by_their_paths_in_the_one_tree():
    store = MountedStore(Denying(), "/m")
    for listing in store.read(["/m/x", "/m/y"]).listings.values():
        assert listing.error.where == {"prefix": "/m/x", "key": "/m/x/k"}
        assert listing.error.prefix == "/m/x"
    with pytest.raises(AccessDenied) as caught:
        store.poll(["/m/x"])
    assert caught.value.prefix == "/m/x"
    with pytest.raises(StoreError) as lost:
        store.watch({"/m/x": 0})
    assert lost.value.where == {"prefix": "/m/x"}


class Odd(MemoryStore):
    """A store that hides keys, and spells them in small letters."""

    capabilities = Capabilities(lists=lists, spells=str.lower)


def test_what_a_store_hides_and_how_it_spells_is_so_below_its_mount():
    can = MountedStore(Odd(), "/m").capabilities
    assert can.lists("/m/a", "/m/a/b")
    assert not can.lists("/m/a", "/m/a/_b")
    assert not can.lists("/m", "/other")
    assert can.spells("/m/A") == "/m/a"
    assert can.spells("/A") == "/A"
