# ruff: noqa: ARG005 - they take what the real ones take
"""Bugs as people make them, planted one at a time: a simulator that does not find them would find nothing.

They patch methods by name. A refactoring that renames one of them breaks its mutant, loudly: adapt it then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias
from unittest import mock

from confpy.agent.agent import Agent
from confpy.agent.batches import Batches
from confpy.agent.deliveries import Deliveries
from confpy.agent.pending import Pending
from confpy.agent.rejections import Rejections
from confpy.agent.reloads import PendingReloads
from confpy.agent.resources import Resources
from confpy.agent.status import _Snapshot
from confpy.agent.undone import Undone
from confpy.clock import NEVER
from confpy.delivery import group as groups
from confpy.delivery.batch import Batch
from confpy.delivery.context import Context
from confpy.delivery.group import GroupDelivery
from confpy.frozen import replace
from confpy.ledger import holds
from confpy.ledger.book import Book
from confpy.ledger.holds import Holds
from confpy.ledger.restart import Restart
from confpy.messages import ClearPending, Watch
from confpy.mirror.reading import Reading
from confpy.mirror.streams import Streams
from confpy.reload import runtime
from confpy.reload.running import Answering
from confpy.system import filenames
from confpy.target.stamps import Stamps
from tests.sim.plan import HAPROXY, UNDOES

Mutant: TypeAlias = Callable[[], Iterator[None]]
MUTANTS: dict[str, Callable[[], object]] = {}
FIRST_SEEDS: dict[str, int] = {}
"""Where those are found that need what not every run has: people who undo, a HAProxy."""


def mutant(change: Mutant) -> Mutant:
    MUTANTS[change.__name__.replace("_", " ")] = contextmanager(change)
    return change


def of_undoes(change: Mutant) -> Mutant:
    FIRST_SEEDS[change.__name__.replace("_", " ")] = UNDOES
    return mutant(change)


def of_haproxy(change: Mutant) -> Mutant:
    FIRST_SEEDS[change.__name__.replace("_", " ")] = HAPROXY
    return mutant(change)


def patched(owner: type | object, name: str, other: object) -> object:
    return mock.patch.object(owner, name, other)


@mutant
def the_debt_is_written_after_the_rename():
    record, put = Batch._record, GroupDelivery._put
    late = []

    def later(self, ready, all_groups):
        late[:] = [(self, ready, all_groups)]

    def put_first(self, member):
        put(self, member)
        if late:
            record(*late.pop())

    with patched(Batch, "_record", later), patched(GroupDelivery, "_put", put_first):
        yield


@mutant
def a_watch_is_resumed_from_the_newest_revision_of_another():
    watch = Streams.open

    def newest(self, turn, identity):
        watch(self, turn, identity)
        for at, action in enumerate(turn.actions):
            if isinstance(action, Watch):
                turn.actions[at] = replace(action, cursors=dict.fromkeys(action.cursors, self._copy.positions.newest))

    with patched(Streams, "open", newest):
        yield


@mutant
def no_folder_is_synced():
    with patched(Context, "sync_folders", lambda self, folders: {}):
        yield


@mutant
def an_older_read_rolls_the_tree_back():
    with patched(Reading, "keep", lambda self, changes: None):
        yield


@mutant
def what_changes_during_a_delivery_is_not_dirty():
    succeed = Deliveries._succeed

    def forgetful(self, state, report, candidate):
        succeed(self, state, report, candidate)
        state.dirty = False
        self._resources._dirty.pop(state.order, None)

    with patched(Deliveries, "_succeed", forgetful):
        yield


@mutant
def a_sweep_removes_backups():
    wide = re.compile(r"\.(.+)\.confpy-(?:[0-9a-f]{8}(?:\.old)?|backup-[0-9]+)", re.DOTALL)
    with patched(filenames, "_STAGE_NAME", wide):
        yield


@mutant
def the_old_file_goes_before_its_group_is_whole():
    put = GroupDelivery._put

    def hasty(self, member):
        put(self, member)
        if member.old:
            self._context.disk.discard(member.old)

    with patched(GroupDelivery, "_put", hasty):
        yield


@mutant
def a_candidate_takes_its_place_before_it_is_synced():
    with patched(Batch, "_sync", lambda self, groups: groups):
        yield


@mutant
def the_guard_forgets_across_a_restart():
    take_over = Agent._take_over
    with patched(Agent, "_take_over", lambda self, recovered: take_over(self, replace(recovered, counts={}))):
        yield


@mutant
def only_the_first_of_a_group_is_checked():
    check = GroupDelivery.check

    def first(self, ran):
        whole = self.members
        self.members = whole[:1]
        try:
            return check(self, ran)
        finally:
            self.members = whole

    with patched(GroupDelivery, "check", first):
        yield


@mutant
def a_reload_pays_for_what_came_after_it_began():
    owe = PendingReloads.owe

    def too_late(self, commit, now):
        owe(self, commit, now)
        for pending in self._pending.values():
            if pending.in_flight:
                pending.in_flight |= pending.owed
                pending.records_in_flight |= pending.records
                pending.owed, pending.records = {}, set()

    with patched(PendingReloads, "owe", too_late):
        yield


@mutant
def nobody_asks_what_the_dead_still_owe():
    with patched(Book, "owed", lambda self: ()):
        yield


@mutant
def a_restart_forgets_how_often_a_reload_has_failed():
    with patched(PendingReloads, "take_over", lambda self, runs, now, wall: ()):
        yield


@mutant
def what_a_reload_refused_is_tried_again_by_the_next_start():
    with patched(Rejections, "take_over", lambda self, found, in_place, now, wall: None):
        yield


@mutant
def what_a_reload_refused_is_tried_again_at_once():
    with patched(Rejections, "until", lambda self, candidates, others, now: None):
        yield


@mutant
def a_file_is_overwritten_without_a_copy():
    with patched(GroupDelivery, "_record_in_place", lambda self, member: None):
        yield


@mutant
def a_program_may_read_what_is_on_trial():
    with patched(Batches, "swapped_unchecked", lambda self: set()):
        yield


@mutant
def only_the_newest_commit_of_a_resource_is_paid():
    take = PendingReloads.take

    def newest(self, reloaded, now):
        for action in take(self, reloaded, now):
            yield replace(action, records=action.records[-1:]) if isinstance(action, ClearPending) else action

    with patched(PendingReloads, "take", newest):
        yield


@mutant
def a_trial_that_was_cut_off_stays():
    with patched(Restart, "settle", lambda self, book, paths: []):
        yield


@mutant
def a_failed_rename_leaves_its_group_as_it_is():
    # Not in ``undo`` alone: what that leaves, the end of its slice puts back.
    with patched(GroupDelivery, "put_back", lambda self: ""):
        yield


@mutant
def whoever_waits_for_a_command_is_not_woken():
    with patched(Batches, "take_freed", lambda self: []):
        yield


@mutant
def whoever_waits_for_a_moment_is_not_woken_by_a_change():
    mark = Resources.mark

    def quiet(self, state, trigger=""):
        waits = self.queue.wait_of(state.group)
        mark(self, state, trigger)
        if waits is not None and waits.until < NEVER:
            self.queue.wait(state.group, waits)

    with patched(Resources, "mark", quiet):
        yield


@mutant
def those_that_share_a_check_are_tried_one_by_one():
    with patched(groups, "checks_in_place", lambda resources: ()):
        yield


@mutant
def those_that_were_refused_apart_are_tried_again_apart():
    with patched(Deliveries, "_try_again_together", lambda self, failed: None):
        yield


@mutant
def one_that_was_refused_together_with_others_stays_in_place():
    take_back = Batch._take_back

    def forgetful(self, group, failure):
        for member in group.members:
            member.status = None
        return take_back(self, group, failure)

    with patched(Batch, "_take_back", forgetful):
        yield


@mutant
def a_target_is_taken_to_be_as_it_was_without_a_look():
    def believe(self, path, _status, digest):
        known = self._known.get(path) or self._loaded.get(path, b"")
        return known.endswith(self._sealed(digest))

    with patched(Stamps, "recognise", believe):
        yield


@mutant
def the_status_knows_nothing_of_owed_reloads():
    with patched(_Snapshot, "_describe_reloads", lambda self: iter(())):
        yield


@mutant
def one_that_is_denied_during_its_first_delivery_has_never_started():
    land = Resources.land

    def half(self, state):
        is_first = state.name in self.first_deliveries
        land(self, state)
        if is_first and state.tried:
            self.first_deliveries.add(state.name)

    with patched(Resources, "land", half):
        yield


@mutant
def a_failure_that_was_left_so_is_shown_for_ever():
    take = Deliveries.take_reload

    def forgetful(self, reloaded):
        self._unread.clear()
        take(self, reloaded)

    with patched(Deliveries, "take_reload", forgetful):
        yield


@of_undoes
def what_was_undone_is_overwritten_by_the_next_change():
    with patched(Undone, "holds", lambda self, states: False):
        yield


@of_undoes
def a_restart_forgets_what_was_undone():
    with patched(Holds, "undone", lambda self: {}):
        yield


@of_undoes
def nobody_looks_whether_what_was_undone_is_accepted():
    with patched(Undone, "take_acceptance", lambda self, accepted: None):
        yield


@of_undoes
def suspect_keys_end_what_was_undone():
    hold = Holds.hold

    def rash(self, resource, reason):
        with patched(holds, "_is_undone", lambda record: False):
            return hold(self, resource, reason)

    with patched(Holds, "hold", rash):
        yield


@of_haproxy
def what_a_running_program_was_told_is_paid_before_it_is_verified():
    with patched(Answering, "verify", lambda self, difference: None):
        yield


@of_haproxy
def a_plan_is_made_against_what_the_worker_has_not_read():
    def believe(worker, files, statuses, ports, before):
        return runtime._taken(worker, files, ports)

    with patched(runtime, "_adopted", believe):
        yield


@of_haproxy
def a_plan_overtakes_the_reload_that_is_under_way():
    with patched(runtime, "reload", lambda spec, act, dests, ports: (act(), None)):
        yield


@of_haproxy
def the_answer_of_an_old_worker_is_believed():
    await_worker = runtime._await_worker

    def hasty(socket, ports, began, serving):
        return await_worker(socket, ports, -NEVER, None)

    with patched(runtime, "_await_worker", hasty):
        yield


@of_haproxy
def a_program_is_told_although_its_last_reload_has_failed():
    with patched(Pending, "note_failure", lambda self: None):
        yield
