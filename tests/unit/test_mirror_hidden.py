"""Stores that hide keys below a prefix: what is hidden is read and followed beside the prefix."""

from __future__ import annotations

from random import Random

from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.messages import Changed, Listed, Opened, Read, Watch
from confpy.mirror.mirror import Mirror
from confpy.stores.etcd.v2_wire import lists

HIDDEN = "/a/_h"


def following(*, later: bool = False) -> tuple[Mirror, Watch]:
    """Return a mirror of a prefix and of what is hidden below it, which stands at 10, and its stream."""
    mirror = Mirror(Random(1), follows=True, period=60.0, lists=lists)
    wide = {"wide": ("/a",), "narrow": ("/a/b",)}
    (read,) = mirror.want(wide if later else {**wide, "hidden": (HIDDEN,)}).actions
    assert isinstance(read, Read)
    listings = {HIDDEN: Listing(10, {"/a/_h/x": "hidden"}), "/a": Listing(10, {"/a/b/x": "seen"})}
    snapshot = Snapshot({prefix: listings[prefix] for prefix in reversed(read.prefixes)}, "a")
    assert set(snapshot.listings) == ({"/a"} if later else {"/a", HIDDEN})
    (watch,) = mirror.step(Listed(read.read, snapshot), 0.0).actions
    assert isinstance(watch, Watch)
    mirror.step(Opened(watch.stream), 0.0)
    return mirror, watch


def keys(mirror: Mirror) -> dict[str, str]:
    return dict(mirror.tree.items("/"))


def test_what_is_hidden_is_read_and_followed_beside_what_lies_above_it():
    mirror, watch = following()
    assert watch.cursors == {"/a": 10, HIDDEN: 10}
    assert keys(mirror) == {"/a/_h/x": "hidden", "/a/b/x": "seen"}


def test_what_is_hidden_is_not_there_before_it_was_read_itself():
    mirror, _ = following(later=True)
    assert mirror.ready(("/a",))
    assert not mirror.ready((HIDDEN,))
    (read,) = mirror.want({"wide": ("/a",), "hidden": (HIDDEN,)}).actions
    assert isinstance(read, Read)
    assert read.prefixes == (HIDDEN,)


def test_a_new_answer_for_the_wide_prefix_leaves_what_is_hidden():
    mirror, watch = following()
    mirror.step(Changed(watch.stream, Changes("/a", 30, {})), 0.0)
    mirror.want({"more": ("/a", "/other"), "hidden": (HIDDEN,)})
    snapshot = Snapshot({"/a": Listing(40, {"/a/c": "new"}), "/other": Listing(40)}, "a")
    turn = mirror.step(Listed(3, snapshot), 0.0)
    assert turn.changed == {"/a/b/x", "/a/c"}
    assert keys(mirror) == {"/a/_h/x": "hidden", "/a/c": "new"}


def test_each_moves_on_by_its_own_watch():
    mirror, watch = following()
    mirror.step(Changed(watch.stream, Changes("/a", 30, {"/a/b/x": (30, "newer")})), 0.0)
    assert mirror.revision((HIDDEN,)) == 10
    turn = mirror.step(Changed(watch.stream, Changes(HIDDEN, 20, {"/a/_h/x": (20, "new")})), 0.0)
    assert turn.changed == {"/a/_h/x"}
    assert mirror.revision(("/a/b",)) == 30


def test_a_folder_that_went_takes_what_is_hidden_in_it_but_not_what_came_after():
    mirror, watch = following()
    gone = Changes("/a", 20, {}, deleted={"/a": 20})
    assert mirror.step(Changed(watch.stream, gone), 0.0).changed == {"/a/_h/x", "/a/b/x"}
    mirror, watch = following()
    mirror.step(Changed(watch.stream, Changes(HIDDEN, 25, {"/a/_h/x": (25, "again")})), 0.0)
    assert mirror.step(Changed(watch.stream, gone), 0.0).changed == {"/a/b/x"}
    assert keys(mirror) == {"/a/_h/x": "again"}


def test_what_is_hidden_goes_when_nobody_wants_it_any_more():
    mirror, _ = following()
    mirror.want({"wide": ("/a",)})
    assert keys(mirror) == {"/a/b/x": "seen"}
