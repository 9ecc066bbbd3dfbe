"""Consul's KV: recursive reads, and blocking queries on a few string prefixes that cover what is wanted.

py-consul knows the API. Its connections are ours, so that they end in time and can be cut; its environment variables
are read by our settings, since in it they weigh more than what is said in its arguments.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

import consul
import requests
from consul.base import Response
from consul.exceptions import ConsulException

from confpy.clock import jittered
from confpy.errors import AccessDenied, ConfpyError, StoreError, UsageError, WatchLost, bug
from confpy.http.body import TooLarge, read_body
from confpy.http.pool import Nodes, Wire, open_nodes
from confpy.http.tls import basic_auth, secret
from confpy.keys.prefixes import ROOT, ancestors, covers, select
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot
from confpy.stores import SURPRISES, Capabilities
from confpy.stores.consul.wire import (
    QUERIES,
    Answer,
    Cover,
    Following,
    Told,
    cover,
    differing,
    is_fresh,
    last_resort,
    not_consul,
    refusal,
    takes_back,
    to_text,
)

if TYPE_CHECKING:
    from confpy.config.settings import Settings

PORT = 8500
ANSWER_BYTES = 64 << 20
"""The largest answer that is held in memory: Consul has no pages."""
KEPT_BYTES = 1 << 20
"""The largest answer that is kept to compare the next one with."""
LEADER, STALE, SURE = "default", "stale", "consistent"
"""Who answers: the leader; any server, from its own copy; the leader, having asked whether it still is the leader."""
WAIT = 60.0
"""Seconds that a query waits for a change. Consul counts the connection of one that was given up until they are over,
and cuts off an address that has 200 (``http_max_conns_per_client``)."""
TURN = 2.0
"""The same where several queries have to take turns."""
PACE = 1.1
"""Seconds from one query to the next, give or take a tenth, where the one brought nothing new."""
DENIED = 60.0
"""Seconds until a string prefix that the token may not list is tried again where narrower ones do as well."""
DOUBTED = 60.0
"""Seconds for which a tree that is empty since the token changed is not believed: agents keep old rights for 30."""


class ConsulStore:
    """The keys of a Consul datacenter, behind ``confpy.stores.Store``.

    A revision is the index of a query. Indexes of two queries compare, as both count what the servers wrote; but the
    wider one may be ahead with nothing to show for it, and so no prefix is told a lower revision than before, unless
    the servers were restored.
    """

    capabilities = Capabilities(
        remote=True,
        names_deletions=False,
        value_bytes=512 << 10,
        binary_values=True,
        watches=True,
        text_prefixes=True,
    )

    def __init__(self, nodes: Nodes, login: Login, datacenter: str | None, *, polls: bool = False) -> None:
        """``polls``: nothing is watched, and any server may answer the same questions again."""
        self._nodes = nodes
        self._login = login
        self._datacenter = datacenter
        self._polls = polls
        self._random = random.Random()
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}
        self._indexes: dict[str, int] = {}
        """String prefix → the index of what was told of it."""
        self._denied: dict[str, tuple[float, StoreError]] = {}
        """String prefix that Consul does not answer → until when that is believed, and why it is so."""
        self._streams: set[ConsulStream] = set()
        self._read_as: Credentials | None = None
        """Who made the last read."""
        self._doubted: dict[str, float] = {}
        """Prefix that held keys for who read before → until when it is not believed to be empty."""

    @classmethod
    def open(cls, settings: Settings) -> ConsulStore:
        """Make the store that the settings describe. No traffic yet; raises ``UsageError``."""
        nodes = open_nodes("consul", settings, default=("127.0.0.1",), port=PORT)
        login = Login(settings)
        login.read()
        return cls(nodes, login, settings.datacenter, polls=not (settings.watch or settings.onetime))

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path with a leading slash: no key of Consul's needs one, and every raw key here has one."""
        return (path if path.startswith(ROOT) else ROOT + path,)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002
        """Read all prefixes, each at the index of the query that brought it; ``counted`` are left out."""
        return self._nodes.talk(lambda wire: self._read(self._agent(wire), prefixes))

    def _read(self, agent: _Agent, prefixes: Sequence[str]) -> Snapshot:
        with self._lock:
            before = {prefix: told.revision for prefix, told in self._told.items()}
        indexes: dict[str, int] = {}
        found: dict[str, tuple[int, dict[str, tuple[int, bytes | None]]]] = {}
        listings: dict[str, Listing] = {}
        denied = self._denials()
        waiting = list(dict.fromkeys(prefixes))
        while waiting:
            chosen = self._cover(waiting, denied)
            listings |= {prefix: Listing(0, error=_refused(prefix, denied)) for prefix in chosen.refused}
            waiting = []
            for query, below in chosen.queries.items():
                try:
                    answer = self._answer(agent, query, below)
                except (AccessDenied, TooLarge) as error:
                    denied[query] = error
                    self._deny(query, below, error)
                    waiting += below
                    continue
                indexes[query] = answer.at
                found |= {prefix: (answer.at, keys) for prefix, keys in select(below, answer.keys).items()}
        with self._lock:
            outdated = list(self._streams) if self._new_login(agent.login) else []
            now = time.monotonic()
            for prefix in [one for one, (_, keys) in found.items() if not keys and self._doubted.get(one, now) > now]:
                del found[prefix]
                listings[prefix] = Listing(0, error=_doubtful(prefix))
            if any(self._older(prefix, index, keys, before) for prefix, (index, keys) in found.items()):
                self._told.clear()
                self._indexes.clear()
                before.clear()
            for prefix, (index, keys) in found.items():
                self._doubted.pop(prefix, None)
                revision = max(index, before.get(prefix, 0))
                modified = {key: at for key, (at, _) in keys.items()}
                told = self._told.setdefault(prefix, Told(revision, modified))
                told.read(revision, modified)
                listings[prefix] = Listing(revision, {key: to_text(value) for key, (_, value) in keys.items()})
            self._indexes |= indexes
        for stream in outdated:
            stream.fail(StoreError("the token changed", hint="confpy follows with the new one"))
        return Snapshot(listings)

    def _answer(self, agent: _Agent, query: str, below: Sequence[str]) -> Answer:
        """Return what a query brings, where confpy polls from whichever server is near.

        That one may lag behind. What takes back something that was told has to come from the leader.
        """
        with self._lock:
            told = [self._told[prefix] for prefix in below if prefix in self._told]
        if self._polls and len(told) == len(below):
            answer = agent.ask(query, consistency=STALE)
            if not takes_back(answer, told):
                return answer
        return agent.ask(query, consistency=SURE if self._polls else LEADER)

    def _new_login(self, login: Credentials) -> bool:
        """Note who read, with the lock held; say whether it was somebody else before.

        Consul leaves out what a token may not read. What could be read before is not believed gone at once.
        """
        before, self._read_as = self._read_as, login
        if before in (None, login):
            return False
        until = time.monotonic() + DOUBTED
        self._doubted |= {prefix: until for prefix, told in self._told.items() if told.keys}
        self._indexes.clear()
        return True

    def _older(self, prefix: str, index: int, keys: Mapping[str, tuple[int, Any]], before: Mapping[str, int]) -> bool:
        """Say whether an answer with a lower index than before has another content: then the servers went back."""
        told = self._told.get(prefix)
        if told is None or index >= told.revision or told.revision != before.get(prefix):
            return False
        return told.keys != {key: modified for key, (modified, _) in keys.items()}

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Compare the indexes with those of what was told last; None where one is another, and only a read can tell."""
        if self._read_as not in (None, self._login.now()):
            return None
        status, refused = self._nodes.talk(lambda wire: self._stand(self._agent(wire), prefixes))
        with self._lock:
            if refused or any(self._indexes.get(query) != index for query, (index, _) in status.items()):
                return None
            if not self._doubted.keys().isdisjoint(prefixes):
                return None
            told = {prefix: self._told[prefix] for prefix in prefixes if prefix in self._told}
            if len(told) < len(prefixes):
                return None
            return PrefixStatus(
                identity="",
                revision=max((one.revision for one in told.values()), default=0),
                newest={prefix: max(one.keys.values(), default=0) for prefix, one in told.items()},
                counts={prefix: len(one.keys) for prefix, one in told.items()},
            )

    def _stand(
        self, agent: _Agent, prefixes: Iterable[str]
    ) -> tuple[dict[str, tuple[int, tuple[str, ...]]], list[AccessDenied]]:
        """Return queries that the token may make, with index and prefixes; and why there is none for the others."""
        prefixes = tuple(prefixes)
        denied = self._denials()
        indexes: dict[str, int] = {}
        while True:
            chosen = self._cover(prefixes, denied)
            new = {query: below for query, below in chosen.queries.items() if query not in indexes}
            if not new:
                status = {query: (indexes[query], below) for query, below in chosen.queries.items()}
                return status, [_refused(prefix, denied) for prefix in chosen.refused]
            for query, below in new.items():
                try:
                    indexes[query] = self._index(agent, query)
                except (AccessDenied, TooLarge) as error:
                    denied[query] = error
                    self._deny(query, below, error)

    def _index(self, agent: _Agent, query: str) -> int:
        """Ask for the index alone, where confpy polls as ``_answer`` does."""
        if not self._polls:
            return agent.ask_index(query)
        index = agent.ask_index(query, consistency=STALE)
        return index if index >= self._indexes.get(query, 0) else agent.ask_index(query, consistency=SURE)

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> ConsulStream:  # noqa: ARG002
        """Follow every prefix by at most 16 blocking queries; returns when Consul has answered for each of them."""
        if self._read_as not in (None, self._login.now()):
            raise WatchLost("the token changed")
        status, refused = self._nodes.talk(lambda wire: self._stand(self._agent(wire), cursors))
        if refused:
            raise refused[0]
        with self._lock:
            followings = [self._following(query, below, cursors, index) for query, (index, below) in status.items()]
        stream = ConsulStream(followings, self._connect, self._note, self._deny, self._streams.discard)
        with self._lock:
            self._streams.add(stream)
        stream.start()
        return stream

    def _following(self, query: str, below: Sequence[str], cursors: Mapping[str, int], index: int) -> Following:
        known: dict[str, int] = {}
        current = self._indexes.get(query) == index
        for prefix in below:
            above = next((one for one in reversed([*ancestors(prefix)]) if one in self._told), None)
            if above is None:
                raise WatchLost("the prefix was not read yet")
            told = self._told[above]
            current = current and told.revision <= cursors[prefix]
            known |= {key: at for key, at in told.at(cursors[prefix]).items() if covers(prefix, key)}
        return Following(query, below, known, index if current else 0, min(cursors[prefix] for prefix in below))

    def _note(self, query: str, index: int, news: Sequence[Changes]) -> None:
        """A stream brought an answer to a query."""
        with self._lock:
            self._indexes[query] = index
            for changes in news:
                if changes.prefix in self._told:
                    self._told[changes.prefix].note(changes.revision, changes.keys)

    # --- the way to Consul -------------------------------------------------------------------------------------------

    def _cover(self, prefixes: Sequence[str], denied: Mapping[str, StoreError]) -> Cover:
        with self._lock:
            weights = {prefix: len(told.keys) + 1 for prefix, told in self._told.items()}
        return cover(prefixes, weights, denied.keys())

    def _denials(self) -> dict[str, StoreError]:
        """Return the string prefixes that need not be tried now, and why."""
        now = time.monotonic()
        with self._lock:
            self._denied = {query: denial for query, denial in self._denied.items() if denial[0] > now}
            return {query: error for query, (_, error) in self._denied.items()}

    def _deny(self, query: str, below: Iterable[str], error: StoreError) -> None:
        """Remember that a query is refused or brings too much, unless one of its prefixes has no other to try."""
        if query not in map(last_resort, below):
            pause = math.inf if isinstance(error, TooLarge) else jittered(DENIED, self._random)
            with self._lock:
                self._denied[query] = time.monotonic() + pause, error

    def _connect(self) -> _Agent:
        """Return an agent whose connection stays, and is the caller's to close."""
        return self._nodes.talk(self._agent, keep=True)

    def _agent(self, wire: Wire) -> _Agent:
        return _Agent(wire, self._login, self._datacenter)

    def close(self) -> None:
        """Cut every connection; what waits raises ``StoreError``, what iterates ends."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._nodes.close()


class ConsulStream:
    """Changes as the queries bring them: each on a thread of its own, put together while nobody takes them."""

    def __init__(
        self,
        followings: Sequence[Following],
        connect: Callable[[], _Agent],
        note: Callable[[str, int, Sequence[Changes]], None],
        deny: Callable[[str, Iterable[str], StoreError], None],
        ended: Callable[[ConsulStream], None],
    ) -> None:
        self._turns = [followings[number::QUERIES] for number in range(min(QUERIES, len(followings)))]
        self._connect = connect
        self._note = note
        self._deny = deny
        self._ended = ended
        self._random = random.Random()
        self._news = threading.Condition()
        self._pending: dict[str, Changes] = {}
        self._agents: set[_Agent] = set()
        self._failure: StoreError | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to ask."""
        for number, turns in enumerate(self._turns):
            threading.Thread(target=self._follow, args=[turns], name=f"confpy-consul-{number}", daemon=True).start()

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after what came before it."""
        while True:
            with self._news:
                while not (self._pending or self._failure or self._closed.is_set()):
                    self._news.wait()
                if self._closed.is_set():
                    return
                pending, self._pending = self._pending, {}
                failure = self._failure
            yield from pending.values()
            if failure is not None and not pending:
                self.close()
                raise failure

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._news:
            self._closed.set()
            self._news.notify_all()
            agents = list(self._agents)
        for agent in agents:
            agent.close()
        self._ended(self)

    def _follow(self, turns: Sequence[Following]) -> None:
        agent = None
        try:
            agent = self._connect()
            with self._news:
                self._agents.add(agent)
            while not self._closed.is_set():
                for following in turns:
                    self._ask(agent, following, WAIT if len(turns) == 1 else TURN)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream does not stand still unseen
            told = error if isinstance(error, ConfpyError) else bug(error)
            self.fail(told if isinstance(told, StoreError) else told.copy(StoreError))
        finally:
            if agent is not None:
                agent.close()
                with self._news:
                    self._agents.discard(agent)

    def _ask(self, agent: _Agent, following: Following, wait: float) -> None:
        began = time.monotonic()
        since, wait = following.since, jittered(wait, self._random)
        try:
            answer = agent.ask(following.query, since, wait)
        except (AccessDenied, TooLarge) as error:
            self._deny(following.query, following.prefixes, error)
            raise error.copy(WatchLost) from error
        news = following.take(answer, early=since > 0 and time.monotonic() - began < wait / 2)
        self._note(following.query, answer.at, news)
        with self._news:
            for changes in news:
                before = self._pending.get(changes.prefix)
                keys = {**before.keys, **changes.keys} if before else changes.keys
                self._pending[changes.prefix] = Changes(changes.prefix, changes.revision, keys)
            self._news.notify_all()
        if not news:
            # The index moves for keys of others, too. It must not make us ask without end.
            self._closed.wait(max(0.0, began + jittered(PACE, self._random) - time.monotonic()))

    def fail(self, error: StoreError) -> None:
        """Let the iteration raise ``error`` after what came before it."""
        with self._news:
            self._failure = self._failure or error
            self._news.notify_all()


class Credentials(NamedTuple):
    """What Consul, or a proxy before it, knows us by."""

    basic_auth: tuple[bytes, bytes] | None
    token: str | None


class Login:
    """Who we are to Consul; what stands in files is read anew for each connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self) -> Credentials:
        """Return them as they are now; raises ``UsageError``."""
        token = secret(self._settings.auth_token, self._settings.auth_token_file)
        return Credentials(basic_auth(self._settings), token)

    def now(self) -> Credentials:
        """Return the same; raises ``StoreError``, since a file that went away may come back."""
        try:
            return self.read()
        except UsageError as error:
            raise error.copy(StoreError) from error


class _Agent(consul.Consul):  # type: ignore[misc]
    """One wire to a Consul, as py-consul speaks on it."""

    def __init__(self, wire: Wire, login: Login, datacenter: str | None) -> None:
        self._wire = wire
        self.login = login.now()
        wire.session.auth = self.login.basic_auth  # type: ignore[assignment]
        super().__init__(wire.node.host, wire.node.port, scheme=wire.node.scheme, dc=datacenter, verify=True)
        self.token = self.login.token  # py-consul prefers the variable to its argument
        self._last = NOTHING

    def http_connect(self, *_: object, **__: object) -> _Requests:
        return _Requests(self._wire)

    def ask(self, query: str, index: int = 0, wait: float = 0.0, consistency: str = LEADER) -> Answer:
        """Return what lies below a string prefix: at once, or after up to ``wait`` seconds while it is at ``index``."""
        reply = self._get(query, consistency, recurse=True, index=index or None, wait=f"{max(1, round(wait))}s")
        keys: dict[str, tuple[int, bytes | None]] = {}
        new = reply.body
        if query == self._last.query and reply.status == requests.codes.ok:
            gone, new = differing(self._last.body, reply.body)
            keys |= self._last.keys
            for name in self._items(reply, gone)[1]:
                keys.pop(name, None)
        at, items = self._items(reply, new)
        keys |= items
        self._last = _Last(query, reply.body, keys) if items and len(reply.body) <= KEPT_BYTES else NOTHING
        return Answer(at, keys)

    def ask_index(self, query: str, consistency: str = LEADER) -> int:
        """Return the index of a query alone: the names come cut at the next slash, the values not at all."""
        return self._understood(self._get(query, consistency, keys=True, separator="/"))[0]

    def _get(self, query: str, consistency: str, **options: Any) -> _Reply:
        try:
            reply: _Reply = self.kv.get(query, consistency=consistency, **options)
            if consistency == STALE and not is_fresh(reply.headers):
                reply = self.kv.get(query, consistency=SURE, **options)
        except StoreError as error:
            error.at(node=self._wire.node.url)
            raise
        return reply

    def _items(self, reply: _Reply, part: bytes) -> tuple[int, dict[str, tuple[int, bytes | None]]]:
        at, found = self._understood(reply._replace(body=part))
        try:
            return at, {f"/{item['Key']}": (int(item["ModifyIndex"]), item["Value"]) for item in found or ()}
        except SURPRISES as error:
            raise not_consul().at(node=self._wire.node.url) from error

    def _understood(self, reply: _Reply) -> tuple[int, Any]:
        """Return the index of a reply, and what py-consul makes of its body."""
        response = Response(reply.status, reply.headers, reply.body.decode("utf-8", "replace"))
        try:
            index, found = reply.understand(response)
            return max(1, int(index)), found  # 0 would be answered at once, without end
        except (ConsulException, *SURPRISES):
            # Not its cause: py-consul puts the whole answer into its errors.
            raise not_consul().at(node=self._wire.node.url) from None

    def close(self) -> None:
        """End the connection. Any thread, any number of times."""
        self._wire.close()


class _Reply(NamedTuple):
    """What came back, and how py-consul would take it apart."""

    understand: Callable[[Response], Any]
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Last(NamedTuple):
    """What a query brought, until the next one."""

    query: str | None
    body: bytes
    keys: dict[str, tuple[int, bytes | None]]


NOTHING = _Last(None, b"", {})


class _Requests:
    """What py-consul asks by: a wire, and a deadline for each request."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def get(
        self, understand: Callable[[Response], Any], path: str, params: Sequence[tuple[str, Any]], headers: Any
    ) -> _Reply:
        """Return the answer, for ``understand`` to take apart; raises ``StoreError``."""
        # Bytes that are not UTF-8 stand in a prefix as surrogates. Consul can hold no such key, and says so.
        url = self._wire.node.url + quote(path.encode("utf-8", "surrogateescape")) + "?" + urlencode(params)
        wait = next((float(value[:-1]) for name, value in params if name == "wait"), 0.0)
        with self._wire.bounded(wait * 17 / 16):  # Consul adds up to a sixteenth
            answer = self._wire.get(url, headers)
            body = read_body(answer, ANSWER_BYTES)
        if answer.status_code not in (requests.codes.ok, requests.codes.not_found):
            raise refusal(answer.status_code, body)
        return _Reply(understand, answer.status_code, answer.headers, body)


def _refused(prefix: str, denied: Mapping[str, StoreError]) -> AccessDenied:
    """Return the error of a prefix for which every query is denied."""
    narrowest = max((query for query in denied if last_resort(prefix).startswith(query)), key=len)
    error = denied[narrowest]
    if isinstance(error, TooLarge):
        message, hint = error.message, "Consul has no pages: let the resource read keys further down the tree"
    else:
        message, hint = "Consul refuses the prefix: permission denied", "give the token a policy that may list it"
    return AccessDenied(message, hint=hint, **{**error.where, "prefix": prefix})


def _doubtful(prefix: str) -> AccessDenied:
    return AccessDenied(
        "the prefix is empty since the token changed",
        hint=f"give the new one a policy that may read it; after {DOUBTED:g} s it is believed to be empty",
        prefix=prefix,
    )
