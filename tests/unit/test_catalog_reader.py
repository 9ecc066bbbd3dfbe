"""Which answer about a service is believed, what changed by it, and which services are to be asked about."""

from __future__ import annotations

import pytest

from confpy.errors import AccessDenied, StoreError, WatchLost
from confpy.stores.catalog import reader as reader_module
from confpy.stores.catalog.api import Answer, Names
from confpy.stores.catalog.catalogue import Catalogue, Unwell, service_of
from confpy.stores.catalog.instances import Service
from confpy.stores.catalog.reader import Reader
from confpy.stores.catalog.stream import CatalogStream


def found(index, *ids, name="web", unwell=(), hidden=False, left_out=()):
    keys = {f"/{name}/{one}": f"10.0.0.{number}:80" for number, one in enumerate(ids)}
    instances = {("n1", one): index for one in ids}
    return Service(index, keys, instances, frozenset(unwell), hidden, tuple(left_out))


class Agent:
    """Answers as it is told: what its own copy has, and what the leader has."""

    def __init__(self):
        self.copy = self.leader = None
        self.asked = []
        self.is_fresh = True

    def says(self, leader, copy=None):
        self.leader, self.copy = leader, copy or leader
        return self

    def service(self, _name, *, cached=False, **_waiting):
        self.asked.append("copy" if cached else "leader")
        said = self.copy if cached else self.leader
        if isinstance(said, StoreError):
            raise said
        return Answer(said, self.is_fresh)


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def agent():
    return Agent()


def keys(reader, prefix="/"):
    return set(reader.listings([prefix])[0][prefix].keys)


# --- what is believed ------------------------------------------------------------------------------------------------


def test_what_nothing_is_known_of_is_asked_of_the_leader_and_then_of_the_agent(reader, agent):
    reader.ask(agent.says(found(5, "a", "b")), "web")
    reader.ask(agent.says(found(6, "a")), "web")
    assert keys(reader) == {"/web/a"}
    assert agent.asked == ["leader", "copy"]


@pytest.mark.parametrize("copy", [found(7), found(4, "old")])
def test_a_copy_alone_makes_no_service_vanish_and_brings_no_earlier_state_back(reader, agent, copy):
    reader.ask(agent.says(found(5, "a")), "web")
    reader.ask(agent.says(found(6, "a", "b"), copy=copy), "web")
    assert keys(reader) == {"/web/a", "/web/b"}
    assert agent.asked == ["leader", "copy", "leader"]
    reader.ask(agent.says(found(8), copy=copy), "web")
    assert keys(reader) == set()


def test_a_copy_of_a_server_without_a_leader_is_not_believed(reader, agent):
    reader.ask(agent.says(found(5, "a", "b")), "web")
    agent.is_fresh = False
    reader.ask(agent.says(found(6, "a", "b"), copy=found(6, "a")), "web")
    assert keys(reader) == {"/web/a", "/web/b"}


def test_when_the_leader_goes_back_it_is_believed_and_no_copy_is_until_all_are_of_what_was_restored(
    reader, agent, monkeypatch
):
    moment = [1000.0]
    monkeypatch.setattr(reader_module.time, "monotonic", lambda: moment[0])
    reader.ask(agent.says(found(50, "a")), "web")
    reader.ask(agent.says(found(7, "b"), copy=found(50, "a")), "web", sure=True)
    reader.ask(agent, "web")
    assert keys(reader) == {"/web/b"}
    assert agent.asked == ["leader", "leader", "leader"]
    moment[0] += 661
    reader.ask(agent.says(found(8, "c")), "web")
    assert keys(reader) == {"/web/c"}
    assert agent.asked[3:] == ["copy"]


def test_an_answer_of_a_copy_that_was_waited_for_while_the_servers_were_restored_is_dropped(reader, agent):
    reader.ask(agent.says(found(50, "a")), "web")

    class Waiting(Agent):
        def service(self, name, **options):
            reader.ask(agent.says(found(7, "b")), name, sure=True)
            return super().service(name, **options)

    reader.ask(Waiting().says(found(51, "late")), "web")
    assert keys(reader) == {"/web/b"}


def test_an_answer_that_another_thread_has_overtaken_is_dropped(reader, agent):
    reader.ask(agent.says(found(5, "a")), "web")

    class Slow(Agent):
        def service(self, name, **options):
            reader.ask(agent.says(found(9, "new")), name)
            return super().service(name, **options)

    reader.ask(Slow().says(found(6, "late")), "web", sure=True)
    assert keys(reader) == {"/web/new"}


# --- what the token may not see --------------------------------------------------------------------------------------


def test_a_service_that_is_hidden_from_the_token_is_denied_alone_and_keeps_its_instances(reader, agent):
    reader.ask(agent.says(found(5, "a")), "web")
    reader.ask(agent.says(found(5, "x", name="db")), "db")
    with reader.lock:
        stream = CatalogStream(["/web", "/db"], lambda _: None)
        reader.streams.add(stream)
    reader.ask(agent.says(found(6, hidden=True)), "web")
    listings, _ = reader.listings(["/web", "/db", "/"])
    assert isinstance(listings["/web"].error, AccessDenied)
    assert listings["/web"].error.prefix == "/web"
    assert set(listings["/db"].keys) == {"/db/x"}
    assert set(listings["/"].keys) == {"/web/a", "/db/x"}
    brought = iter(stream)
    assert [(note.event, note.fields["service"]) for note in next(brought).notes] == [("service.denied", "web")]
    with pytest.raises(AccessDenied, match="hides") as raised:
        next(brought)
    assert raised.value.prefix == "/web"
    reader.ask(agent.says(found(7, "b")), "web")
    assert keys(reader, "/web") == {"/web/b"}


def test_instances_that_are_hidden_all_at_once_are_not_gone_for_a_minute(reader, agent, monkeypatch):
    moment = [1000.0]
    monkeypatch.setattr(reader_module.time, "monotonic", lambda: moment[0])
    reader.ask(agent.says(found(5, "a", "b")), "web")
    reader.ask(agent.says(found(6, "a", hidden=True)), "web")
    assert isinstance(reader.listings(["/web"])[0]["/web"].error, AccessDenied)
    moment[0] += 61
    reader.ask(agent.says(found(6, "a", hidden=True)), "web")
    assert keys(reader, "/web") == {"/web/a"}
    reader.ask(agent.says(found(7, "c", hidden=True)), "web")
    assert keys(reader, "/web") == {"/web/c"}


def test_a_service_that_is_empty_since_the_token_changed_is_not_gone_for_a_minute(reader, agent, monkeypatch):
    moment = [1000.0]
    monkeypatch.setattr(reader_module.time, "monotonic", lambda: moment[0])
    reader.ask(agent.says(found(5, "a")), "web")
    reader.suspect()
    reader.ask(agent.says(found(6)), "web")
    assert "since the token changed" in str(reader.listings(["/web"])[0]["/web"].error)
    moment[0] += 61
    reader.ask(agent.says(found(6)), "web")
    assert keys(reader, "/web") == set()


def test_a_service_that_consul_refuses_is_denied_alone(reader, agent):
    reader.ask(agent.says(AccessDenied("Consul refuses: no")), "web")
    reader.ask(agent.says(found(5, "x", name="db")), "db")
    assert reader.listings(["/web"])[0]["/web"].error is not None
    assert reader.listings(["/db"])[0]["/db"].error is None
    assert reader.status(["/web", "/db"]).counts == {"/db": 1}


def test_an_instance_that_is_left_out_is_logged_once(reader, agent):
    for index in (5, 6):
        reader.ask(agent.says(found(index, "a", left_out=[("b\n", "its port is 0")])), "web")
    _, notes = reader.listings(["/"])
    assert [note.fields for note in notes] == [{"service": "web", "instance": "b%0A", "reason": "its port is 0"}]
    reader.ask(agent.says(found(7, "a", left_out=[("b\n", "its port is 0")])), "web")
    assert reader.listings(["/"])[1] == ()


# --- what changed ----------------------------------------------------------------------------------------------------


def test_revisions_grow_with_each_change_of_any_service_whatever_its_index():
    seconds = iter([5.0, 4.0])
    catalogue = Catalogue(lambda: next(seconds))
    catalogue.take("web", found(100, "a"))
    first = catalogue.revision
    news = catalogue.take("db", found(50, "x", name="db"))
    assert first == 5000
    assert news == {"/db/x": (5001, "10.0.0.0:80")}
    assert catalogue.take("db", found(60, "x", name="db")) == {}
    assert catalogue.revision == 5001
    assert catalogue.since("/", first) == news
    assert catalogue.since("/web", first) == {}


def test_what_went_is_told_to_a_stream_that_begins_before_it_and_one_of_another_store_reads_again():
    catalogue = Catalogue()
    catalogue.take("web", found(5, "a", "b"))
    at = catalogue.revision
    catalogue.take("web", found(6, "a"))
    assert catalogue.since("/web", at) == {"/web/b": (catalogue.revision, None)}
    assert catalogue.since("/web/a", at) == {}
    with pytest.raises(WatchLost):
        catalogue.since("/web", catalogue.revision + 1)
    catalogue.take("web", found(7, *map(str, range(11_000))))
    catalogue.take("web", found(8))
    with pytest.raises(WatchLost):
        catalogue.since("/web", at)


def test_a_revision_is_later_than_those_of_an_earlier_run_also_of_a_service_that_is_not_there():
    catalogue = Catalogue(lambda: 5.0)
    catalogue.take("web", found(3))
    assert catalogue.revision == 5000


def test_a_service_without_instances_is_forgotten_unless_it_is_still_there():
    catalogue = Catalogue()
    for name in ("gone", "empty", "full"):
        catalogue.take(name, found(5, "a", name=name))
    catalogue.take("gone", found(6, name="gone"))
    catalogue.take("empty", found(6, name="empty"))
    assert catalogue.forget({"empty", "full"}) == ["gone"]
    assert catalogue.names() == {"full"}


@pytest.mark.parametrize(("prefix", "name"), [("/", ""), ("/web", "web"), ("/web/a", "web"), ("/a%2Fb/x", "a/b")])
def test_a_prefix_stands_for_a_service_or_for_all(prefix, name):
    assert service_of(prefix) == name


# --- which services are asked about ----------------------------------------------------------------------------------

BAD = ("n1", "c", "critical")


def test_a_check_that_fails_or_passes_again_touches_its_service_alone():
    catalogue = Catalogue()
    catalogue.take("web", found(5, "a"))
    catalogue.take("db", found(5, "x", name="db"))
    first = Unwell(6, [])
    assert first.touched(None, catalogue) == set()
    second = Unwell(7, [("web", BAD)])
    assert second.touched(first, catalogue) == {"web"}
    catalogue.take("web", found(7, "a", unwell=[BAD]))
    assert second.touched(first, catalogue) == set()
    assert Unwell(8, []).touched(second, catalogue) == {"web"}


def test_a_check_of_a_node_touches_all_that_is_on_it():
    catalogue = Catalogue()
    catalogue.take("web", found(5, "a"))
    catalogue.take("db", Service(5, {}, {("n2", "x"): 5}))
    serf = ("n1", "serfHealth", "critical")
    assert Unwell(6, [("", serf)]).touched(Unwell(5, []), catalogue) == {"web"}


def test_an_older_list_of_checks_says_nothing_about_a_service_that_was_read_since():
    catalogue = Catalogue()
    catalogue.take("web", found(9, "a", unwell=[BAD]))
    assert Unwell(8, []).touched(Unwell(7, [("web", BAD)]), catalogue) == set()


def test_a_node_shows_what_was_registered_again_came_or_went_there():
    catalogue = Catalogue()
    for name in ("same", "other", "more", "less"):
        catalogue.take(name, Service(5, {}, {("n1", name): 5}))
    now = {"same": ("same", 5), "other": ("other", 6), "more": ("more", 5), "more2": ("more", 7), "new": ("new", 8)}
    assert catalogue.differing("n1", now) == {"other": 6, "more": 7, "less": 0, "new": 8}


def test_names_that_came_went_or_have_other_tags_are_touched(reader, agent):
    reader.ask(agent.says(found(5, "a")), "gone")
    assert reader.take_names(Names(6, {"web": ("a",), "db": ()})) == {"web", "db", "gone"}
    assert reader.take_names(Names(7, {"web": ("b",), "db": ()})) == {"web", "gone"}
