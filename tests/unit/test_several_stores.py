"""The agent over two stores: each is read, lost, suspected and saved by itself; a template sees the keys of both."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from confpy.agent.agent import Agent
from confpy.agent.config import AgentConfig
from confpy.config.resource import Resource
from confpy.errors import StoreError
from confpy.keys.prefixes import select
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.messages import Changed, Count, Counted, Opened, Recalled, Recovered, Save, Watch
from confpy.mirror.mirror import Mirror
from confpy.mirror.mirrors import Mirrors
from confpy.templates.results import Rendered
from tests.unit.test_agent import Harness

MOUNT = "/m"


class Several(Harness):
    """A store at ``/`` with keys below /app, another one at /m. Each may be away."""

    def __init__(self, *resources: Resource, mounted: dict[str, str] | None = None, seed: int = 1, **config) -> None:
        names = config.pop("names_deletions", True)
        remote = config.pop("remote", True)
        missing = config.pop("missing", None)
        super().__init__(*resources, seed=seed, **config)
        self.mounted = {"/m/a": "1"} if mounted is None else mounted
        self.away: set[str] = set()
        self.mounted_identity = "m"
        self.reads: list[str] = []
        self._streams: dict[str, int] = {}
        random, numbers = Random(seed), count(1)
        follows = not config.get("onetime")
        main = Mirror(random, follows=follows, period=600.0, numbers=numbers, names_deletions=names)
        other = Mirror(
            random,
            follows=follows,
            period=600.0,
            numbers=numbers,
            names_deletions=names,
            remote=remote,
            on_missing=missing,
            name="memory",
            mount=MOUNT,
        )
        config = {"mounted": {MOUNT: ("memory", ())}, **config}
        self.agent = Agent(AgentConfig(**config), Mirrors([main, other]), self, random, {})
        self._jobs._ports.mounted = {MOUNT: _Mounted(self)}

    def open(self, watch: Watch) -> None:
        self._streams[watch.store] = watch.stream
        self._stream = self._streams.get("", 0)
        self.post(Opened(watch.stream))

    def read(self, prefixes, _counted):
        return self.answer("", prefixes, self.keys, self.identity)

    def answer(self, mount, prefixes, keys, identity):
        self.reads.append(mount)
        if mount in self.away:
            raise StoreError("connection refused")
        chosen = select(prefixes, keys)
        return Snapshot({prefix: Listing(self.revision, chosen[prefix]) for prefix in prefixes}, identity)

    def _start(self, name, job, failed) -> None:
        def run():
            try:
                return job()
            except StoreError as error:
                return failed(error)

        super()._start(name, run, failed)

    def put_mounted(self, **values: str | None) -> None:
        """Change keys below /m, as a stream reports it."""
        self.revision += 1
        changed = {f"/m/{name}": (self.revision, value) for name, value in values.items()}
        for key, (_, value) in changed.items():
            self.mounted.pop(key, None)
            if value is not None:
                self.mounted[key] = value
        self.post(Changed(self._streams[MOUNT], Changes(MOUNT, self.revision, changed)))
        self.until(self.now)

    def resync(self) -> None:
        """Read all again, as another store would be found out."""
        self.revision += 1
        self.post(*self.lost_streams())
        self.until(self.now + 5)

    def lost_streams(self):
        from confpy.messages import Lost

        return [Lost(stream, StoreError("gone"), relist=True) for stream in self._streams.values()]

    def render(self, resource, view, world):  # noqa: ARG002
        pairs = sorted(view.gets("/*/*"))
        return Rendered(" ".join(f"{pair.key}={pair.value}" for pair in pairs).encode(), frozenset(), False, (), (), ())

    def text(self, name: str) -> str:
        return self.targets[name].decode() if name in self.targets else ""


class _Mounted:
    def __init__(self, harness: Several) -> None:
        self._harness = harness

    def read(self, prefixes, _counted):
        return self._harness.answer(MOUNT, prefixes, self._harness.mounted, self._harness.mounted_identity)


def resource(name: str, *prefixes: str, **more) -> Resource:
    return Resource(name, "", "t", f"/out/{name}", prefixes=prefixes or ("/app", "/m"), **more)


BOTH = "/app/a=1 /m/a=1"


def test_a_template_sees_the_keys_of_both_and_a_change_in_either_is_delivered_to_who_reads_it():
    harness = Several(resource("both"), resource("one", "/app"), resource("other", "/m"))
    harness.until(1)
    assert [harness.text(name) for name in ("both", "one", "other")] == [BOTH, "/app/a=1", "/m/a=1"]
    harness.commits.clear()
    harness.put_mounted(a="2")
    harness.until(2)
    assert {name for _, name in harness.commits} == {"both", "other"}
    assert harness.text("both") == "/app/a=1 /m/a=2"
    harness.put(a="3")
    harness.until(3)
    assert harness.text("both") == "/app/a=3 /m/a=2"


def test_a_resource_waits_for_the_first_read_of_each_store_that_it_reads_and_for_no_other():
    harness = Several(resource("both"), resource("one", "/app"))
    harness.away = {MOUNT}
    harness.until(1)
    assert (harness.text("both"), harness.text("one")) == ("", "/app/a=1")
    (lost,) = harness.events("store.lost")
    assert lost.fields["mount"] == MOUNT
    harness.away = set()
    harness.until(10)
    assert harness.text("both") == BOTH


@pytest.mark.parametrize("away", ["", MOUNT])
def test_while_a_store_is_away_a_change_in_the_other_is_delivered_with_its_last_known_keys(away):
    harness = Several(resource("both"))
    harness.until(1)
    harness.away = {away}
    harness.resync()
    (harness.put if away else harness.put_mounted)(a="2")
    harness.until(harness.now + 2)
    assert harness.text("both") == ("/app/a=2 /m/a=1" if away else "/app/a=1 /m/a=2")


def test_only_the_store_that_is_away_is_tried_again_by_itself():
    harness = Several(resource("both"))
    harness.away = {MOUNT}
    harness.until(1)
    before = harness.reads.count("")
    harness.until(60)
    assert harness.reads.count("") == before
    assert harness.reads.count(MOUNT) > 3


def test_a_key_above_the_mount_reads_both_stores():
    harness = Several(resource("all", "/", "/m"))
    harness.until(1)
    assert harness.text("all") == BOTH


# --- vanished keys ---------------------------------------------------------------------------------------------------


def test_a_store_that_is_empty_all_of_a_sudden_is_not_believed_though_the_other_has_keys():
    harness = Several(resource("both", shrink_grace=30.0), mounted={"/m/a": "1", "/m/b": "2"})
    harness.until(1)
    harness.mounted.clear()
    harness.resync()
    assert harness.text("both") == "/app/a=1 /m/a=1 /m/b=2"
    (suspect,) = harness.events("keys.suspect")
    assert suspect.fields["reason"] == "all of its 2 keys of the store at /m are gone"
    before = harness.reads.count("")
    harness.until(harness.now + 60)
    assert harness.text("both") == "/app/a=1"
    assert harness.reads.count("") == before, "the store that has its keys was read again"


def test_an_edit_during_a_delivery_does_not_lose_the_counts_of_its_stores():
    harness = Several(resource("both", "/app", "/m", shrink_grace=30.0), mounted={"/m/a": "1", "/m/b": "2"})
    harness.waits = ("deliver",)
    harness.until(1)
    harness.edit(resource("both", "/app", "/other", "/m", shrink_grace=30.0))
    harness.mounted.clear()
    harness.finish_jobs()
    harness.waits = ()
    harness.resync()
    assert harness.text("both") == "/app/a=1 /m/a=1 /m/b=2"
    assert [one.counts["both at /m"].keys for one in counts(harness) if "both at /m" in one.counts] == [2]


@pytest.mark.parametrize("edited", [("/app", "/other", "/m"), ("/app", "/m/x"), ("/m",)])
def test_an_edit_of_keys_does_not_make_a_store_believed_that_answers_with_nothing(edited):
    harness = Several(resource("both", "/app", "/m", shrink_grace=30.0), mounted={"/m/a": "1", "/m/b": "2"})
    harness.until(1)
    harness.mounted.clear()
    harness.edit(resource("both", *edited, shrink_grace=30.0))
    harness.resync()
    assert "/m/a=1 /m/b=2" in harness.text("both")
    harness.until(harness.now + 60)
    assert "/m" not in harness.text("both") or edited == ("/m",)  # an edit that finds no key at all waits for a person


def test_keys_of_a_store_that_come_back_are_delivered_at_once():
    harness = Several(resource("both"), mounted={"/m/a": "1", "/m/b": "2"})
    harness.until(1)
    harness.mounted.clear()
    harness.resync()
    harness.mounted.update({"/m/a": "3"})
    harness.resync()
    assert harness.text("both") == "/app/a=1 /m/a=3"
    assert harness.events("keys.returned")


def test_the_last_key_of_a_store_may_be_deleted_where_the_stream_names_it():
    harness = Several(resource("both"))
    harness.until(1)
    harness.put_mounted(a=None)
    harness.until(harness.now + 2)
    assert harness.text("both") == "/app/a=1"
    assert not harness.events("keys.suspect")


def test_a_store_that_was_set_up_anew_and_is_empty_is_believed_by_a_person_only():
    harness = Several(resource("both", shrink_grace=5.0))
    harness.until(1)
    harness.mounted.clear()
    harness.mounted_identity = "another"
    harness.resync()
    harness.until(harness.now + 120)
    assert harness.text("both") == BOTH
    (suspect,) = harness.events("keys.suspect")
    assert suspect.fields["reason"].endswith("is gone, and the store is another one")
    (replaced,) = harness.events("store.replaced")
    assert replaced.fields["mount"] == MOUNT


def counts(harness: Several) -> list[Count]:
    return [action for action in harness.done if isinstance(action, Count)]


def test_what_each_store_had_is_known_to_the_next_start():
    harness = Several(resource("both"), mounted={"/m/a": "1", "/m/b": "2"}, backend="etcdv3")
    harness.until(1)
    saved = {name: one for count in counts(harness) for name, one in count.counts.items()}
    assert {name: one.keys for name, one in saved.items()} == {"both at /": 1, "both at /m": 2}
    assert ("memory at /m", "m") in {(count.store, count.identity) for count in counts(harness)}
    known = {"both": (Counted(3, "etcdv3", ("/app", "/m"), "/"),), **{name: (one,) for name, one in saved.items()}}
    again = Several(resource("both"), mounted={}, backend="etcdv3")
    again.recovered = Recovered(counts=known, identity="s", revision=1, stores={"memory at /m": ("m", 1)})
    again.until(1)
    assert not again.targets
    (suspect,) = again.events("keys.suspect")
    assert suspect.fields["reason"] == "all of its 2 keys of the store at /m are gone"


def test_another_store_than_at_the_last_run_is_noticed_at_its_mount():
    harness = Several(resource("both"), backend="etcdv3")
    harness.recovered = Recovered(
        counts={"both": (Counted(2, "etcdv3", ("/app", "/m"), "/"),)},
        identity="s",
        revision=1,
        stores={"memory at /m": ("before", 1)},
    )
    harness.until(1)
    assert [event.fields.get("mount") for event in harness.events("store.replaced")] == [MOUNT]


# --- cached keys -----------------------------------------------------------------------------------------------------


def test_keys_of_stores_on_this_machine_are_not_cached():
    harness = Several(resource("both"), saves_keys=True, remote=False)
    harness.until(20)
    saved = [action for action in harness.done if isinstance(action, Save)]
    assert [(dict(one.keys), one.prefixes) for one in saved] == [({"/app/a": "1"}, ("/app",))]


@pytest.mark.parametrize(
    ("cached", "prefixes", "text"),
    [
        ({"/app/a": "old"}, ("/app",), "/app/a=old /m/a=1"),
        ({"/app/a": "old", "/m/a": "old"}, ("/app", "/m"), "/app/a=old /m/a=1"),
        ({"/m/a": "old"}, ("/m",), ""),
    ],
)
def test_a_missing_target_is_made_from_cached_keys_of_the_store_that_is_away_and_keys_of_the_other(
    cached, prefixes, text
):
    harness = Several(resource("both"), saves_keys=True)
    harness.away = {""}
    harness._jobs._ports.cached_keys.recall = lambda: Recalled(cached, prefixes, 5.0)
    harness.until(30)
    assert harness.text("both") == text
    harness.away = set()
    harness.until(120)
    assert harness.text("both") == BOTH


def test_a_store_that_answers_with_nothing_while_cached_keys_are_delivered_does_not_count_as_empty():
    harness = Several(resource("both", shrink_grace=30.0), mounted={"/m/a": "1", "/m/b": "2"}, saves_keys=True)
    harness.away = {"", MOUNT}
    cached = {"/app/a": "1", "/m/a": "1", "/m/b": "2"}
    harness._jobs._ports.cached_keys.recall = lambda: Recalled(cached, ("/app", "/m"), 5.0)
    harness.waits = ("deliver",)
    harness.until(30)
    harness.away = set()
    harness.mounted.clear()
    harness.until(60)
    harness.finish_jobs()
    harness.waits = ()
    harness.until(61)
    assert harness.text("both") == "/app/a=1 /m/a=1 /m/b=2"
    (suspect,) = harness.events("keys.suspect")
    assert suspect.fields["reason"] == "all of its 2 keys of the store at /m are gone"


def test_cached_keys_of_one_store_say_nothing_of_the_other_that_is_away_too():
    harness = Several(resource("all", "/", "/m"), saves_keys=True)
    harness.away = {"", MOUNT}
    harness._jobs._ports.cached_keys.recall = lambda: Recalled({"/app/a": "old"}, ("/",), 5.0)
    harness.until(30)
    assert not harness.targets


# --- what a missing key is, and the status ---------------------------------------------------------------------------


def test_what_a_missing_tree_is_belongs_to_its_store():
    harness = Several(resource("both"), resource("one", "/app"), mounted={}, missing="error")
    harness.until(1)
    assert (harness.text("both"), harness.text("one")) == ("", "/app/a=1")
    assert harness.agent.resources.states["both"].error.where["key"] == "/m"


def test_the_status_has_each_store_with_its_mount():
    harness = Several(resource("both"), backend="etcdv3")
    harness.until(1)
    harness.away = {MOUNT}
    harness.resync()
    main, other = harness.agent.status().stores
    assert (main.label, main.mount, main.is_up) == ("etcdv3", "", True)
    assert (other.label, other.mount, other.is_up) == ("memory at /m", MOUNT, False)
    assert harness.agent.status().resources[0].state == "current"


def test_a_resource_that_waits_for_its_first_read_is_not_said_to_wait_for_another_store_that_is_away():
    harness = Several(resource("app", "/app"), resource("m", "/m"))
    harness.away = {""}
    harness.waits = ("read",)
    harness.until(0)
    assert [one.cause for one in harness.agent.status().resources] == ["read", "read"]
    harness.post(harness.waiting.pop(0)())
    harness.until(0.1)
    assert [one.cause for one in harness.agent.status().resources] == ["store away", "read"]


# --- a store of one resource -----------------------------------------------------------------------------------------


class WithOwn(Several):
    """A resource may have a store of its own, which is read when its file says so."""

    def __init__(self, *resources: Resource, **config) -> None:
        super().__init__(*resources, **config)
        self.own = {"/[backend:1]/app/a": "own"}
        self._jobs._ports.mounted = {**self._jobs._ports.mounted, "/[backend:1]": _Own(self)}
        numbers = count(1000)

        def make(base: str) -> Mirror:
            return Mirror(Random(1), follows=True, period=600.0, numbers=numbers, name="memory", mount=base)

        self.agent._core._own = make


class _Own:
    def __init__(self, harness: WithOwn) -> None:
        self._harness = harness

    def read(self, prefixes, _counted):
        return self._harness.answer("/[backend:1]", prefixes, self._harness.own, "own")


OWN = {"strip": "/[backend:1]", "base": "/[backend:1]"}


def test_a_resource_edited_to_have_a_store_of_its_own_is_made_from_that_and_no_other_is():
    harness = WithOwn(resource("a", "/app"), resource("b", "/app"))
    harness.until(1)
    harness.edit(resource("a", "/[backend:1]/app", **OWN), resource("b", "/app"))
    harness.until(5)
    assert (harness.text("a"), harness.text("b")) == ("/app/a=own", "/app/a=1")
    assert [one.label for one in harness.agent.status().stores][-1] == "memory at /[backend:1]"
    harness.edit(resource("a", "/app"), resource("b", "/app"))
    harness.until(10)
    assert harness.text("a") == "/app/a=1"


def test_keys_of_a_store_of_its_own_beside_those_of_a_mounted_one():
    harness = WithOwn(resource("a", "/[backend:1]/app", "/m", **OWN))
    harness.until(2)
    assert harness.text("a") == "/app/a=own /m/a=1"
