"""Many prefixes of etcd v3 take few requests: those side by side are read as one range, where little else is there."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from confpy.keys.prefixes import covers
from confpy.stores.etcd.v3_permissions import Grants, to_bytes, whole
from confpy.stores.etcd.v3_reading import Reading


class Etcd:
    """Answers transactions of ranges from some keys, as the gateway does."""

    def __init__(self, keys: Mapping[str, str], grants: Grants | None = None, *, largest: int = 16 << 20) -> None:
        """``largest``: how many bytes an answer may have."""
        self.largest = largest
        self.keys = {to_bytes(key): to_bytes(value) for key, value in keys.items()}
        self.order = sorted(self.keys)
        self.grants = grants
        self.requests: list[list[tuple[bytes, bytes, dict[str, object]]]] = []
        self.sent: list[str] = []
        """The keys of all answers, counted ones left out."""

    def transact(self, request: Mapping[str, Sequence[Mapping[str, dict[str, object]]]]) -> tuple[dict, int] | None:
        """Return the answer and its size, None where it is denied."""
        asked = []
        for operation in request["success"]:
            options = dict(operation["request_range"])
            asked.append((b64decode(options.pop("key")), b64decode(options.pop("range_end", "")), options))
        self.requests.append(asked)
        if self.grants and not all(self.grants.allow((start, end)) for start, end, _ in asked):
            return None
        found = [self._range(*one) for one in asked]
        answer = {
            "header": {"cluster_id": "77", "revision": "9"},
            "responses": [{"response_range": one} for one in found],
        }
        return answer, len(json.dumps(answer, separators=(",", ":")))

    def _range(self, start: bytes, end: bytes, options: dict[str, object]) -> dict[str, object]:
        last = bisect_left(self.order, end) if end else bisect_left(self.order, start + b"\0")
        keys = self.order[bisect_left(self.order, start) : last]
        if options.get("count_only"):
            return {"count": str(len(keys))} if keys else {}
        brought = keys[: int(str(options["limit"]))]
        self.sent += [key.decode("utf-8", "surrogateescape") for key in brought]
        pairs = [
            {
                "key": b64encode(key).decode(),
                "mod_revision": "5",
                **({"value": b64encode(self.keys[key]).decode()} if self.keys[key] else {}),
            }
            for key in brought
        ]
        more = {"more": True} if len(brought) < len(keys) else {}
        return {"kvs": pairs, "count": str(len(keys)), **more} if pairs else {}


def read(
    etcd: Etcd, prefixes: Sequence[str], *, grants: Grants | None = None, later_page: int = 0, **options: object
) -> Reading:
    """Read to the end; ``grants`` are learned when something is denied.

    ``later_page``: how many keys the answers after the first may have.
    """
    reading = Reading(prefixes, **options)
    for _ in range(5000):
        request = reading.next_request()
        if request is None:
            return reading
        answer = etcd.transact(request)
        while answer is not None and not (answer[1] > etcd.largest and reading.shrink()):
            ahead = reading.request_ahead()
            following = etcd.transact(ahead) if ahead is not None else None
            reading.take(*answer)
            reading.page_keys = later_page or reading.page_keys
            answer, request = following, ahead
            if ahead is None:
                break
        if answer is None and request is not None:
            assert grants is not None
            reading.restrict(grants)
    raise AssertionError("it does not end")


def expected(keys: Mapping[str, str], prefixes: Sequence[str]) -> dict[str, dict[str, str]]:
    return {prefix: {key: keys[key] for key in keys if covers(prefix, key)} for prefix in prefixes}


def brought(reading: Reading) -> dict[str, dict[str, str]]:
    listings = reading.snapshot().listings
    assert all(listing.error is None for listing in listings.values())
    return {prefix: dict(listing.keys) for prefix, listing in listings.items()}


def granted(*prefixes: str) -> Grants:
    ranges = [tuple(b64encode(end).decode() for end in whole(prefix)) for prefix in prefixes]
    return Grants.of("web", ["r"], [{"permType": "READ", "key": start, "range_end": end} for start, end in ranges])


MANY = [f"/svc/{number:04}" for number in range(500)]
WANTED = {f"{prefix}/{key}": "v" for prefix in MANY for key in ("a", "b", "c/d")}


def test_many_siblings_are_read_as_one_range_after_a_sample_of_them():
    etcd = Etcd({**WANTED, "/svc": "x", "/svc/0300-b": "beside", "/svd/1": "y"})
    assert brought(read(etcd, MANY)) == expected(WANTED, MANY)
    first, *rest = etcd.requests
    assert len(first) == 17
    assert [(start, end) for request in rest for start, end, _ in request] == [(b"/svc/0001", b"/svc/04990")]
    assert all(options.get("revision") == "9" for request in rest for _, _, options in request)


def test_up_to_128_prefixes_are_read_each_by_itself():
    etcd = Etcd(WANTED)
    assert brought(read(etcd, MANY[:128])) == expected(WANTED, MANY[:128])
    assert [len(request) for request in etcd.requests] == [128]
    assert not any("count_only" in options for request in etcd.requests for _, _, options in request)


def test_siblings_are_read_each_by_itself_where_many_other_keys_lie_between():
    wanted = MANY[::2]
    etcd = Etcd(WANTED)
    assert brought(read(etcd, wanted)) == expected(WANTED, wanted)
    assert set(etcd.sent) == {key for key in WANTED if any(covers(prefix, key) for prefix in wanted)}


def test_a_page_of_siblings_that_is_mostly_something_else_is_the_last():
    """Those of the sample have many keys each, so that a few others seem not to matter."""
    full = {f"{prefix}/{number}": "v" for prefix in MANY[::31] for number in range(20)}
    others = {f"/svc/0200-{number:04}": "x" * 90 for number in range(2000)}
    wanted = {**full, **{f"{prefix}/a": "v" for prefix in MANY}}
    etcd = Etcd({**wanted, **others})
    reading = read(etcd, MANY, later_page=500)
    assert brought(reading) == expected(wanted, MANY)
    assert 0 < len([key for key in etcd.sent if key in others]) <= 500


def test_siblings_whose_page_is_too_large_are_asked_for_each_by_itself():
    etcd = Etcd(WANTED, largest=60_000)
    assert brought(read(etcd, MANY)) == expected(WANTED, MANY)
    assert [len(request) for request in etcd.requests] == [17, 1, 128, 128, 128, 100]


def test_a_page_of_siblings_goes_on_after_its_last_key():
    etcd = Etcd(WANTED)
    reading = read(etcd, MANY, later_page=500)
    assert brought(reading) == expected(WANTED, MANY)
    wide = [one for request in etcd.requests for one in request if one[1] == b"/svc/04990" and one[0] < b"/svc/0499"]
    assert len(wide) > 1
    assert len(etcd.sent) == len(WANTED) + 3 * 15  # the sample but for the first lies between the others


def test_who_may_read_the_prefixes_alone_reads_each_by_itself():
    grants = granted(*MANY)
    etcd = Etcd(WANTED, grants)
    assert brought(read(etcd, MANY, grants=grants)) == expected(WANTED, MANY)


def test_who_may_read_all_but_one_sibling_is_told_of_that_one():
    grants = granted(*MANY[:300], *MANY[301:])
    snapshot = read(Etcd(WANTED, grants), MANY, grants=grants).snapshot()
    assert [prefix for prefix, listing in snapshot.listings.items() if listing.error] == [MANY[300]]
    assert {prefix: dict(one.keys) for prefix, one in snapshot.listings.items()} == {
        **expected(WANTED, MANY),
        MANY[300]: {},
    }


def test_who_may_read_what_is_above_the_siblings_reads_them_as_one_range():
    grants = granted("/svc")
    etcd = Etcd(WANTED, grants)
    reading = Reading(MANY)
    reading.restrict(grants)
    while (request := reading.next_request()) is not None:
        reading.take(*etcd.transact(request))
    assert brought(reading) == expected(WANTED, MANY)
    assert len(etcd.requests) == 2


def test_what_is_counted_to_choose_ranges_is_not_among_the_counts():
    assert read(Etcd(WANTED), MANY).snapshot().counts == {}
    assert read(Etcd(WANTED), MANY, counted=["/svc", "/other"]).snapshot().counts == {"/svc": 1500, "/other": 0}


SEGMENTS = st.sampled_from(["a", "a-", "a.b", "a0", "b", "é", "\udcff"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(PATHS, st.sampled_from(["", "v", "w" * 300]), max_size=40),
    st.sets(PATHS, max_size=6),
    st.integers(0, 4),
    st.integers(1, 900),
    st.sampled_from([2_000, 20_000, 1 << 24]),
)
def test_every_prefix_gets_its_keys_whatever_lies_beside_it(paths, more, keys, page, largest):
    prefixes = sorted({*MANY[:260], *(f"/svc/0{path}" for path in more), *(f"/svc/{path}" for path in more)})
    stored = {f"{prefix}/{number}": "v" for prefix in MANY[:260] for number in range(keys)}
    stored |= {f"/svc/0{path}": value for path, value in paths.items()}
    stored |= {f"/svc/{path}": value for path, value in paths.items()}
    assert brought(read(Etcd(stored, largest=largest), prefixes, page_keys=page)) == expected(stored, prefixes)
