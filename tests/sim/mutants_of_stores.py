# ruff: noqa: ARG005 - they take what the real ones take
"""Planted bugs, as in ``mutants``, that need several stores, or resources with one file per key."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from confpy.agent.fallback import Fallback
from confpy.agent.items import Items
from confpy.agent.suspect_keys import SuspectKeys
from confpy.delivery import member as members
from confpy.delivery.batch import Batch
from confpy.ledger.book import Book
from confpy.mirror.mirrors import Mirrors
from confpy.stores.mounted import MountedStore
from tests.sim.mutants import FIRST_SEEDS, MUTANTS, Mutant, mutant, patched
from tests.sim.plan import ITEMS, MOUNTS

__all__ = ["FIRST_SEEDS", "MUTANTS"]


def found_from(seed: int) -> Callable[[Mutant], Mutant]:
    """Return a decorator for what is found from this seed on."""

    def note(change: Mutant) -> Mutant:
        FIRST_SEEDS[change.__name__.replace("_", " ")] = seed
        return mutant(change)

    return note


@found_from(MOUNTS)
def one_store_that_is_away_holds_up_all():
    ready = Mirrors.ready

    def all_ready(self, prefixes):
        return ready(self, prefixes) and all(one.ready(tuple(one._wants.readers)) for one in self._all)

    with patched(Mirrors, "ready", all_ready):
        yield


@found_from(MOUNTS)
def cached_keys_replace_those_of_all_stores():
    with patched(Fallback, "_cached", lambda self, source: source._replace(tree=self._trees[source.mount])):
        yield


@found_from(MOUNTS)
def keys_below_a_mount_are_those_of_both_stores():
    with patched(MountedStore, "_is_hidden", lambda self, outer: False):
        yield


@found_from(MOUNTS)
def only_the_first_store_is_asked_again():
    with patched(Mirrors, "wake_at", lambda self: self._main.wake_at()):
        yield


@found_from(MOUNTS)
def the_answer_of_one_store_is_taken_for_that_of_another():
    init = Mirrors.__init__

    def apart(self, mirrors):
        init(self, mirrors)
        for one in self._all:
            one._numbers = count(1)
            one._streams._numbers = one._resync._numbers = one._numbers

    with patched(Mirrors, "__init__", apart):
        yield


@found_from(ITEMS)
def a_file_whose_key_is_gone_is_removed_whoever_has_changed_it():
    with patched(members, "why_it_stays", lambda owned, current, digest, *, link: ""):
        yield


@found_from(ITEMS)
def a_loss_of_all_items_is_believed_at_once():
    admits = SuspectKeys.admits

    def trusting(self, state):
        return state.matches is not None or admits(self, state)

    with patched(SuspectKeys, "admits", trusting):
        yield


@found_from(ITEMS)
def a_restart_forgets_which_files_were_made_of_items():
    with patched(Book, "owned_in", lambda self, root: ()):
        yield


@found_from(ITEMS)
def a_bad_item_stops_the_others():
    def reject_all(self, halving):
        for group in halving.groups:
            group.reject(*halving.failure)

    with patched(Batch, "_find_bad", reject_all):
        yield


@found_from(ITEMS)
def what_the_old_pattern_has_made_stays():
    with patched(Items, "_drop_orphans", lambda self, plan, items: None):
        yield
