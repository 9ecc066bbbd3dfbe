"""The registrar of the store ``etcd``: that of the API which an earlier run has chosen, else of v3 if etcd has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from confpy.config.stores.etcd import ETCD
from confpy.errors import NoApi
from confpy.frozen import replace
from confpy.ledger.folder import StateFolder
from confpy.registration.values import Entry, Registrar, Standing
from confpy.stores.etcd.auto import RECORD
from confpy.stores.etcd.v2_registrar import Etcd2Registrar
from confpy.stores.etcd.v3_registrar import Etcd3Registrar

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")


class EtcdRegistrar:
    """One entry in an etcd, behind ``confpy.registration.values.Registrar``."""

    capabilities = Etcd3Registrar.capabilities

    def __init__(self, candidates: list[Registrar]) -> None:
        """Of ``candidates``, the first whose API etcd has is the registrar."""
        self._candidates = candidates

    @property
    def node(self) -> str:
        return self._candidates[0].node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> EtcdRegistrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        settings = (
            settings
            if settings.nodes or settings.srv_domain or settings.srv_record
            else replace(settings, nodes=ETCD.nodes)
        )
        stored = (StateFolder.of(settings, lambda _: None).read(RECORD) or {}).get("store")
        third = Etcd3Registrar.open(settings, entry)
        if stored == "etcdv3" or not _is_text(entry.value):
            return cls([third])
        second = Etcd2Registrar.open(settings, entry)
        return cls([second] if stored == "etcdv2" else [third, second])

    def claim(self, *, takes_over: bool) -> Standing:
        return self._call(lambda one: one.claim(takes_over=takes_over))

    def refresh(self) -> Standing:
        return self._call(lambda one: one.refresh())

    def release(self) -> Standing:
        return self._call(lambda one: one.release())

    def remove(self, expected: bytes | None) -> bool:
        return self._call(lambda one: one.remove(expected))

    def close(self) -> None:
        for one in self._candidates:
            one.close()

    def _call(self, call: Callable[[Registrar], Result]) -> Result:
        try:
            result = call(self._candidates[0])
        except NoApi:
            if len(self._candidates) == 1:
                raise
            result = call(self._candidates[1])
            del self._candidates[0]
            return result
        del self._candidates[1:]
        return result


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
