"""What every store does with a registered key: put, renewed and removed while it is ours, and never anybody else's."""

from __future__ import annotations

import itertools

import pytest

from confpy.config.settings import Settings
from confpy.errors import StoreError, UsageError
from confpy.frozen import replace
from confpy.registration.values import Entry
from confpy.stores.registering import open_registrar
from tests.servers.ports import free_port

_NUMBERS = itertools.count()


class RegistrarContract:
    """A class on it says which store it is, and reads and writes keys as somebody else does."""

    backend = ""
    as_service = False
    values = (b"10.0.0.1:80", b"10.0.0.2:80", b"10.0.0.3:80")
    settings = Settings()

    def endpoint(self) -> str:
        raise NotImplementedError

    def get(self, key: str) -> bytes | None:
        raise NotImplementedError

    def put(self, key: str, value: bytes) -> None:
        raise NotImplementedError

    def lose(self, key: str) -> None:
        """Take the lease away that a key is bound to, as a server does that was away for too long."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _opened(self):
        self.key = f"/web/a-{next(_NUMBERS)}" if self.as_service else f"/services/web/a b-{next(_NUMBERS)}"
        self.opened = []
        yield
        for registrar in self.opened:
            registrar.close()

    def open(self, value=None, ttl=30.0, *, key="", **settings):
        given = replace(self.settings, backend=self.backend, nodes=(self.endpoint(),), **settings)
        entry = Entry(key or self.key, self.values[0] if value is None else value, ttl)
        registrar = open_registrar(given, entry, as_service=self.as_service)
        self.opened.append(registrar)
        return registrar

    def test_a_key_is_put_renewed_and_removed(self):
        registrar = self.open()
        assert registrar.claim(takes_over=True) == "held"
        assert self.get(self.key) == self.values[0]
        assert [registrar.refresh(), registrar.refresh()] == ["held", "held"]
        assert self.get(self.key) == self.values[0]
        assert registrar.release() == "free"
        assert self.get(self.key) is None
        assert registrar.release() == "free"

    def test_the_first_claim_takes_a_key_over_and_who_had_it_leaves_it_alone(self):
        old, new = self.open(), self.open(self.values[1])
        assert old.claim(takes_over=True) == "held"
        assert new.claim(takes_over=True) == "held"
        assert self.get(self.key) == self.values[1]
        assert [old.refresh(), old.claim(takes_over=False), old.release()] == ["taken"] * 3
        assert [new.refresh(), self.get(self.key)] == ["held", self.values[1]]
        assert new.release() == "free"

    def test_a_key_that_is_free_again_is_taken_again(self):
        old, new = self.open(), self.open(self.values[1])
        old.claim(takes_over=True)
        new.claim(takes_over=True)
        assert old.refresh() == "taken"
        new.release()
        assert [old.claim(takes_over=False), old.refresh()] == ["held", "held"]
        assert self.get(self.key) == self.values[0]

    def test_a_claim_whose_answer_was_lost_may_be_made_again(self):
        registrar = self.open()
        assert [registrar.claim(takes_over=True), registrar.claim(takes_over=False)] == ["held", "held"]
        assert registrar.refresh() == "held"

    def test_what_somebody_else_has_put_is_neither_renewed_nor_removed(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        self.put(self.key, self.values[1])
        assert [registrar.refresh(), registrar.claim(takes_over=False), registrar.release()] == ["taken"] * 3
        assert self.get(self.key) == self.values[1]

    def test_the_same_value_from_somebody_else_is_not_ours(self):
        registrar = self.open()
        self.put(self.key, self.values[0])
        assert registrar.claim(takes_over=False) == "taken"
        registrar.release()
        assert self.get(self.key) == self.values[0]

    def test_a_key_whose_lease_was_lost_is_free_and_is_put_with_another(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        self.lose(self.key)
        assert self.get(self.key) is None
        assert [registrar.refresh(), registrar.claim(takes_over=False), registrar.refresh()] == ["free", "held", "held"]
        assert self.get(self.key) == self.values[0]

    def test_a_lost_lease_is_no_reason_to_remove_what_came_after(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        self.lose(self.key)
        self.put(self.key, self.values[1])
        assert registrar.refresh() == "taken"
        registrar.release()
        assert self.get(self.key) == self.values[1]

    def test_without_a_ttl_the_value_tells_what_is_ours(self):
        registrar = self.open(ttl=None)
        assert [registrar.claim(takes_over=True), registrar.refresh()] == ["held", "held"]
        assert self.get(self.key) == self.values[0]
        self.put(self.key, self.values[1])
        assert [registrar.refresh(), registrar.release(), self.get(self.key)] == ["taken", "taken", self.values[1]]
        assert registrar.claim(takes_over=True) == "held"
        assert [registrar.release(), self.get(self.key)] == ["free", None]

    def test_a_key_is_removed_by_its_name_or_if_it_has_a_value(self):
        self.put(self.key, self.values[0])
        assert self.open(self.values[1]).remove(self.values[1]) is False
        assert self.get(self.key) == self.values[0]
        assert self.open().remove(self.values[0]) is True
        assert self.get(self.key) is None
        self.put(self.key, self.values[0])
        assert [self.open(b"").remove(None), self.open(b"").remove(None)] == [True, False]
        assert self.get(self.key) is None

    def test_a_node_that_is_away_is_an_error_that_names_it(self):
        port = free_port()
        given = replace(self.settings, backend=self.backend, nodes=(f"127.0.0.1:{port}",))
        registrar = open_registrar(given, Entry(self.key, self.values[0], 30.0), as_service=self.as_service)
        self.opened.append(registrar)
        with pytest.raises(StoreError) as caught:
            registrar.claim(takes_over=True)
        assert str(port) in str(caught.value)


class KeyContract(RegistrarContract):
    """Of keys, whose values are any text."""

    largest = 0
    """The bytes of a value that the store takes."""

    def test_a_value_over_the_limit_is_refused_before_anything_is_put(self):
        with pytest.raises(UsageError, match=r"the value has [\d,]+ bytes") as caught:
            self.open(b"x" * (self.largest + 1))
        assert f"{self.largest:,} at most" in caught.value.hint
        assert self.get(self.key) is None

    def test_a_value_may_be_empty_or_of_any_text(self):
        for value in (b"", "größe \U0001f40d\n x".encode()):
            registrar = self.open(value)
            assert [registrar.claim(takes_over=True), registrar.refresh()] == ["held", "held"]
            assert self.get(self.key) == value
            assert registrar.release() == "free"
